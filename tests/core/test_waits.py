"""Waiting without a worker: sleeps, signals, children."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from durably import (
    ConflictError,
    Durably,
    Run,
    RunFailedError,
    RunNotFoundError,
    SignalTimeout,
    StepContext,
    StepFailed,
    TriggerInRunError,
    ValidationError,
    define_job,
)
from tests.core.test_leases import Clocks


class Task(BaseModel):
    number: int = 0


class Approval(BaseModel):
    by: str


async def status(durably: Durably, run_id: str) -> str:
    run = await durably.get_run(run_id)
    assert run is not None
    return run.status


async def reach(durably: Durably, run_id: str, wanted: str) -> Run:
    """Wait until the run has this status."""
    async with asyncio.timeout(5):
        while True:
            run = await durably.get_run(run_id)
            assert run is not None
            if run.status == wanted:
                return run
            await asyncio.sleep(0.002)


# Sleeping


async def test_a_long_sleep_needs_no_worker_and_ends_in_its_time(url: str) -> None:
    clocks = Clocks()
    calls: list[str] = []
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def sleepy(step: StepContext, input: Task) -> str:
            await step.run("before", calls.append, "before")
            await step.sleep("night", timedelta(hours=8))
            await step.run("after", calls.append, "after")
            return "morning"

        run = await sleepy.trigger(Task())
        assert await durably.process_one()
        waiting = await reach(durably, run.id, "waiting")
        assert (waiting.lease_owner, waiting.completed_step_count) == (None, 1)
        night = (await durably.get_steps(run.id))[1]
        assert (night.kind, night.status, night.name) == ("sleep", "running", "night")
        assert night.wake_at is not None
        assert not await durably.process_one()

        clocks.wall += 7 * 3600
        assert not await durably.process_one()
        clocks.wall += 3601
        assert await durably.process_one()
        done = await durably.wait_for_run(run.id)
        assert (done.output, calls) == ("morning", ["before", "after"])
        assert [step.status for step in await durably.get_steps(run.id)] == ["completed"] * 3


async def test_a_worker_wakes_a_sleeper_by_itself(durably: Durably) -> None:
    @durably.job
    async def nap(step: StepContext, input: Task) -> str:
        await step.sleep_until("nap", datetime.now(UTC) + timedelta(seconds=1.05))
        return "awake"

    await durably.start()
    run = await nap.trigger(Task())
    await reach(durably, run.id, "waiting")
    done = await durably.wait_for_run(run.id, timeout=5)
    assert done.output == "awake"
    assert done.lease_generation == 2


async def test_a_short_sleep_stays_in_memory_and_is_a_checkpoint(durably: Durably) -> None:
    executions = 0

    @durably.job
    async def blink(step: StepContext, input: Task) -> None:
        nonlocal executions
        executions += 1
        begun = asyncio.get_running_loop().time()
        await step.sleep("blink", 0.05)
        took = asyncio.get_running_loop().time() - begun
        assert took >= 0.05 if executions == 1 else took < 0.05
        if executions == 1:
            raise RuntimeError("again")

    run = await blink.trigger(Task())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    assert done.lease_generation == 2
    assert [step.kind for step in await durably.get_steps(run.id)] == ["sleep"]


async def test_an_instant_in_the_past_is_over_at_once(durably: Durably) -> None:
    @durably.job
    async def late(step: StepContext, input: Task) -> str:
        await step.sleep_until("past", datetime(2001, 1, 1, tzinfo=UTC))
        return "at once"

    run = await late.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == "at once"


@pytest.mark.parametrize("duration", [-1, 0, "soon", float("nan")])
async def test_durations_that_are_none_are_refused(durably: Durably, duration: float) -> None:
    @durably.job
    async def wrong(step: StepContext, input: Task) -> None:
        await step.sleep("wrong", duration)

    run = await wrong.trigger(Task())
    await durably.process_one()
    with pytest.raises(RunFailedError, match="duration must be a positive number"):
        await durably.wait_for_run(run.id)
    assert await durably.get_steps(run.id) == []


async def test_a_suspension_cannot_be_swallowed_and_finally_knows_of_it(durably: Durably) -> None:
    seen: list[object] = []

    @durably.job
    async def guarded(step: StepContext, input: Task) -> str:
        try:
            await step.sleep("long", 3600)
        except Exception:  # noqa: BLE001 - what a careless job would write
            seen.append("swallowed")
        finally:
            seen.append(step.suspending)
        return "never said"

    run = await guarded.trigger(Task())
    await durably.process_one()
    assert seen == [True]
    assert await status(durably, run.id) == "waiting"
    await durably.cancel(run.id)
    assert await status(durably, run.id) == "cancelled"


# Signals


async def test_a_signal_wakes_the_run_that_waits_for_it(durably: Durably) -> None:
    @durably.job
    async def approve(step: StepContext, input: Task) -> str:
        return (await step.wait_for_signal("approval", Approval)).by

    await durably.start()
    run = await approve.trigger(Task())
    await reach(durably, run.id, "waiting")
    await durably.signal("other", {"by": "nobody"}, run_id=run.id)
    assert await status(durably, run.id) == "waiting"
    await durably.signal("approval", Approval(by="ann"), run_id=run.id)
    assert (await durably.wait_for_run(run.id, timeout=5)).output == "ann"


async def test_a_signal_sent_before_the_wait_is_not_lost(durably: Durably) -> None:
    @durably.job
    async def approve(step: StepContext, input: Task) -> str:
        return (await step.wait_for_signal("approval", Approval)).by

    run = await approve.trigger(Task())
    await durably.signal("approval", {"by": "early"}, run_id=run.id)
    await durably.signal("approval", {"by": "second"}, run_id=run.id)
    assert await durably.process_until_idle() == 2
    assert (await durably.wait_for_run(run.id)).output == "early"


async def test_a_signal_by_key_is_delivered_to_one_wait_the_oldest(durably: Durably) -> None:
    @durably.job
    async def order(step: StepContext, input: Task) -> str:
        return (await step.wait_for_signal("paid", Approval, key=f"order-{input.number}")).by

    await durably.signal("paid", {"by": "before anyone waits"}, key="order-1")
    runs = [await order.trigger(Task(number=1)) for _ in range(3)]
    await durably.process_until_idle()
    assert [await status(durably, run.id) for run in runs] == ["completed", "waiting", "waiting"]
    await durably.signal("paid", {"by": "later"}, key="order-1")
    await durably.process_until_idle()
    assert [await status(durably, run.id) for run in runs] == ["completed", "completed", "waiting"]
    await durably.signal("paid", {"by": "other key"}, key="order-2")
    assert not await durably.process_one()


async def test_a_timeout_is_a_checkpoint_that_a_late_signal_cannot_change(url: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, worker=False) as durably:
        outcomes: list[str] = []

        @durably.job
        async def impatient(step: StepContext, input: Task) -> str:
            try:
                outcomes.append((await step.wait_for_signal("go", Approval, timeout=60)).by)
            except SignalTimeout as error:
                outcomes.append(f"timeout of {error.step_name}")
            if len(outcomes) == 1:
                raise RuntimeError("stumble")
            return outcomes[-1]

        run = await impatient.trigger(Task())
        await durably.process_one()
        clocks.wall += 61
        # Too late, though nobody has looked yet.
        await durably.signal("go", {"by": "late"}, run_id=run.id)
        await durably.process_one()
        await durably.retry(run.id)
        await durably.process_one()
        assert outcomes == ["timeout of go"] * 2
        assert (await durably.wait_for_run(run.id)).output == "timeout of go"


async def test_a_timed_out_wait_that_ended_the_run_is_waited_for_again_on_retry(url: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, worker=False) as durably:

        @durably.job
        async def strict(step: StepContext, input: Task) -> str:
            return (await step.wait_for_signal("go", Approval, timeout=60)).by

        run = await strict.trigger(Task())
        await durably.process_one()
        clocks.wall += 61
        await durably.process_one()
        with pytest.raises(RunFailedError, match="no signal 'go' came in time"):
            await durably.wait_for_run(run.id)
        await durably.retry(run.id)
        await durably.process_one()
        assert await status(durably, run.id) == "waiting"
        await durably.signal("go", {"by": "ann"}, run_id=run.id)
        await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == "ann"


async def test_signals_that_cannot_be_delivered_are_refused(durably: Durably) -> None:
    @durably.job
    async def short(step: StepContext, input: Task) -> None: ...

    run = await short.trigger(Task())
    await durably.process_one()
    with pytest.raises(ConflictError, match="cannot signal completed run"):
        await durably.signal("go", run_id=run.id)
    with pytest.raises(RunNotFoundError):
        await durably.signal("go", run_id="missing")
    with pytest.raises(ValidationError, match="either run_id or key"):
        await durably.signal("go")
    with pytest.raises(ValidationError, match="either run_id or key"):
        await durably.signal("go", run_id=run.id, key="k")
    with pytest.raises(ValidationError, match="cannot be stored"):
        await durably.signal("go", {1: object()}, key="k")


async def test_a_payload_that_does_not_fit_names_what_is_wrong(durably: Durably) -> None:
    @durably.job
    async def typed(step: StepContext, input: Task) -> str:
        return (await step.wait_for_signal("approval", Approval)).by

    run = await typed.trigger(Task())
    await durably.signal("approval", {"from": "ann"}, run_id=run.id)
    await durably.process_until_idle()
    with pytest.raises(RunFailedError, match=r"signal 'approval'.*by"):
        await durably.wait_for_run(run.id)


# Children


async def test_a_parent_waits_for_its_child_without_a_slot(url: str) -> None:
    async with Durably(url, max_concurrent_runs=1, polling_interval=60) as durably:

        @durably.job
        async def countdown(step: StepContext, input: Task) -> int:
            if input.number == 0:
                return 0
            return 1 + await step.invoke("next", countdown, Task(number=input.number - 1))

        result = await countdown.trigger_and_wait(Task(number=50), timeout=30)
        assert result.output == 50
        assert len(await durably.get_runs()) == 51


async def test_a_child_is_triggered_once_whatever_happens(durably: Durably) -> None:
    executions = 0

    @durably.job
    async def child(step: StepContext, input: Task) -> int:
        return input.number

    @durably.job
    async def parent(step: StepContext, input: Task) -> tuple[int, str]:
        nonlocal executions
        executions += 1
        spawned = await step.spawn("side", child, Task(number=1))
        value = await step.invoke("main", child, Task(number=2), labels={"a": "b"})
        if executions < 3:
            raise RuntimeError("again")
        return value, spawned

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    await durably.retry(run.id)
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    children = await durably.get_runs(job_name="child")
    assert len(children) == 2
    assert {one.parent_id for one in children} == {run.id}
    assert {"a": "b"} in [one.labels for one in children]
    assert done.output == (2, next(one.id for one in children if one.input == Task(number=1)))
    assert [step.kind for step in await durably.get_steps(run.id)] == ["spawn", "child"]


async def test_a_failed_child_fails_its_step_and_is_retried_in_place(durably: Durably) -> None:
    broken = True

    @durably.job
    async def child(step: StepContext, input: Task) -> str:
        if broken:
            raise ValueError("not today")
        return "well"

    @durably.job
    async def parent(step: StepContext, input: Task) -> str:
        return await step.invoke("child", child, Task())

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    with pytest.raises(RunFailedError, match="ValueError: not today"):
        await durably.wait_for_run(run.id)
    broken = False
    await durably.retry(run.id)
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == "well"
    assert len(await durably.get_runs(job_name="child")) == 1


async def test_a_childs_failure_can_be_caught(durably: Durably) -> None:
    @durably.job
    async def child(step: StepContext, input: Task) -> None:
        raise ValueError("no")

    @durably.job
    async def parent(step: StepContext, input: Task) -> str:
        try:
            await step.invoke("child", child, Task())
        except StepFailed as error:
            return f"{error.step_name}: {error.error_type}"
        return "fine"

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == "child: ValueError"


async def test_cancelling_a_parent_cancels_its_attached_children(durably: Durably) -> None:
    @durably.job
    async def leaf(step: StepContext, input: Task) -> None:
        await step.sleep("long", 3600)

    @durably.job
    async def middle(step: StepContext, input: Task) -> None:
        await step.invoke("leaf", leaf, Task())

    @durably.job
    async def root(step: StepContext, input: Task) -> None:
        await step.spawn("free", leaf, Task(number=1), detached=True)
        await step.invoke("middle", middle, Task())

    run = await root.trigger(Task())
    await durably.process_until_idle()
    await durably.cancel(run.id)
    runs = await durably.get_runs()
    assert {(one.job_name, one.is_detached, one.status) for one in runs} == {
        ("root", False, "cancelled"),
        ("middle", False, "cancelled"),
        ("leaf", False, "cancelled"),
        ("leaf", True, "waiting"),
    }


async def test_a_child_that_asks_for_its_parents_key_is_refused(durably: Durably) -> None:
    @durably.job
    async def selfish(step: StepContext, input: Task) -> str:
        if input.number:
            return "never"
        try:
            await step.invoke("again", selfish, Task(number=1), concurrency_key="k")
        except ConflictError as error:
            return str(error)
        return "deadlock"

    run = await selfish.trigger(Task(), concurrency_key="k")
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert isinstance(done.output, str)
    assert "concurrency key 'k'" in done.output
    assert len(await durably.get_runs()) == 1


async def test_a_waiting_run_keeps_its_key(durably: Durably) -> None:
    @durably.job
    async def holder(step: StepContext, input: Task) -> None:
        if input.number == 0:
            await step.wait_for_signal("go", Approval)

    first = await holder.trigger(Task(number=0), concurrency_key="k")
    second = await holder.trigger(Task(number=1), concurrency_key="k")
    await durably.process_until_idle()
    assert [await status(durably, run.id) for run in (first, second)] == ["waiting", "pending"]
    await durably.signal("go", {"by": "x"}, run_id=first.id)
    await durably.process_until_idle()
    assert [await status(durably, run.id) for run in (first, second)] == ["completed"] * 2


async def test_triggering_between_steps_is_refused_and_says_what_to_do(durably: Durably) -> None:
    @durably.job
    async def child(step: StepContext, input: Task) -> None: ...

    @durably.job
    async def parent(step: StepContext, input: Task) -> list[str]:
        problems: list[str] = []
        for call in (child.trigger, child.trigger_and_wait):
            try:
                await call(Task())
            except TriggerInRunError as error:
                problems.append(str(error))

        async def inside() -> str:
            return (await child.trigger(Task(), idempotency_key="once")).id

        await step.run("inside", inside)
        return problems

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    problems = done.output_as(list[str])
    assert ["step.spawn" in problems[0], "step.invoke" in problems[1]] == [True, True]
    assert len(await durably.get_runs(job_name="child")) == 1


# In parallel


async def test_parallel_waits_suspend_the_run_and_all_are_waited_for(durably: Durably) -> None:
    @durably.job
    async def child(step: StepContext, input: Task) -> int:
        return input.number

    @durably.job
    async def both(step: StepContext, input: Task) -> list[object]:
        number, approval, work = await asyncio.gather(
            step.invoke("child", child, Task(number=7)),
            step.wait_for_signal("go", Approval),
            step.run("work", lambda: "worked", result=str),
        )
        return [number, approval.by, work]

    await durably.start()
    run = await both.trigger(Task())
    await reach(durably, run.id, "waiting")
    await durably.signal("go", {"by": "ann"}, run_id=run.id)
    done = await durably.wait_for_run(run.id, timeout=10)
    assert done.output == [7, "ann", "worked"]


async def test_a_wait_beside_a_running_step_neither_blocks_nor_kills_it(durably: Durably) -> None:
    gate = asyncio.Event()
    bodies: list[str] = []

    @durably.job
    async def beside(step: StepContext, input: Task) -> str:
        async def long() -> str:
            bodies.append("begin")
            await gate.wait()
            return "long"

        async def waiter() -> str:
            by = (await step.wait_for_signal("go", Approval)).by
            await step.run("after", bodies.append, f"after {by}")
            return by

        return " ".join(await asyncio.gather(step.run("long", long), waiter()))

    await durably.start()
    run = await beside.trigger(Task())
    await asyncio.sleep(1.3)
    assert await status(durably, run.id) == "running"
    await durably.signal("go", {"by": "ann"}, run_id=run.id)
    async with asyncio.timeout(5):
        while bodies != ["begin", "after ann"]:
            await asyncio.sleep(0.002)
    gate.set()
    done = await durably.wait_for_run(run.id, timeout=5)
    assert (done.output, done.lease_generation) == ("long ann", 1)


async def test_another_process_may_signal_and_resume(another: Callable[..., Durably]) -> None:
    async def body(step: StepContext, input: Task) -> str:
        return (await step.wait_for_signal("go", Approval, timeout=30)).by

    definition = define_job(name="gate", input=Task, output=str, run=body)
    one, two, sender = another(), another(), another(worker=False)
    for instance in (one, two, sender):
        instance.register(definition)
        await instance.init()
    handle = sender.get_job("gate")
    assert handle is not None
    run = await handle.trigger(Task())
    await reach(sender, run.id, "waiting")
    await sender.signal("go", {"by": "far"}, run_id=run.id)
    assert (await sender.wait_for_run(run.id, timeout=5)).output == "far"
