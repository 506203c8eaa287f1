"""One history: the real engine in virtual time, faults where they are wanted, the same every time."""

import asyncio
import gc
import time

import pytest

from durably import Durably, StepContext, ValidationError, job
from durably_testing import (
    EffectLedger,
    Fault,
    PromiseBroken,
    SimulationError,
    crash_at_every_step,
    simulate,
)
from tests.testing.sample_jobs import (
    Order,
    bank,
    hides_its_errors,
    names_by_chance,
    never_ends,
    order,
    pays_between_steps,
    waits,
)


def test_a_calm_history_ends_and_costs_no_time() -> None:
    begun = time.monotonic()
    run = simulate(order, Order(amount=3))

    assert (run.status, run.output.paid, run.crashes, run.violations) == ("completed", 3, 0, ())
    assert run.effects == {"charge": 1, "ship": 1, "thank": 1}
    assert [step.name for step in run.steps] == ["charge", "ship", "return-period", "thank"]
    assert time.monotonic() - begun < 10, "two weeks of sleeping take no time"


def test_the_same_arguments_give_the_same_history_line_by_line() -> None:
    plan = [Fault(6, "kill", "after"), Fault(12, "pause", "before", 40), Fault(80, "kill", "turn")]
    first, second = (simulate(order, Order(amount=3), faults=plan, seed=7) for _ in range(2))
    other = simulate(order, Order(amount=3), faults=plan, seed=8)

    assert first.trace == second.trace
    assert first.token == second.token
    assert other.trace != first.trace


def test_a_killed_worker_is_replaced_and_the_run_resumes_from_its_last_checkpoint() -> None:
    calm = simulate(order, Order(amount=3))
    at = next(word.number for word in calm.words if "'ship'" in word.about)

    before = simulate(order, Order(amount=3), faults=[Fault(at, "kill", "before")])
    after = simulate(order, Order(amount=3), faults=[Fault(at, "kill", "after")])

    assert before.status == after.status == "completed"
    assert (before.effects["ship"], after.effects["ship"]) == (2, 1)
    assert before.effects["charge"] == after.effects["charge"] == 1
    assert before.struck == (f"{calm.words[at].process} killed before the checkpoint of step 'ship'",)


def test_whoever_dies_right_after_a_long_sleep_is_replaced_in_time() -> None:
    report = crash_at_every_step(order, Order(amount=3), kinds=("kill",), turns=True)

    report.verify()
    assert report.cases > 100


def test_a_zombie_that_wakes_after_its_lease_does_no_harm() -> None:
    calm = simulate(order, Order(amount=3))
    for word in calm.words:
        for moment in ("before", "after"):
            run = simulate(order, Order(amount=3), faults=[Fault(word.number, "pause", moment, 60)])
            run.verify()
            assert run.status == "completed"
            assert max(run.effects.values()) <= 2


def test_a_run_that_never_ends_is_stuck_and_says_why() -> None:
    run = simulate(never_ends, Order(amount=1))

    with pytest.raises(PromiseBroken, match=r"never ended: .*never"):
        run.verify()


def test_the_outside_may_send_a_signal_meanwhile() -> None:
    async def approve(durably: Durably, run_id: str) -> None:
        await asyncio.sleep(60)
        await durably.signal("approved", True, run_id=run_id)

    approved = simulate(waits, Order(amount=2), meanwhile=approve)
    ignored = simulate(waits, Order(amount=2))

    assert (approved.status, approved.effects["charge"]) == ("completed", 1)
    assert ignored.status == "failed"
    with pytest.raises(AssertionError, match="the run is failed"):
        print(ignored.output)


def test_code_between_steps_that_takes_another_way_is_found() -> None:
    report = crash_at_every_step(names_by_chance, Order(amount=1))

    with pytest.raises(ExceptionGroup, match="not survived") as found:
        report.verify()
    assert "never came to it" in str(found.value.exceptions[0])


def test_an_effect_between_steps_is_counted() -> None:
    calm = simulate(pays_between_steps, Order(amount=1), effects=bank)
    report = crash_at_every_step(
        pays_between_steps,
        Order(amount=1),
        check=lambda run: _at_most_once(run.effects["pay"]),
        effects=bank,
    )

    assert calm.effects["pay"] == 1
    assert report.failures
    assert any("killed" in str(failure) for failure in report.failures)


def _at_most_once(count: int) -> None:
    assert count <= 1


def test_a_job_that_reaches_for_the_network_is_told_so_whatever_it_catches() -> None:
    run = simulate(hides_its_errors, Order(amount=1))

    assert run.status == "completed"
    with pytest.raises(PromiseBroken, match="KillLoop"):
        run.verify()


async def test_a_simulation_may_be_called_while_a_loop_is_running() -> None:
    assert simulate(order, Order(amount=3)).status == "completed"


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError):
        simulate(order, Order.model_construct(amount=0))


def test_everybody_waiting_for_nobody_is_an_error_and_no_hang() -> None:
    async def wait_for_ever(durably: Durably, run_id: str) -> None:
        del durably, run_id
        await asyncio.get_running_loop().create_future()

    run = simulate(order, Order(amount=1), meanwhile=wait_for_ever)
    with pytest.raises(PromiseBroken, match="has not come to its end"):
        run.verify()


def test_an_error_of_what_happens_meanwhile_is_the_tests() -> None:
    async def fail(durably: Durably, run_id: str) -> None:
        raise LookupError(run_id)

    with pytest.raises(LookupError):
        simulate(order, Order(amount=1), meanwhile=fail)


def test_a_history_that_goes_round_in_circles_is_ended() -> None:
    async def spin(durably: Durably, run_id: str) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationError, match="round in circles"):
        simulate(order, Order(amount=1), meanwhile=spin)


def test_a_ledger_knows_names_keys_and_order() -> None:
    ledger = EffectLedger()
    ledger("pay", key="a")
    ledger("pay", key="b")
    ledger("mail")

    assert (ledger.count("pay"), ledger.count("pay", key="a"), ledger.count("none")) == (2, 1, 0)
    assert ledger.order() == ("pay", "pay", "mail")
    assert ledger.counts() == {"pay": 2, "mail": 1}


async def thank(number: int) -> int:
    return number


@job
async def thanks(step: StepContext, number: int) -> int:
    return await step.run("thank", lambda: thank(number), result=int)


def test_a_coroutine_whose_worker_dies_before_awaiting_it_is_closed() -> None:
    # Otherwise Python warns of it, which fails here.
    report = crash_at_every_step(thanks, 3, kinds=["kill"], turns=True)
    gc.collect()
    assert report.calm.output == 3
    assert [str(failure) for failure in report.failures] == []


class Till:
    def __init__(self, drawer: list[int]) -> None:
        self.drawer = drawer


def test_doubles_are_handed_to_jobs_by_type_and_begin_anew_in_each_history() -> None:
    drawer: list[int] = []
    opened: list[Till] = []

    def till() -> Till:
        opened.append(Till(drawer))
        return opened[-1]

    @job
    async def sells(step: StepContext, input: int, till: Till) -> int:
        await step.run("sell", till.drawer.append, input)
        await step.run("thank", int)
        return len(till.drawer)

    calm = simulate(sells, 3, resources=[till], prepare=drawer.clear)
    again = simulate(sells, 4, resources=[till], prepare=drawer.clear)

    assert (calm.output, again.output, drawer) == (1, 1, [4])
    assert len(opened) == 4, "one for each worker"
    report = crash_at_every_step(
        sells, 5, resources=[till], prepare=drawer.clear, deterministic=False, kinds=["kill"]
    )
    assert [str(failure) for failure in report.failures] == []
