"""CAN, DEL, RTG, PUR: what people do to runs, and how it is told."""

import asyncio

import pytest
from pydantic import BaseModel

from durably import Durably, Event, JobHandle, Run, RunDeleted, StepContext, define_job


class Task(BaseModel):
    fail: bool = False


async def work(step: StepContext, input: Task) -> str:
    await step.run("first", lambda: None)
    if input.fail:
        raise ValueError("no")
    return "end"


@pytest.fixture
def worker(durably: Durably) -> JobHandle[Task, str]:
    return durably.register(define_job(name="work", input=Task, output=str, run=work))


async def test_a_deletion_says_of_which_run(durably: Durably, worker: JobHandle[Task, str]) -> None:
    """DEL-1, EVT-4."""
    heard: list[RunDeleted] = []
    durably.on("run:delete", heard.append)
    run = await worker.trigger(Task(), labels={"a": "b"})
    await durably.process_one()
    await durably.delete_run(run.id)
    assert [(event.run_id, event.job_name, event.labels) for event in heard] == [(run.id, "work", {"a": "b"})]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_retriggering_makes_a_fresh_run_whatever_the_end_was(
    durably: Durably, worker: JobHandle[Task, str], end: str
) -> None:
    """RTG-1, RTG-2: behind a run that waits with the same key it queues."""
    heard: list[Event] = []
    run = await worker.trigger(Task(fail=end == "failed"), concurrency_key="k")
    if end == "cancelled":
        await durably.cancel(run.id)
    await durably.process_until_idle()
    waiting = await worker.trigger(Task(), concurrency_key="k")
    durably.on("run:trigger", heard.append)
    fresh = await durably.retrigger(run.id)
    assert [getattr(event, "run_id", None) for event in heard] == [fresh.id]
    assert (fresh.status, fresh.disposition, fresh.completed_step_count) == ("pending", "created", 0)
    assert fresh.id not in {run.id, waiting.id}
    assert (still := await durably.get_run(run.id)) is not None
    assert still.status == end


async def test_a_cancelled_run_has_an_end_and_no_owner(
    durably: Durably, worker: JobHandle[Task, str]
) -> None:
    """CAN-1, BUG-20: whatever ends a run says when, so that it is purged."""
    begun = asyncio.Event()

    @durably.job
    async def endless(step: StepContext, input: Task) -> None:
        begun.set()
        await asyncio.Event().wait()

    ends: list[Run[Task, object]] = [
        await worker.trigger(Task()),
        await worker.trigger(Task(fail=True)),
        await worker.trigger(Task()),
    ]
    await durably.cancel(ends[2].id)
    ends.append(await endless.trigger(Task()))
    await durably.start()
    async with asyncio.timeout(5):
        await begun.wait()
        await durably.cancel(ends[3].id)
        await durably.stop()
    for run in ends:
        assert (now := await durably.get_run(run.id)) is not None
        assert now.is_terminal
        assert now.completed_at is not None
        assert (now.lease_owner, now.lease_expires_at) == (None, None)
    assert await durably.purge_runs(older_than=0.000001) == 4
    assert await durably.get_runs() == []
