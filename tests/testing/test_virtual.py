"""Instances in virtual time: the fixtures, and what a test can do with them."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from durably import (
    ConfigurationError,
    Retry,
    RunCancelledError,
    SleepingUntil,
    StepContext,
    StoreFullError,
    StoreUnavailableError,
    ValidationError,
    job,
)
from durably_testing import (
    EffectLedger,
    NothingTestedError,
    PromiseBroken,
    SimulationError,
    VirtualClock,
    VirtualDurably,
)


class Order(BaseModel):
    amount: int


async def charge(amount: int) -> int:
    return amount


def ship(amount: int) -> str:
    return f"parcel of {amount}"


@job
async def order(step: StepContext, input: Order) -> str:
    paid = await step.run("charge", charge, input.amount)
    await step.sleep("return-period", timedelta(days=14))
    return await step.run("ship", ship, paid)


@job
async def waits_in_parallel(step: StepContext, input: int) -> list[str]:
    await asyncio.gather(
        step.sleep("an-hour", 3600), step.sleep("a-blink", 0.5), step.run("charge", charge, input)
    )
    return [str(await step.now("now"))]


# Time


async def test_a_drain_executes_a_run_to_its_end_and_lets_two_weeks_pass(
    durably: VirtualDurably, durably_clock: VirtualClock, durably_effects: EffectLedger
) -> None:
    begun = durably_clock.now()
    run = await durably.register(order).trigger(Order(amount=3))
    assert await durably.drain() == 2

    done = await durably.get_run(run.id)
    assert done is not None
    assert (done.status, done.output) == ("completed", "parcel of 3")
    assert done.created_at == begun
    assert done.completed_at is not None
    assert timedelta(0) <= done.completed_at - (begun + timedelta(days=14)) <= timedelta(microseconds=1)
    assert durably_effects.counts() == {"charge": 1, "ship": 1}


async def test_nothing_is_executed_before_a_drain_not_even_by_an_application_that_starts(
    durably: VirtualDurably,
) -> None:
    run = await durably.register(order).trigger(Order(amount=3))
    await durably.init()
    for _ in range(50):
        await asyncio.sleep(0)

    found = await durably.get_run(run.id)
    assert found is not None
    assert found.status == "pending"


async def test_a_drain_within_a_time_lets_exactly_that_pass_and_leaves_the_rest(
    durably: VirtualDurably, durably_clock: VirtualClock
) -> None:
    begun = durably_clock.now()
    run = await durably.register(order).trigger(Order(amount=3))

    assert await durably.drain(within=0) == 1
    assert durably_clock.now() == begun
    assert isinstance(await durably.explain(run.id), SleepingUntil)
    assert await durably.drain(within="13d") == 0
    assert durably_clock.now() == begun + timedelta(days=13)
    assert await durably.drain(within=timedelta(days=1, seconds=1)) == 1
    assert durably_clock.now() == begun + timedelta(days=14, seconds=1)


async def test_the_clock_may_be_moved_by_hand_between_drains(
    durably: VirtualDurably, durably_clock: VirtualClock
) -> None:
    run = await durably.register(order).trigger(Order(amount=3), delay=3600)

    durably_clock.advance("59m")
    assert await durably.drain(within=0) == 0
    durably_clock.advance("1m")
    assert await durably.drain(within=0) == 1
    durably_clock.advance("2w")
    assert await durably.drain(within=0) == 1
    assert (await durably.wait_for_run(run.id)).status == "completed"


async def test_short_sleeps_and_waits_between_attempts_cost_no_time(durably: VirtualDurably) -> None:
    attempts = 0

    def charge_badly() -> int:
        nonlocal attempts
        attempts += 1
        if attempts < 6:
            raise OSError("no answer")
        return attempts

    async def body(step: StepContext, input: int) -> int:
        await step.sleep("a-blink", 0.9)
        return await step.run("charge", charge_badly, retry=Retry(10, delay=0.7, factor=1, jitter=False))

    handle = durably.job(body)
    begun, virtual = asyncio.get_running_loop().time(), durably.clock.now()
    run = await handle.trigger(0)
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).output == 6
    assert durably.clock.now() - virtual == timedelta(seconds=0.9 + 5 * 0.7)
    assert asyncio.get_running_loop().time() - begun < 3


async def test_waits_in_parallel_end_in_the_order_of_time(durably: VirtualDurably) -> None:
    begun = durably.clock.now()
    run = await durably.register(waits_in_parallel).trigger(3)
    await durably.drain()

    (ended,) = (await durably.wait_for_run(run.id)).output_as(list[str])
    assert datetime.fromisoformat(ended) - begun == pytest.approx(
        timedelta(hours=1), abs=timedelta(seconds=3)
    )
    steps = {step.name: step for step in await durably.get_steps(run.id)}
    assert steps["a-blink"].completed_at is not None
    assert steps["a-blink"].completed_at - begun < timedelta(seconds=5)


async def test_a_body_may_take_virtual_time_and_keeps_its_run(durably: VirtualDurably) -> None:
    def compute() -> str:
        durably.clock.advance("3h")
        return threading.current_thread().name

    async def body(step: StepContext, input: int) -> str:
        return await step.run("compute", compute)

    handle = durably.job(body)
    run = await handle.trigger(0)
    await durably.drain()

    done = await durably.wait_for_run(run.id)
    assert "durably-step" in str(done.output), "plain functions are executed in real threads"
    (step,) = await durably.get_steps(run.id)
    assert step.completed_at is not None
    assert step.completed_at - step.started_at == timedelta(hours=3)


async def test_time_stands_still_while_a_body_waits_for_the_real_world(durably: VirtualDurably) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def ask() -> str:
        asked.set()
        await answer.wait()
        return "yes"

    async def body(step: StepContext, input: int) -> str:
        return await step.run("ask", ask)

    handle = durably.job(body)
    begun = durably.clock.now()
    await handle.trigger(0)
    draining = asyncio.create_task(durably.drain())
    await asked.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    assert durably.clock.now() == begun
    answer.set()

    assert await draining == 1


async def test_runs_that_wait_for_each_other_are_executed_beside_each_other(durably: VirtualDurably) -> None:
    met = asyncio.Barrier(3)

    async def meet() -> int:
        return await met.wait()

    async def body(step: StepContext, input: int) -> int:
        return await step.run("meet", meet)

    handle = durably.job(body)
    await handle.batch_trigger([1, 2, 3])

    assert await durably.drain() == 3


async def test_code_between_steps_may_wait_for_the_real_world_while_little_time_passes(
    durably: VirtualDurably,
) -> None:
    async def body(step: StepContext, input: int) -> int:
        await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.05)
        return input

    handle = durably.job(timeout=30)(body)
    begun = durably.clock.now()
    run = await handle.trigger(7)
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).output == 7
    assert durably.clock.now() - begun < timedelta(seconds=10)


async def test_a_body_that_takes_long_lets_the_clock_go_on_as_fast_as_the_real_one(
    durably: VirtualDurably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durably_testing.virtual.REAL_SECOND", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def body(step: StepContext, input: int) -> None:
        await step.run("hang", hang)

    handle = durably.job(timeout=0.05)(body)
    run = await handle.trigger(0)
    await durably.drain()

    failed = await durably.get_run(run.id)
    assert failed is not None
    assert failed.error is not None
    assert failed.error.type.endswith("RunTimeoutError")


async def test_a_job_without_an_end_needs_a_bound(
    durably: VirtualDurably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durably_testing.virtual.MOST_EXECUTIONS", 20)

    async def body(step: StepContext, input: int) -> int:
        await step.sleep("a-day", 86_400)
        await step.continue_as_new(input + 1)

    handle = durably.job(body)
    await handle.trigger(0)

    with pytest.raises(SimulationError, match=r"drain\(within='1d'\)"):
        await durably.drain()
    assert await durably.drain(within="3d") >= 3


async def test_a_run_of_an_unknown_job_is_left_alone(durably_file: VirtualDurably) -> None:
    other = await durably_file.another()
    run = await other.register(order).trigger(Order(amount=1), delay=60)

    assert await durably_file.drain() == 0
    assert await other.drain() == 2
    assert (await durably_file.wait_for_run(run.id)).status == "completed"


# Files


async def test_instances_on_one_file_hear_of_each_other_at_once(durably_file: VirtualDurably) -> None:
    other = await durably_file.another(jobs=[order])
    run = await durably_file.register(order).trigger(Order(amount=2))
    waiting = asyncio.create_task(durably_file.wait_for_run(run.id))
    await other.drain()

    async with asyncio.timeout(5):
        assert (await waiting).output == "parcel of 2"
    assert durably_file.environment is not other.environment


async def test_what_one_instance_writes_the_others_hear_of_while_time_stands_still(
    durably_file: VirtualDurably,
) -> None:
    other = await durably_file.another()
    run = await durably_file.register(order).trigger(Order(amount=2), delay=60)
    waiting = asyncio.create_task(durably_file.wait_for_run(run.id))
    for _ in range(50):
        await asyncio.sleep(0)
    await other.cancel(run.id)

    async with asyncio.timeout(5):
        with pytest.raises(RunCancelledError):
            await waiting


async def test_a_database_in_memory_has_one_instance(durably: VirtualDurably) -> None:
    with pytest.raises(ConfigurationError, match="durably_file"):
        await durably.another()


@pytest.mark.durably(max_concurrent_runs=3, jobs=[order])
class TestOptions:
    async def test_a_marker_gives_the_instance_its_options(self, durably: VirtualDurably) -> None:
        assert list(durably.jobs) == ["order"]

    @pytest.mark.durably(jobs=[])
    async def test_the_nearest_marker_counts(self, durably: VirtualDurably) -> None:
        assert list(durably.jobs) == []


async def test_an_instance_may_have_a_worker_in_the_background() -> None:
    async with VirtualDurably(worker=True, jobs=[order]) as durably:
        run = await durably.register(order).trigger(Order(amount=1))
        while (found := await durably.get_run(run.id)) and found.status != "waiting":
            await asyncio.sleep(0)
        # Until the worker has nothing to do.
        for _ in range(200):
            await asyncio.sleep(0)
        durably.clock.advance("14d")
        # Not by any timer of the real clock: the worker looks because time has passed.
        for _ in range(1000):
            await asyncio.sleep(0)
        ended = await durably.get_run(run.id)
        assert ended is not None
        assert ended.completed_step_count > 1


# The clock


def test_a_clock_stands_still_advances_and_jumps() -> None:
    clock = VirtualClock(datetime(2026, 12, 24, 18, tzinfo=UTC))
    clock.advance("1h30m")
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    assert clock.now() == datetime(2026, 12, 24, 19, 31, 1, 500_000, tzinfo=UTC)
    assert clock.monotonic() == 5461.5

    clock.jump(-5)
    clock.jump("-1 h")
    assert clock.now() == datetime(2026, 12, 24, 18, 30, 56, 500_000, tzinfo=UTC)
    assert clock.monotonic() == 5461.5, "nothing has passed"
    assert repr(clock) == "<VirtualClock 2026-12-24T18:30:56.500000+00:00>"
    assert VirtualClock().now() - datetime.now(UTC) < timedelta(seconds=2)


@pytest.mark.parametrize("wrong", ["", "1", "1 fortnight", "h", "1h x", "--1h"])
def test_words_that_are_no_duration_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="no duration"):
        VirtualClock().advance(wrong)


def test_time_never_runs_backwards_and_a_start_knows_its_zone() -> None:
    with pytest.raises(ValidationError, match="jump sets the wall clock"):
        VirtualClock().advance(-1)
    with pytest.raises(ValidationError, match="timezone"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


async def test_sleepers_wake_in_order_each_at_its_time() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    wanted = {"b": 2, "a": 1, "d": 3, "c": 30, "0": 0}
    tasks = {name: asyncio.create_task(sleep(name, seconds)) for name, seconds in wanted.items()}
    for _ in range(5):
        await asyncio.sleep(0)
    tasks["a"].cancel()
    assert clock.next_timer() == 2
    # From any thread.
    await asyncio.to_thread(clock.advance, 5)
    await asyncio.wait({tasks["b"], tasks["d"]})

    assert [name for name, _ in woken] == ["0", "b", "d"]
    assert clock.next_timer() == 25
    tasks["c"].cancel()


async def test_clocks_of_instances_may_differ(
    durably_file: VirtualDurably, durably_clock: VirtualClock
) -> None:
    other = await durably_file.another(jobs=[order])
    durably_clock.skew(other, "1h")
    ahead = await other.register(order).trigger(Order(amount=1))
    present = await durably_file.register(order).trigger(Order(amount=1))

    assert ahead.created_at - durably_clock.now() == timedelta(hours=1)
    # The store's own clock never goes back.
    assert present.created_at >= durably_clock.now()


async def test_a_wall_clock_that_is_set_back_strands_nothing(
    durably: VirtualDurably, durably_clock: VirtualClock
) -> None:
    run = await durably.register(order).trigger(Order(amount=1))
    await durably.drain(within=0)
    durably_clock.jump("-2h")
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).status == "completed"


# Faults, and what must not be


async def test_a_commit_whose_answer_was_lost_is_not_repeated_for_the_job(durably: VirtualDurably) -> None:
    durably.faults.fail("save_step", how="after")
    run = await durably.register(order).trigger(Order(amount=1))
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).status == "completed"
    assert durably.faults.struck == ("save_step failed after at its call 1",)
    assert durably.faults.calls("save_step") == 3
    assert durably.effects.counts() == {"charge": 1, "ship": 1}


@pytest.mark.parametrize("how", ["before", "busy", "io", "full"])
async def test_a_worker_that_cannot_ask_for_work_is_started_again(durably: VirtualDurably, how: str) -> None:
    durably.faults.fail("claim", how=how, times=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run = await durably.register(order).trigger(Order(amount=1))
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).status == "completed"
    assert len(durably.faults.struck) == 3


async def test_a_claim_whose_answer_was_lost_is_handed_back(durably: VirtualDurably) -> None:
    begun = durably.clock.now()
    durably.faults.fail("claim", how="after")
    run = await durably.register(order).trigger(Order(amount=1))
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).status == "completed"
    assert durably.clock.now() - begun < timedelta(days=15), "nobody had to wait for a lease to run out"
    assert durably.effects.counts() == {"charge": 1, "ship": 1}


async def test_a_store_that_fails_after_the_fact_has_done_it_all_the_same(durably: VirtualDurably) -> None:
    handle = durably.register(order)
    await handle.trigger(Order(amount=1))
    durably.faults.fail("enqueue", how="after", times=None)
    with pytest.raises(StoreUnavailableError):
        await handle.trigger(Order(amount=2))

    assert [run.input.amount for run in await handle.get_runs()] == [2, 1]
    assert durably.faults.struck[0] == "enqueue failed after at its call 2"


async def test_calls_are_counted_from_the_plan_on(durably: VirtualDurably) -> None:
    assert await durably.get_run("none") is None
    durably.faults.fail("get_run", nth=2)
    assert await durably.get_run("none") is None
    with pytest.raises(StoreUnavailableError):
        await durably.get_run("none")
    assert await durably.get_run("none") is None
    assert durably.faults.struck == ("get_run failed before at its call 3",)


async def test_a_store_that_never_works_again_ends_the_drain(durably: VirtualDurably) -> None:
    durably.faults.fail("claim", times=None)
    with pytest.raises(StoreUnavailableError, match="simulated"):
        await durably.drain()


async def test_a_verb_that_meets_a_store_in_trouble_gives_up_in_virtual_time(durably: VirtualDurably) -> None:
    durably.faults.fail("enqueue", how="full", times=None)
    begun = durably.clock.now()

    async with asyncio.timeout(10):
        with pytest.raises(StoreFullError):
            await durably.register(order).trigger(Order(amount=1))
    assert durably.clock.now() > begun


async def test_a_store_may_hang_for_a_while(durably: VirtualDurably) -> None:
    durably.faults.fail("save_step", nth=2, how="hang", seconds=60)
    begun = durably.clock.now()
    run = await durably.register(order).trigger(Order(amount=1))
    await durably.drain()

    done = await durably.wait_for_run(run.id)
    assert done.completed_at is not None
    assert done.completed_at - begun >= timedelta(days=14, seconds=60)


async def test_a_store_that_hangs_is_healed_by_hand(durably: VirtualDurably) -> None:
    durably.faults.fail("get_run", how="hang")
    looking = asyncio.create_task(durably.get_run("none"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not looking.done()
    durably.faults.heal()

    assert await looking is None


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"verb": "save_steps"}, "no verb 'save_steps'; there are .*save_step,"),
        ({"verb": "claim", "nth": 0}, "counted from 1"),
        ({"verb": "claim", "times": 0}, "counted from 1"),
        ({"verb": "claim", "how": "slowly"}, "cannot fail 'slowly'; it may before, after"),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(
    durably: VirtualDurably, plan: dict[str, object], message: str
) -> None:
    verb = plan.pop("verb")
    with pytest.raises(ValueError, match=message):
        durably.faults.fail(verb, **plan)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_planned_fault_that_never_struck_is_told() -> None:
    async with VirtualDurably(jobs=[order]) as durably:
        durably.faults.fail("save_step", nth=9).fail("claim")
        await durably.register(order).trigger(Order(amount=1))
        await durably.drain()
        with pytest.raises(NothingTestedError, match=r"save_step \(call 9, before\); .* claim \dx") as found:
            durably.verify()
        assert "save_step 2x" in str(found.value)


async def test_a_broken_promise_is_told() -> None:
    async with VirtualDurably(jobs=[order]) as durably:
        run = await durably.register(order).trigger(Order(amount=1))
        await durably.drain()
        assert durably._rows.connection is not None  # pyright: ignore[reportPrivateUsage]
        durably._rows.connection.execute("UPDATE durably_runs SET output = '1'")  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(PromiseBroken, match=f"run {run.id} was changed after it had ended"):
            durably.verify()
