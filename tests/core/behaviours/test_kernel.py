"""KER, LEA, STA: what an execution does when its store says no, or says nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from pydantic import BaseModel

from durably import Durably, Event, EventType, RunStarted, StepContext, StoreBusyError, WorkerError
from durably.models import Progress, RunError
from durably.stores.values import Answer, ClaimRequest, Failed, Lease, Notes

BEAT = 0.02


class Task(BaseModel):
    number: int = 0


def hear(durably: Durably, *names: EventType) -> list[Event]:
    heard: list[Event] = []
    for name in names:
        durably.on(name)(heard.append)
    return heard


@pytest.fixture
async def hasty(url: str) -> Durably:
    """Heartbeats fifty times a second; to be closed by the test."""
    instance = Durably(url, heartbeat_interval=BEAT, polling_interval=60)
    await instance.migrate()
    return instance


async def test_a_refused_renewal_ends_the_execution_and_no_further_step_starts(
    hasty: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KER-4, STA-2, STA-3: neither failed nor cancelled; it resumes where it stood."""
    heard = hear(hasty, "run:fail", "run:cancel", "step:fail")
    store = hasty._store  # pyright: ignore[reportPrivateUsage]
    seen: list[str] = []
    asked = 0

    async def refuse(worker_id: str, leases: Sequence[Lease], **options: float) -> dict[str, Answer]:
        nonlocal asked
        asked += 1
        return {lease.run_id: "lost" for lease in leases}

    @hasty.job
    async def work(step: StepContext, input: Task) -> str:
        await step.run("first", seen.append, "first")
        if seen.count("waiting") == 0:
            seen.append("waiting")
            monkeypatch.setattr(store, "renew", refuse)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(f"cut off, is_cancelled={step.is_cancelled}")
                monkeypatch.undo()
            try:
                await step.run("never", seen.append, "never")
            except asyncio.CancelledError:
                seen.append("refused")
        return await step.run("second", lambda: "end", result=str)

    await hasty.start()
    run = await work.trigger(Task())
    done = await hasty.wait_for_run(run.id, timeout=10)
    assert seen == ["first", "waiting", "cut off, is_cancelled=True", "refused"]
    assert asked >= 1
    assert (done.output, done.lease_generation) == ("end", 2)
    assert heard == []
    await hasty.close()


async def test_a_renewal_that_errors_is_told_and_is_no_loss(
    hasty: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KER-3, KER-5, LEA-8."""
    heard = hear(hasty, "worker:error")
    store = hasty._store  # pyright: ignore[reportPrivateUsage]
    real: Callable[..., Awaitable[object]] = getattr(store, "renew")  # noqa: B009 - untyped on purpose
    renewals: list[bool] = []

    async def troubled(*args: object, **options: object) -> object:
        renewals.append(len(renewals) >= 2)
        if len(renewals) <= 2:
            raise StoreBusyError("busy")
        return await real(*args, **options)

    monkeypatch.setattr(store, "renew", troubled)

    @hasty.job
    async def work(step: StepContext, input: Task) -> str:
        while renewals.count(True) < 2:
            await asyncio.sleep(0.001)
        return "end"

    await hasty.start()
    run = await work.trigger(Task())
    done = await hasty.wait_for_run(run.id, timeout=10)
    assert (done.output, done.lease_generation) == ("end", 1)
    # On a slow machine an answer may come too late as well.
    told = [event for event in heard if isinstance(event, WorkerError)]
    troubles = [event.context for event in told if isinstance(event.error, StoreBusyError)]
    assert troubles == ["heartbeat", "heartbeat"]
    await hasty.close()


async def test_a_refused_completion_is_not_told_as_one(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KER-6."""
    heard = hear(durably, "run:complete", "run:fail")
    store = durably._store  # pyright: ignore[reportPrivateUsage]

    async def refuse(*args: object) -> Answer:
        return "lost"

    calls: list[int] = []

    @durably.job
    async def work(step: StepContext, input: Task) -> str:
        await step.run("first", calls.append, 1)
        return "end"

    run = await work.trigger(Task())
    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", refuse)
        assert await durably.process_one()
    assert heard == []
    assert [step.name for step in await durably.get_steps(run.id)] == ["first"]
    await durably.start()
    done = await durably.wait_for_run(run.id, timeout=10)
    assert (done.output, calls) == ("end", [1])


async def test_a_run_cancelled_in_the_store_alone_does_not_complete(durably: Durably) -> None:
    """KER-7, CAN-2: nobody told the worker; the guard in the statement does."""
    heard = hear(durably, "run:complete", "run:fail")
    store = durably._store  # pyright: ignore[reportPrivateUsage]

    @durably.job
    async def work(step: StepContext, input: Task) -> str:
        await store.cancel(step.run_id, token="elsewhere")
        return "end"

    run = await work.trigger(Task())
    assert await durably.process_one()
    assert (now := await durably.get_run(run.id)) is not None
    assert (now.status, now.output, now.lease_owner) == ("cancelled", None, None)
    assert heard == []


async def test_a_started_run_shows_its_owner(durably: Durably) -> None:
    """KER-9, LEA-1."""
    heard = hear(durably, "run:start")
    owners: list[str | None] = []

    @durably.job
    async def work(step: StepContext, input: Task) -> None:
        now = await durably.get_run(step.run_id)
        assert now is not None
        assert now.lease_expires_at is not None
        assert now.started_at is not None
        owners.append(now.lease_owner)

    await work.trigger(Task())
    await durably.process_one()
    (started,) = heard
    assert isinstance(started, RunStarted)
    assert (started.generation, started.resumed) == (1, False)
    assert owners == [worker.id for worker in await durably.get_workers()]


async def test_what_a_stale_owner_writes_is_refused_whatever_it_is(durably: Durably) -> None:
    """LEA-9, LEA-10, STA-1."""

    @durably.job
    async def work(step: StepContext, input: Task) -> None: ...

    run = await work.trigger(Task())
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    request = ClaimRequest(worker_id="w", jobs=["work"], limit=1, lease_seconds=30, max_crashes=5)
    [first] = (await store.claim(request)).claims
    await store.release([first.lease])
    [second] = (await store.claim(request)).claims
    before = await store.get_run(run.id)
    notes = Notes(progress=Progress(current=9))
    failure = Failed(error=RunError(type="ValueError", message="no"))
    assert await store.note(first.lease, notes) == "lost"
    assert await store.finish(first.lease, failure, Notes()) == "lost"
    assert await store.get_run(run.id) == before
    assert await store.note(second.lease, notes) == "applied"
    assert (now := await store.get_run(run.id)) is not None
    assert now.progress == Progress(current=9)
