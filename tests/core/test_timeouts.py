"""Time that is up: of an attempt at a step, and of a whole run."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    Retry,
    RunFailedError,
    StepContext,
    StepFailed,
    StepTimeoutError,
    define_job,
)
from tests.core.test_leases import Clocks
from tests.core.test_waits import reach
from tests.core.unchecked import unchecked

SHORT = 0.02
THREADS = 0.15
"""Long enough for a thread to have begun, also on a busy machine."""


class Task(BaseModel):
    number: int = 0


async def error_type(durably: Durably, run_id: str) -> str:
    run = await durably.get_run(run_id)
    assert run is not None
    return "" if run.error is None else run.error.type


# Steps


async def test_an_attempt_that_takes_too_long_is_cut_off_and_its_step_fails(durably: Durably) -> None:
    unwound: list[str] = []
    caught: list[StepFailed] = []

    @durably.job
    async def slow(step: StepContext, input: Task) -> str:
        async def body() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                unwound.append("body")

        try:
            await step.run("slow", body, timeout=timedelta(seconds=SHORT))
        except StepFailed as error:
            caught.append(error)
        return await step.run("after", lambda: "went on", result=str)

    run = await slow.trigger(Task())
    await durably.process_one()

    assert (await durably.wait_for_run(run.id)).output == "went on"
    assert unwound == ["body"]
    assert isinstance(caught[0].__cause__, StepTimeoutError)
    assert isinstance(caught[0].__cause__, TimeoutError)
    assert caught[0].error_type == "durably.errors.StepTimeoutError"
    assert "'slow' took longer than its timeout of 0.02 s" in caught[0].message
    step = (await durably.get_steps(run.id))[0]
    assert step.error is not None
    assert "in body" in (step.error.traceback or "")


async def test_the_bodys_own_timeout_is_told_apart(durably: Durably) -> None:
    caught: list[BaseException | None] = []

    @durably.job
    async def own(step: StepContext, input: Task) -> str:
        async def body() -> str:
            try:
                async with asyncio.timeout(SHORT / 4):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "handled"
            return "never"

        async def raises() -> None:
            async with asyncio.timeout(SHORT / 4):
                await asyncio.Event().wait()

        try:
            await step.run("raises", raises, timeout=30)
        except StepFailed as error:
            caught.append(error.__cause__)
        return await step.run("body", body, timeout=30)

    run = await own.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == "handled"
    assert [type(one) for one in caught] == [TimeoutError]


@pytest.mark.parametrize("way", ["returns", "raises"])
async def test_what_a_body_makes_of_its_cancellation_does_not_count(durably: Durably, way: str) -> None:
    @durably.job
    async def stubborn(step: StepContext, input: Task) -> None:
        async def body() -> int:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if way == "raises":
                    raise LookupError("converted") from None
            return 1

        await step.run("stubborn", body, timeout=SHORT)

    run = await stubborn.trigger(Task())
    await durably.process_one()
    assert await error_type(durably, run.id) == "durably.errors.StepTimeoutError"


async def test_a_cancel_of_the_run_is_no_timeout(durably: Durably) -> None:
    begun = asyncio.Event()

    @durably.job
    async def slow(step: StepContext, input: Task) -> None:
        async def body() -> None:
            begun.set()
            await asyncio.Event().wait()

        await step.run("slow", body, timeout=30, retry=3)

    run = await slow.trigger(Task())
    working = asyncio.ensure_future(durably.process_one())
    await begun.wait()
    await durably.cancel(run.id)
    await working
    assert (await reach(durably, run.id, "cancelled")).error is None
    assert [step.status for step in await durably.get_steps(run.id)] in ([], ["running"])


async def test_a_timeout_in_a_group_cuts_off_its_own_step_alone(durably: Durably) -> None:
    @durably.job
    async def both(step: StepContext, input: Task) -> list[str]:
        gate = asyncio.Event()

        async def slow() -> None:
            await asyncio.Event().wait()

        async def sibling() -> str:
            await gate.wait()
            return "done"

        async def left() -> str:
            try:
                await step.run("slow", slow, timeout=SHORT)
            except StepFailed:
                gate.set()
                return "late"
            return "never"

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(left()), group.create_task(step.run("sibling", sibling))]
        return [task.result() for task in tasks]

    run = await both.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == ["late", "done"]


async def test_a_plain_function_is_left_to_its_thread_and_its_late_result_is_dropped(
    durably: Durably,
) -> None:
    gate, heard = threading.Event(), threading.Event()
    told: list[bool] = []
    returned: list[int] = []

    @durably.job
    async def slow(step: StepContext, input: Task) -> int:
        def body() -> int:
            if step.attempt > 1:
                return 2
            gate.wait(20)
            told.append(step.is_cancelled)
            try:
                step.raise_if_cancelled()
            except asyncio.CancelledError:
                heard.set()
            returned.append(1)
            return 1

        value = await step.run("slow", body, timeout=THREADS, retry=Retry(2, delay=0))
        # Only now, long after its step has ended, does the first attempt return.
        gate.set()
        await asyncio.get_running_loop().run_in_executor(None, heard.wait, 20)
        return value

    run = await slow.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == 2
    assert (told, returned) == ([True], [1])
    (step,) = await durably.get_steps(run.id)
    assert (step.result, step.attempt) == (2, 2)
    assert [one.error.type for one in step.attempts] == ["durably.errors.StepTimeoutError"]


async def test_a_timed_out_thread_keeps_its_place_in_the_pool(url: str) -> None:
    gate = threading.Event()
    seen: list[int] = []
    async with Durably(url, polling_interval=60, worker=False, max_concurrent_runs=1) as durably:

        @durably.job
        async def slow(step: StepContext, input: Task) -> None:
            def hang() -> None:
                gate.wait(20)

            with pytest.raises(StepFailed):
                await step.run("hang", hang, timeout=THREADS)
            worker = durably._the_worker()  # pyright: ignore[reportPrivateUsage]
            seen.append(worker._engine.threads.busy)  # pyright: ignore[reportPrivateUsage]

        await slow.trigger(Task())
        await durably.process_one()
        gate.set()
    assert seen == [1]


async def test_of_a_keyed_run_no_thread_works_beside_the_next_holder(durably: Durably) -> None:
    gate = threading.Event()
    inside, most = [0], [0]

    @durably.job
    async def keyed(step: StepContext, input: Task) -> None:
        def body() -> None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            if input.number == 0:
                gate.wait(20)
            inside[0] -= 1

        await step.run("body", body, timeout=THREADS if input.number == 0 else None)

    first = await keyed.trigger(Task(number=0), concurrency_key="k")
    second = await keyed.trigger(Task(number=1), concurrency_key="k")
    failed = asyncio.Event()
    durably.on("step:fail", lambda _: failed.set())
    await durably.start()
    await failed.wait()
    await asyncio.sleep(0.02)
    await reach(durably, second.id, "pending")
    gate.set()
    await durably.wait_for_run(second.id, timeout=10)
    assert (await reach(durably, first.id, "failed")).error is not None
    assert most == [1]


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("inf")])
async def test_a_timeout_that_is_none_is_refused(durably: Durably, timeout: object) -> None:
    @durably.job
    async def wrong(step: StepContext, input: Task) -> None:
        unchecked(step.run)("one", lambda: 1, timeout=timeout)

    run = await wrong.trigger(Task())
    await durably.process_one()
    assert await error_type(durably, run.id) == "durably.errors.ConfigurationError"
    assert await durably.get_steps(run.id) == []


# Runs


async def test_a_run_that_takes_too_long_fails_whatever_its_code_makes_of_it(durably: Durably) -> None:
    @durably.job(timeout=SHORT, retry=5)
    async def slow(step: StepContext, input: Task) -> str:
        async def body() -> None:
            await asyncio.Event().wait()

        try:
            await step.run("slow", body)
        except asyncio.CancelledError:
            return "as if nothing had been"
        return "never"

    run = await slow.trigger(Task())
    await durably.process_one()
    with pytest.raises(RunFailedError, match=r"took longer than the timeout of job 'slow', 0\.02 s"):
        await durably.wait_for_run(run.id)
    assert await error_type(durably, run.id) == "durably.errors.RunTimeoutError"
    assert (await reach(durably, run.id, "failed")).attempt == 1


async def test_a_runs_time_counts_from_its_first_start_across_crashes_and_waits(
    another: Callable[..., Durably],
) -> None:
    executions: list[int] = []

    async def body(step: StepContext, input: Task) -> None:
        executions.append(1)
        await step.sleep("nap", 100)
        await step.sleep("night", 10_000)

    job = define_job(name="waiting", input=Task, run=body, timeout=3600)
    clocks = Clocks()
    durably = another(jobs=[job], environment=clocks, worker=False)
    await durably.init()
    run = await durably.register(job).trigger(Task())
    await durably.process_one()
    clocks.wall += 1000
    await durably.process_one()
    waiting = await reach(durably, run.id, "waiting")
    assert waiting.timed_from == waiting.started_at
    clocks.wall += 2599
    assert not await durably.process_one()
    # Its time is up long before the night is over.
    clocks.wall += 2
    assert await durably.process_one()
    assert await error_type(durably, run.id) == "durably.errors.RunTimeoutError"
    assert len(executions) == 2


async def test_the_time_a_run_waits_for_its_turn_does_not_count(url: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job(timeout=3600)
        async def quick(step: StepContext, input: Task) -> str:
            return "in time"

        run = await quick.trigger(Task())
        clocks.wall += 10_000
        await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == "in time"


async def test_a_persons_retry_begins_a_runs_time_anew(url: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job(timeout=3600)
        async def sleepy(step: StepContext, input: Task) -> str:
            await step.sleep("night", 5000)
            return "morning"

        run = await sleepy.trigger(Task())
        await durably.process_one()
        clocks.wall += 3601
        await durably.process_one()
        first = await reach(durably, run.id, "failed")
        await durably.retry(run.id)
        clocks.wall += 1400
        await durably.process_one()
        done = await durably.wait_for_run(run.id)
        assert done.output == "morning"
        assert done.started_at == first.started_at
        assert done.timed_from is not None
        assert first.timed_from is not None
        assert done.timed_from - first.timed_from > timedelta(seconds=5000)


async def test_no_attempt_is_waited_for_that_would_begin_too_late(url: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job(timeout=100, retry=Retry(5, delay=200, max_delay=200, jitter=False))
        async def doomed(step: StepContext, input: Task) -> None:
            raise OSError("no")

        run = await doomed.trigger(Task())
        await durably.process_one()
        failed = await reach(durably, run.id, "failed")
        assert failed.error is not None
        assert failed.error.type == "OSError"
