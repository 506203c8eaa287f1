"""Resources of jobs in simulations: doubles, by the same word everywhere."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from durably import ConfigurationError, ResourceError, Run, StepContext, job
from durably_testing import (
    DurableMachine,
    Fault,
    SimulatedRun,
    assert_replays,
    crash_at_every_step,
    record_history,
    simulate,
    survives_crashes,
)


class Bank:
    """What there is of it lives in one worker; the payments are what the world outside remembers."""

    def __init__(self, payments: dict[str, int]) -> None:
        self.payments = payments

    def charge(self, cents: int, key: str) -> int:
        return self.payments.setdefault(key, cents)


@job
async def pay(step: StepContext, cents: int, bank: Bank) -> int:
    return await step.run("charge", bank.charge, cents, step.idempotency_key)


PAYMENTS: dict[str, int] = {}


def bank() -> Bank:
    return Bank(PAYMENTS)


class Diary:
    """A factory that tells what becomes of what it makes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def bank(self) -> Callable[[], AsyncIterator[Bank]]:
        async def bank() -> AsyncIterator[Bank]:
            self.lines.append("opened")
            yield Bank({})
            self.lines.append("closed")

        return bank


def test_each_life_of_a_worker_opens_its_own_and_a_killed_one_closes_nothing() -> None:
    diary = Diary()
    calm = simulate(pay, 3, resources=[diary.bank], workers=1)
    assert (calm.output, diary.lines) == (3, ["opened"])

    diary.lines.clear()
    save = next(word.number for word in calm.words if word.verb == "save_step")
    killed = simulate(pay, 3, resources=[diary.bank], workers=1, faults=[Fault(save, "kill", "after")])
    assert (killed.output, killed.crashes) == (3, 1)
    assert diary.lines == ["opened", "opened"]


@survives_crashes(pay, inputs=st.integers(1, 9), examples=5, resources=[bank], prepare=PAYMENTS.clear)
def test_a_job_survives_with_a_double(cents: int, run: SimulatedRun[int, int]) -> None:
    assert run.output == cents
    assert list(PAYMENTS.values()) == [cents]


NEEDS = "job 'pay' needs a Bank for its parameter 'bank'"


def broken() -> Bank:
    raise OSError("no line")


@pytest.mark.parametrize("tell", [simulate, crash_at_every_step])
def test_what_nobody_gives_is_named(tell: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match=NEEDS):
        tell(pay, 3)
    with pytest.raises(ResourceError, match=r"broken.*no line"):
        tell(pay, 3, resources=[broken])


# ------------------------------------------------------------ state machines


class Payers(DurableMachine):
    jobs = [pay]
    inputs = {pay: st.integers(1, 9)}
    resources = [bank]
    ended = 0

    def prepare(self) -> None:
        PAYMENTS.clear()
        PAYMENTS["from before"] = 0

    @rule()
    def look(self) -> None:
        assert PAYMENTS["from before"] == 0

    def check(self, run: Run[Any, Any]) -> None:
        type(self).ended += 1
        if run.status == "completed":
            assert run.output == run.input


FEW = settings(
    max_examples=3,
    stateful_step_count=10,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
)


def test_a_state_machine_takes_them_too() -> None:
    run_state_machine_as_test(Payers, settings=FEW)
    assert Payers.ended
    assert len(PAYMENTS) > 1


def test_a_state_machine_says_what_is_missing() -> None:
    class Lacking(DurableMachine):
        jobs = [pay]
        inputs = {pay: st.integers(1, 9)}

    with pytest.raises(ConfigurationError, match=NEEDS):
        run_state_machine_as_test(Lacking, settings=FEW)


# ----------------------------------------------------------------- histories


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Path]:
    PAYMENTS.clear()
    path = tmp_path / "pay.json"
    record_history(simulate(pay, 3, resources=[bank]), path)
    yield path
    PAYMENTS.clear()


def test_a_new_step_of_a_resumed_run_gets_the_double(history: Path) -> None:
    @job(name="pay")
    async def pays_and_looks(step: StepContext, cents: int, bank: Bank) -> int:
        paid = await step.run("charge", bank.charge, cents, step.idempotency_key)
        # Nothing that is recorded is executed, and each resume begins anew.
        return paid + await step.run("look", len, bank.payments)

    PAYMENTS["from before"] = 0
    assert_replays(pays_and_looks, history, resources=[bank], prepare=PAYMENTS.clear)
    assert PAYMENTS == {}
    with pytest.raises(ConfigurationError, match=NEEDS):
        assert_replays(pays_and_looks, history)
