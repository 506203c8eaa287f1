"""WRK, SRV: a worker's life, and working without one in the background."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel

from durably import Durably, Event, EventType, JobHandle, RunFailed, StepContext, define_job


class Task(BaseModel):
    number: int = 0


async def test_a_second_start_changes_nothing(durably: Durably) -> None:
    """WRK-1, WRK-7."""
    await durably.start()
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    count = len(asyncio.all_tasks())
    await durably.start()
    await durably.init()
    assert len(asyncio.all_tasks()) == count
    assert "durably:claims" in tasks
    assert len(await durably.get_workers()) == 1


async def test_stop_waits_for_everything_in_flight_and_not_at_all_when_idle(durably: Durably) -> None:
    """WRK-2."""
    begun = 0
    gate = asyncio.Event()

    @durably.job
    async def slow(step: StepContext, input: Task) -> int:
        nonlocal begun
        begun += 1
        await gate.wait()
        return input.number

    await durably.start()
    async with asyncio.timeout(5):
        await durably.stop()
    await durably.start()
    runs = await slow.batch_trigger([Task(number=n) for n in range(3)])
    async with asyncio.timeout(5):
        while begun < 3:
            await asyncio.sleep(0.001)
        stopping = asyncio.create_task(durably.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        gate.set()
        await stopping
    assert [(await durably.wait_for_run(run.id, timeout=1)).output for run in runs] == [0, 1, 2]


async def test_a_run_is_told_as_pending_running_and_ended_in_this_order(durably: Durably) -> None:
    """WRK-3, WRK-4."""
    names: tuple[EventType, ...] = ("run:trigger", "run:start", "run:complete", "run:fail")
    heard: list[Event] = []
    for name in names:
        durably.on(name)(heard.append)

    @durably.job
    async def work(step: StepContext, input: Task) -> int:
        now = await durably.get_run(step.run_id)
        assert now is not None
        assert now.status == "running"
        if input.number < 0:
            raise ValueError("no such number")
        return input.number * 2

    good, bad = await work.batch_trigger([Task(number=4), Task(number=-1)])
    assert await durably.process_until_idle() == 2
    assert (await durably.wait_for_run(good.id)).output == 8
    assert [event.type for event in heard] == [
        "run:trigger", "run:trigger", "run:start", "run:complete", "run:start", "run:fail",
    ]  # fmt: skip
    failed = heard[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.run_id, failed.error.type, failed.error.message) == (
        bad.id, "ValueError", "no such number",
    )  # fmt: skip


async def test_an_idle_worker_does_not_stack_up_its_polls(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WRK-7: many wake-ups at once are one look, and afterwards there is silence."""
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    real: Callable[..., Awaitable[object]] = getattr(store, "claim")  # noqa: B009 - untyped on purpose
    claims = 0

    async def counted(*args: object) -> object:
        nonlocal claims
        claims += 1
        return await real(*args)

    monkeypatch.setattr(store, "claim", counted)
    await durably.start()
    await asyncio.sleep(0.02)
    claims = 0
    work = durably._work  # pyright: ignore[reportPrivateUsage]
    for _ in range(100):
        work.ring()
    await asyncio.sleep(0.05)
    assert 1 <= claims <= 3


@pytest.fixture
def numbers(durably: Durably) -> tuple[JobHandle[Task, None], list[int]]:
    seen: list[int] = []

    async def record(step: StepContext, input: Task) -> None:
        await asyncio.sleep(0)
        seen.append(input.number)

    return durably.register(define_job(name="record", input=Task, run=record)), seen


async def test_process_one_says_whether_there_was_one(
    durably: Durably, numbers: tuple[JobHandle[Task, None], list[int]]
) -> None:
    """SRV-1."""
    handle, seen = numbers
    assert not await durably.process_one()
    await handle.trigger(Task(number=7))
    assert await durably.process_one()
    assert not await durably.process_one()
    assert seen == [7]


async def test_process_until_idle_leaves_the_rest_and_says_how_many(
    durably: Durably, numbers: tuple[JobHandle[Task, None], list[int]]
) -> None:
    """SRV-2."""
    handle, seen = numbers
    await handle.batch_trigger([Task(number=n) for n in range(5)])
    assert await durably.process_until_idle(max_runs=2) == 2
    assert await durably.count_runs(status="pending") == 3
    assert await durably.process_until_idle() == 3
    assert await durably.process_until_idle() == 0
    assert seen == [0, 1, 2, 3, 4]


async def test_two_invocations_share_out_the_backlog(another: Callable[..., Durably]) -> None:
    """SRV-2."""
    seen: list[int] = []

    async def record(step: StepContext, input: Task) -> None:
        await asyncio.sleep(0.001)
        seen.append(input.number)

    definition = define_job(name="record", input=Task, run=record)
    instances = [another(), another()]
    for instance in instances:
        await instance.migrate()
    handles = [instance.register(definition) for instance in instances]
    await handles[0].batch_trigger([Task(number=n) for n in range(12)])
    counts = await asyncio.gather(*(instance.process_until_idle() for instance in instances))
    assert sum(counts) == 12
    assert sorted(seen) == list(range(12))
