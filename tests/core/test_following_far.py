"""Following runs of other processes, and all runs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durably import (
    Durably,
    JobHandle,
    Run,
    RunCancelledError,
    RunSnapshot,
    RunsSnapshot,
    RunUpdate,
    StepSnapshot,
    ValidationError,
    WorkerError,
)
from durably.errors import StoreBusyError
from durably.stores.watching import Tail
from tests.core.sample_jobs import Ledger, ledger
from tests.core.talking import Talk, collect, finished, heard, rises, said, states, talking


@pytest.fixture
def handle(durably: Durably) -> JobHandle[Talk, int]:
    return durably.register(talking)


async def apart(another: Callable[..., Durably]) -> tuple[Durably, Durably, Run]:
    """Two instances on one database, as of two processes, and a run that the second one triggered."""
    here, there = another(worker=False), another(worker=False)
    await here.init()
    await there.init()
    return here, there, await there.register(talking).trigger(Talk())


# Other processes


async def test_a_run_of_another_instance_is_followed_without_polling(another: Callable[..., Durably]) -> None:
    worker, watcher = another(jobs=[talking]), another(worker=False)
    await worker.init()
    await watcher.init()
    for _ in range(5):
        run = await watcher.register(talking).trigger(Talk(steps=20))
        updates = await collect(watcher.subscribe(run.id))
        assert heard(updates) == said(20)
        assert finished(updates) == [f"step-{number}" for number in range(20)]
        assert rises(updates)
        assert states(updates)[-1] == "completed"


async def test_what_another_process_does_while_a_subscriber_looks_wakes_it(
    another: Callable[..., Durably], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, run = await apart(another)
    subscription = here.subscribe(run.id)
    await anext(subscription)
    store, waiters = here._store, here._waiters  # pyright: ignore[reportPrivateUsage]
    follow = store.follow

    async def cancelled_behind_its_back(run_id: str, *, change: int, after: int, limit: int) -> Tail | None:
        tail = await follow(run_id, change=change, after=after, limit=limit)
        monkeypatch.undo()
        rings = waiters._bell.rings  # pyright: ignore[reportPrivateUsage]
        await there.cancel(run_id)
        while waiters._bell.rings == rings:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.005)
        return tail

    monkeypatch.setattr(store, "follow", cancelled_behind_its_back)
    assert states(await collect(subscription)) == ["cancelled"]


async def test_trouble_that_passes_at_once_costs_a_waiter_no_polling_interval(
    another: Callable[..., Durably], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, run = await apart(another)
    store, waiters = here._store, here._waiters  # pyright: ignore[reportPrivateUsage]
    troubles: list[WorkerError] = []
    here.on("worker:error", troubles.append)

    async def busy_once(seen: object) -> object:
        monkeypatch.undo()
        raise StoreBusyError("busy")

    monkeypatch.setattr(store, "news", busy_once)
    waiting = asyncio.create_task(here.wait_for_run(run.id))
    async with asyncio.timeout(30):
        while not any(watch.seen for watch in waiters._watches[run.id]):  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.005)
        await there.cancel(run.id)
        with pytest.raises(RunCancelledError):
            await waiting
    assert [trouble.context for trouble in troubles] == ["wait"]


async def test_one_look_serves_all_subscribers_of_a_process(
    another: Callable[..., Durably], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, watcher = another(worker=False), another(worker=False)
    await writer.init()
    await watcher.init()
    handle = writer.register(talking)
    runs = [await handle.trigger(Talk()) for _ in range(20)]
    store = watcher._store  # pyright: ignore[reportPrivateUsage]
    news, follow = store.news, store.follow
    looks: list[int] = []
    reads: list[str] = []

    async def counted_news(seen: object) -> object:
        looks.append(len(seen))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return await news(seen)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def counted_follow(run_id: str, **options: int) -> object:
        reads.append(run_id)
        return await follow(run_id, **options)

    monkeypatch.setattr(store, "news", counted_news)
    monkeypatch.setattr(store, "follow", counted_follow)
    consumers = [asyncio.create_task(collect(watcher.subscribe(run.id))) for run in runs]
    async with asyncio.timeout(10):
        while len(reads) < 20:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    looks.clear()
    reads.clear()
    await writer.cancel(runs[7].id)
    assert states(await consumers[7])[-1] == "cancelled"
    assert 1 <= len(looks) <= 3
    assert max(looks) == 20
    assert set(reads) == {runs[7].id}
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait(consumers)


async def test_a_run_is_followed_across_the_death_of_its_worker(
    another: Callable[..., Durably], file_url: str, tmp_path: Path
) -> None:
    watcher = another(worker=False)
    await watcher.init()
    effects, hold = tmp_path / "effects", tmp_path / "effects.hold"
    hold.touch()

    def spawn() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.sample_jobs", file_url, json.dumps({})],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    first = spawn()
    second: subprocess.Popen[str] | None = None
    try:
        run = await watcher.register(ledger).trigger(Ledger(path=str(effects), stuck=3))
        updates: list[RunUpdate] = []
        async with asyncio.timeout(20):
            async for update in watcher.subscribe(run.id):
                updates.append(update)
                if isinstance(update, StepSnapshot) and update.step.name == "step-3" and second is None:
                    assert update.step.status == "running"
                    os.kill(first.pid, signal.SIGKILL)
                    hold.unlink()
                    second = spawn()
        assert finished(updates) == [f"step-{number}" for number in range(5)]
        assert rises(updates)
        assert states(updates)[-1] == "completed"
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


# All runs


async def test_all_runs_are_told_at_first_and_then_each_change(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    old = [await handle.trigger(Talk()) for _ in range(3)]
    subscription = durably.subscribe_runs(limit=2)
    page = await anext(subscription)
    assert isinstance(page, RunsSnapshot)
    assert [run.id for run in page.runs] == [old[2].id, old[1].id]
    new = await handle.trigger(Talk())
    await durably.cancel(old[0].id)
    async with asyncio.timeout(10):
        told = [await anext(subscription), await anext(subscription)]
        await durably.process_one()
        while not (isinstance(told[-1], RunSnapshot) and told[-1].run.status == "completed"):
            told.append(await anext(subscription))
    changes = [(update.run.id, update.run.status) for update in told if isinstance(update, RunSnapshot)]
    assert changes[:2] == [(new.id, "pending"), (old[0].id, "cancelled")]
    assert changes[-1] == (old[1].id, "completed")
    cursors = [int(update.cursor) for update in (page, *told)]
    assert cursors == sorted(set(cursors))


async def test_changes_are_told_from_a_cursor_also_those_of_another_process(
    another: Callable[..., Durably],
) -> None:
    here, there = another(worker=False), another(worker=False)
    await here.init()
    await there.init()
    handle = there.register(talking)
    run = await handle.trigger(Talk())
    subscription = here.subscribe_runs(job_name="talk")
    first = await anext(subscription)
    assert isinstance(first, RunsSnapshot)
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0.05)
    await there.cancel(run.id)
    update = await asyncio.wait_for(waiting, 5)
    assert isinstance(update, RunSnapshot)
    assert (update.run.id, update.run.status) == (run.id, "cancelled")
    await there.retry(run.id)
    again = here.subscribe_runs(after=first.cursor)
    resumed = await asyncio.wait_for(anext(again), 5)
    assert isinstance(resumed, RunSnapshot)
    assert resumed.run.status == "pending"


async def test_runs_that_do_not_fit_are_not_told(durably: Durably, handle: JobHandle[Talk, int]) -> None:
    subscription = durably.subscribe_runs(status="cancelled", job_name=["talk"], labels={"a": "b"})
    assert isinstance(await anext(subscription), RunsSnapshot)
    for labels in ({"a": "b"}, {"a": "c"}):
        run = await handle.trigger(Talk(), labels=labels)
        await durably.cancel(run.id)
        other = await handle.trigger(Talk(), labels=labels)
        assert other.status == "pending"
    async with asyncio.timeout(5):
        update = await anext(subscription)
    assert isinstance(update, RunSnapshot)
    assert update.run.labels == {"a": "b"}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(subscription)


async def test_a_consumer_that_sleeps_is_told_the_present_state_of_each_run_once(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    subscription = durably.subscribe_runs()
    await anext(subscription)
    runs = [await handle.trigger(Talk()) for _ in range(150)]
    await durably.start()
    await asyncio.gather(*(durably.wait_for_run(run.id, timeout=20) for run in runs))
    assert not subscription._portion  # pyright: ignore[reportPrivateUsage]
    async with asyncio.timeout(5):
        told = [await anext(subscription) for _ in runs]
    assert {update.run.id for update in told if isinstance(update, RunSnapshot)} == {run.id for run in runs}
    assert all(isinstance(update, RunSnapshot) and update.run.status == "completed" for update in told)


async def test_what_cannot_be_watched_is_refused_at_once(durably: Durably) -> None:
    for wrong in ({"after": "1.2"}, {"limit": -1}, {"status": "leased"}, {"labels": {"": "x"}}):
        with pytest.raises(ValidationError):
            durably.subscribe_runs(**wrong)  # pyright: ignore[reportArgumentType]
