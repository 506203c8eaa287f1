"""The state machine: whatever may happen to runs, in any order."""

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from pydantic import BaseModel, Field

from durably import Retry, Run, StepContext, StepFailed, job
from durably.spi import Enqueued, NewRun, SqliteStore, Transition
from durably.stores.sqlite.transitions import UNHAPPY, send_back
from durably_testing import DurableMachine, EffectLedger, PromiseBroken
from durably_testing.profile import Profile, use_profile
from tests.testing.sample_jobs import Order, never_ends, order, pays_between_steps, waits
from tests.testing.sample_jobs import bank as payments
from tests.volume import limit, sample

# ------------------------------------------------------------ machines that hold


class Plan(BaseModel):
    number: int = Field(default=1, ge=0, le=3)


bank = EffectLedger()


def double(number: int) -> int:
    return 2 * number


async def slowly(number: int) -> int:
    await asyncio.sleep(8)
    return number


@job
async def row(step: StepContext, input: Plan) -> int:
    first = await step.run("first", double, input.number)
    second = await step.run("slow", slowly, first)
    step.log.info("half of it is done")
    return await step.run("third", double, second)


@job
async def asks(step: StepContext, input: Plan) -> str:
    approved = await step.wait_for_signal("approved", bool)
    await step.run("yes" if approved else "no", double, 1)
    try:
        await step.wait_for_signal("more", bool, timeout=50)
    except StepFailed:
        return "late"
    return "in time"


@job
async def family(step: StepContext, input: Plan) -> int:
    first = await step.invoke("first", row, Plan(number=1))
    left, _ = await asyncio.gather(
        step.invoke("left", row, Plan(number=2)), step.invoke("right", asks, Plan())
    )
    await step.spawn("aside", row, Plan(number=0))
    return await step.run("end", double, first + left)


@job(retry=Retry(attempts=3, delay=10))
async def stubborn(step: StepContext, input: Plan) -> int:
    def fail_often() -> int:
        bank("tried")
        if bank.count("tried") % 3:
            raise ConnectionError("not yet")
        return 1

    await step.run("kept", double, 1)
    await step.run("flaky", fail_often, retry=Retry(attempts=2, delay=3))
    return await step.invoke("child", row, Plan(number=0))


@job
async def chain(step: StepContext, input: Plan) -> int:
    await step.run("work", double, 1)
    await step.sleep("nap", 100)
    if input.number:
        await step.continue_as_new(Plan(number=input.number - 1))
    return 1


class Everything(DurableMachine):
    """All that a job can do, under all that can happen to it."""

    jobs = [row, asks, family, stubborn, chain]
    signals = {"approved": st.booleans(), "more": st.booleans()}
    effects = bank


class Orders(DurableMachine):
    """As in the documentation."""

    jobs = [order]
    inputs = {order: st.builds(Order, amount=st.integers(1, 3))}
    ended = 0

    @rule(run=DurableMachine.runs)
    def look(self, run: str) -> None:
        found = self.do(self.durably.get_run(run))
        assert found is None or found.job_name == "order"

    @invariant()
    def nothing_is_shipped_before_it_is_paid(self) -> None:
        assert self.effects.count("charge") or not self.effects.count("ship")

    def check(self, run: Run[Any, Any]) -> None:
        type(self).ended += 1
        if run.status == "completed":
            assert run.output is not None
            assert run.output.paid == run.input.amount


TestEverything = limit(300)(Everything.TestCase)
TestOrders = limit(300)(Orders.TestCase)


def test_a_night_has_no_more_examples_than_memory_bears() -> None:
    before = use_profile(Profile(name="nightly", examples=20_000))
    try:

        class Nightly(DurableMachine):
            jobs = [order]

    finally:
        use_profile(before)
    assert Nightly.TestCase.settings.max_examples == 2_000


def test_each_run_is_checked_at_the_end() -> None:
    assert verdict(Orders, examples=5) is None
    assert Orders.ended > 5


# ------------------------------------------------------------ what they find


def verdict(machine: type[DurableMachine], *, examples: int = 200) -> BaseException | None:
    """What a machine finds; the same every time, and not shrunk."""
    case = machine.TestCase("runTest")
    case.settings = settings(
        machine.TestCase.settings,
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
    )
    try:
        case.runTest()
    except AssertionError as error:
        return error
    except ExceptionGroup as group:
        return group.exceptions[0]
    return None


Sabotage = Callable[[pytest.MonkeyPatch], object]


def _cancels_nothing(patch: pytest.MonkeyPatch) -> None:
    async def cancel(store: SqliteStore, run_id: str, /, *, token: str) -> Transition:
        run = await store.get_run(run_id)
        return Transition(applied=run is not None and not run.is_terminal, run=run)

    patch.setattr(SqliteStore, "cancel", cancel)


