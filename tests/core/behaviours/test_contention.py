"""SQL-1: nobody is told that the database is busy."""

import asyncio
from collections.abc import Callable

from pydantic import BaseModel

from durably import Durably, Event, StepContext, define_job


class Task(BaseModel):
    number: int = 0


async def work(step: StepContext, input: Task) -> int:
    await step.run("first", lambda: None)
    return input.number


async def test_triggers_batches_deletions_and_waits_beside_busy_workers(
    another: Callable[..., Durably],
) -> None:
    """SQL-1: a StoreBusyError would fail the test; the ones that pass by themselves are reported."""
    definition = define_job(name="work", input=Task, output=int, run=work)
    instances = [another() for _ in range(3)]
    troubles: list[Event] = []
    for instance in instances:
        instance.on("worker:error", troubles.append)
        instance.register(definition)
        await instance.init()
    handles = [instance.register(definition) for instance in instances]

    async def single(number: int) -> None:
        handle, instance = handles[number % 3], instances[number % 3]
        result = await handle.trigger_and_wait(Task(number=number), idempotency_key=f"i{number}", timeout=30)
        assert result.output == number
        await instance.delete_run(result.id)

    async def batch(number: int) -> None:
        runs = await handles[number % 3].batch_trigger([Task(number=n) for n in range(10)])
        for run in runs:
            await instances[(number + 1) % 3].wait_for_run(run.id, timeout=30)

    await asyncio.gather(*(single(n) for n in range(15)), *(batch(n) for n in range(6)))
    assert troubles == []
    assert await instances[0].count_runs(status="completed") == 60
