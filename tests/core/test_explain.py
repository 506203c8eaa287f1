"""Why is this run not running? Asked of instances; the rest is asked of stores, by a clock in hand."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    Explanation,
    NoWorkerAlive,
    NoWorkerKnowsJob,
    Retry,
    RetryingAt,
    Running,
    RunNotFoundError,
    SleepingUntil,
    StepContext,
    WaitingForChild,
    WaitingForSignal,
    define_job,
)


class Nothing(BaseModel):
    pass


@pytest.fixture
async def working(durably: Durably) -> Durably:
    await durably.start()
    return durably


async def answer(durably: Durably, run_id: str, kind: type[Explanation]) -> Explanation:
    """Ask until the answer is of this kind."""
    async with asyncio.timeout(5):
        while not isinstance(found := await durably.explain(run_id), kind):
            await asyncio.sleep(0.005)
    return found


def soon(instant: datetime | None, seconds: float) -> bool:
    return instant is not None and abs(instant - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(
        seconds=5
    )


async def test_a_sleeping_run_tells_until_when(working: Durably) -> None:
    @working.job
    async def sleep(step: StepContext, input: Nothing) -> None:
        await step.sleep("nap", 3600)

    found = await answer(working, (await sleep.trigger(Nothing())).id, SleepingUntil)
    assert isinstance(found, SleepingUntil)
    assert soon(found.instant, 3600)
    assert str(found) == f"sleeping until {found.instant:%Y-%m-%d %H:%M:%S} UTC, in step 'nap'"


async def test_a_run_that_waits_for_a_signal_tells_which(working: Durably) -> None:
    @working.job
    async def ask(step: StepContext, input: Nothing) -> None:
        await step.wait_for_signal("approval", Nothing, key="order-7", timeout=60)

    found = await answer(working, (await ask.trigger(Nothing())).id, WaitingForSignal)
    assert isinstance(found, WaitingForSignal)
    assert (found.name, found.key, found.others) == ("approval", "order-7", ())
    assert soon(found.until, 60)
    assert str(found).startswith("waiting for signal 'approval' with key 'order-7', until ")


async def test_of_several_waits_the_one_that_ends_first_is_told_and_the_others_named(
    working: Durably,
) -> None:
    @working.job
    async def both(step: StepContext, input: Nothing) -> None:
        await asyncio.gather(step.wait_for_signal("approval", Nothing), step.sleep("nap", 3600))

    found = await answer(working, (await both.trigger(Nothing())).id, SleepingUntil)
    assert isinstance(found, SleepingUntil)
    assert found.others == ("approval",)
    assert str(found).endswith(", in step 'nap', and in step 'approval'")


async def test_a_run_that_waits_for_a_child_tells_which(working: Durably) -> None:
    @working.job
    async def child(step: StepContext, input: Nothing) -> None:
        await step.sleep("nap", 3600)

    @working.job
    async def parent(step: StepContext, input: Nothing) -> None:
        await step.invoke("call", child, Nothing())

    run = await parent.trigger(Nothing())
    found = await answer(working, run.id, WaitingForChild)
    assert isinstance(found, WaitingForChild)
    assert found.step_name == "call"
    assert isinstance(await answer(working, found.run_id, SleepingUntil), SleepingUntil)
    assert str(found) == f"waiting for child run {found.run_id}, in step 'call'"


async def test_a_step_that_is_tried_again_later_tells_when(working: Durably) -> None:
    def fail() -> None:
        raise ValueError("no")

    @working.job
    async def flaky(step: StepContext, input: Nothing) -> None:
        await step.run("call", fail, retry=Retry(attempts=3, delay=50, jitter=False))

    found = await answer(working, (await flaky.trigger(Nothing())).id, RetryingAt)
    assert isinstance(found, RetryingAt)
    assert (found.step_name, found.attempt) == ("call", 2)
    assert soon(found.instant, 50)
    assert str(found).startswith("retrying step 'call' at ")
    assert str(found).endswith(" (attempt 2)")


async def test_a_job_that_is_tried_again_later_tells_when(working: Durably) -> None:
    async def fail(step: StepContext, input: Nothing) -> None:
        raise ValueError("no")

    handle = working.register(
        define_job(name="flaky", input=Nothing, run=fail, retry=Retry(attempts=3, delay=50, jitter=False))
    )
    found = await answer(working, (await handle.trigger(Nothing())).id, RetryingAt)
    assert isinstance(found, RetryingAt)
    assert (found.step_name, found.attempt) == (None, 2)
    assert soon(found.instant, 50)
    assert str(found).startswith("retrying the job at ")


async def test_a_run_in_a_step_is_running_there(working: Durably) -> None:
    gate = asyncio.Event()

    @working.job
    async def hold(step: StepContext, input: Nothing) -> None:
        await step.run("held", gate.wait)

    run = await hold.trigger(Nothing())
    async with asyncio.timeout(5):
        while not (isinstance(found := await working.explain(run.id), Running) and found.steps):
            await asyncio.sleep(0.01)
    assert found.steps == ("held",)
    assert [found.worker] == list(await working.get_workers())
    gate.set()


async def test_a_job_that_is_registered_late_is_known_to_be_known(another: Callable[..., Durably]) -> None:
    client, worker = another(worker=False), another(max_concurrent_runs=1)
    await client.init()

    async def wait(step: StepContext, input: Nothing) -> None:
        await step.sleep("nap", 3600)

    definition = define_job(name="late", input=Nothing, run=wait)
    run = await client.register(definition).trigger(Nothing())
    assert isinstance(await client.explain(run.id), NoWorkerAlive)
    await worker.init()
    found = await client.explain(run.id)
    assert isinstance(found, NoWorkerKnowsJob)
    assert [one.jobs for one in found.workers] == [()]
    worker.register(definition)
    await answer(client, run.id, SleepingUntil)
    async with asyncio.timeout(5):
        while [one.jobs for one in await client.get_workers()] != [("late",)]:
            await asyncio.sleep(0.01)


async def test_a_missing_run_is_an_error(durably: Durably) -> None:
    with pytest.raises(RunNotFoundError):
        await durably.explain("nobody")