def _purges_what_is_young(patch: pytest.MonkeyPatch) -> None:
    purge = SqliteStore.purge

    async def purge_more(store: SqliteStore, *, older_than: float, limit: int) -> int:
        return await purge(store, older_than=older_than / 100, limit=limit)

    patch.setattr(SqliteStore, "purge", purge_more)


def _deletes_a_neighbour(patch: pytest.MonkeyPatch) -> None:
    delete = SqliteStore.delete

    async def delete_family(store: SqliteStore, run_id: str, /, *, token: str) -> Transition:
        answer = await delete(store, run_id, token=token)
        await store.purge(older_than=0.001, limit=1)
        return answer

    patch.setattr(SqliteStore, "delete", delete_family)


def _forgets_idempotency_keys(patch: pytest.MonkeyPatch) -> None:
    enqueue = SqliteStore.enqueue

    async def enqueue_again(store: SqliteStore, runs: Sequence[NewRun], /) -> Enqueued:
        answer = await enqueue(store, [replace(run, idempotency_key=None) for run in runs])
        told = [
            replace(run, idempotency_key=new.idempotency_key)
            for run, new in zip(answer.runs, runs, strict=False)
        ]
        return replace(answer, runs=told)

    patch.setattr(SqliteStore, "enqueue", enqueue_again)


def _revives_cancelled_children(patch: pytest.MonkeyPatch) -> None:
    def send_all_back(*args: Any, revived: object) -> None:
        send_back(*args, revived=UNHAPPY)

    patch.setattr("durably.stores.sqlite.attempts.send_back", send_all_back)


@job(retry=Retry(attempts=3, delay=10))
async def insistent(step: StepContext, input: Plan) -> int:
    return await step.invoke("child", row, input)


class Insistent(DurableMachine):
    """People cancel the children of a job that begins again by itself."""

    jobs = [insistent, row]
    options = st.just({})


for _name in ("delete", "purge", "skew", "crash_soon", "pause", "stop_worker", "start_worker", "retrigger"):
    # A rule is left out by putting None in its place.
    setattr(Insistent, _name, None)


@pytest.mark.parametrize(
    ("machine", "sabotage", "found"),
    sample(
        [
            (Everything, _cancels_nothing, "was cancelled for good and is"),
            (Everything, _purges_what_is_young, "was acknowledged and is not there"),
            (Everything, _deletes_a_neighbour, "was acknowledged and is not there"),
            (Everything, _forgets_idempotency_keys, "idempotency key 'i-.' of .* answered with run"),
            (Insistent, _revives_cancelled_children, "was cancelled for good and is"),
        ],
        quick=3,
    ),
)
def test_a_broken_engine_is_found(
    monkeypatch: pytest.MonkeyPatch, machine: type[DurableMachine], sabotage: Sabotage, found: str
) -> None:
    sabotage(monkeypatch)
    error = verdict(machine)
    assert isinstance(error, PromiseBroken)
    with pytest.raises(PromiseBroken, match=found):
        raise error


# ------------------------------------------------------------ the users' own bugs


@job(name="order")
async def order_renamed(step: StepContext, input: Order) -> int:
    await step.run("charge-card", double, input.amount)
    await step.sleep("return-period", 14 * 86_400)
    return input.amount


def test_a_version_that_renames_a_step_is_found() -> None:
    class Deployed(DurableMachine):
        jobs = [order]
        versions = [[order_renamed]]

    error = verdict(Deployed)
    assert isinstance(error, PromiseBroken)
    assert "never came to it" in str(error)


def test_an_effect_between_steps_is_found_by_an_invariant_of_ones_own() -> None:
    class Paying(DurableMachine):
        jobs = [pays_between_steps]
        effects = payments
        options = st.just({})

        def check(self, run: Run[Any, Any]) -> None:
            runs = len(self.do(self.durably.get_runs()))
            assert self.effects.count("pay") <= runs, "paid twice"

    error = verdict(Paying)
    assert error is not None
    assert "paid twice" in str(error)


def test_a_run_that_nobody_answers_never_ends_and_one_that_is_answered_does() -> None:
    class Silent(DurableMachine):
        jobs = [never_ends]

    class Answering(DurableMachine):
        jobs = [never_ends, waits]
        signals = {"never": st.booleans(), "approved": st.booleans()}

    error = verdict(Silent, examples=5)
    assert isinstance(error, PromiseBroken)
    assert "never ended" in str(error)
    assert verdict(Answering, examples=10) is None


def test_an_error_of_a_rule_is_told_and_the_world_is_left_tidy() -> None:
    class Broken(DurableMachine):
        jobs = [order]

        @rule(run=DurableMachine.runs)
        def fail(self, run: str) -> None:
            raise AssertionError(f"no good: {run}")

    assert "no good" in str(verdict(Broken, examples=20))
    assert gc.isenabled()
