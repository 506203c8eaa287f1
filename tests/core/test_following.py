"""Subscriptions: present state first, then everything once and in order, in whatever process."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    JobHandle,
    LogLine,
    NotRunningError,
    RunNotFoundError,
    RunSnapshot,
    RunsSnapshot,
    RunUpdate,
    RunVanished,
    StepContext,
    StepSnapshot,
    StoreBusyError,
    Subscription,
    ValidationError,
    define_job,
)
from tests.core.sample_jobs import Ledger, ledger


class Talk(BaseModel):
    steps: int = 3
    lines: int = 2
    fails: bool = False


async def talk(step: StepContext, input: Talk) -> int:
    """Log a few lines in each step, and between them."""
    for number in range(input.steps):

        async def say(number: int = number) -> int:
            for line in range(input.lines):
                step.log.info(f"{number}.{line}")
            return number

        await step.run(f"step-{number}", say)
        step.log.info(f"after {number}")
    step.progress(input.steps)
    if input.fails:
        raise ValueError("as asked")
    return input.steps


talking = define_job(name="talk", input=Talk, output=int, run=talk)


def said(steps: int = 3, lines: int = 2) -> list[str]:
    """What the job logs, in order."""
    return [
        text
        for number in range(steps)
        for text in (*(f"{number}.{n}" for n in range(lines)), f"after {number}")
    ]


async def collect(subscription: Subscription[RunUpdate]) -> list[RunUpdate]:
    async with asyncio.timeout(20):
        return [update async for update in subscription]


def heard(updates: list[RunUpdate]) -> list[str]:
    return [update.entry.message for update in updates if isinstance(update, LogLine)]


def states(updates: list[RunUpdate]) -> list[str]:
    return [update.run.status for update in updates if isinstance(update, RunSnapshot)]


def finished(updates: list[RunUpdate]) -> list[str]:
    return [
        update.step.name
        for update in updates
        if isinstance(update, StepSnapshot) and update.step.status == "completed"
    ]


def rises(updates: list[RunUpdate]) -> bool:
    """Whether the numbers of steps and lines rise without a repetition."""
    numbers = [
        update.step.sequence if isinstance(update, StepSnapshot) else update.entry.sequence
        for update in updates
        if isinstance(update, StepSnapshot | LogLine)
    ]
    return numbers == sorted(set(numbers))


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@pytest.fixture
def handle(durably: Durably) -> JobHandle[Talk, int]:
    return durably.register(talking)


# One run


async def test_a_run_is_followed_from_its_present_state_to_its_end(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk())
    following = asyncio.create_task(collect(durably.subscribe(run.id)))
    await asyncio.sleep(0)
    await durably.start()
    updates = await following
    assert isinstance(updates[0], RunSnapshot)
    assert isinstance(updates[-1], RunSnapshot)
    assert (states(updates)[0], states(updates)[-1]) == ("pending", "completed")
    assert updates[-1].run.output == 3
    assert heard(updates) == said()
    assert finished(updates) == ["step-0", "step-1", "step-2"]
    assert rises(updates)


async def test_a_late_subscriber_gets_the_state_then_the_whole_tail(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk(fails=True))
    await durably.process_one()
    updates = await collect(durably.subscribe(run.id))
    assert states(updates) == ["failed"]
    assert isinstance(updates[0], RunSnapshot)
    assert heard(updates) == said()
    assert finished(updates) == ["step-0", "step-1", "step-2"]


async def test_every_cursor_resumes_without_gap_or_repetition(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk())
    await durably.process_one()
    updates = await collect(durably.subscribe(run.id))
    assert len(updates) == 1 + 3 + 9
    for place, update in enumerate(updates):
        assert await collect(durably.subscribe(run.id, after=update.cursor)) == updates[place + 1 :]


async def test_a_cursor_resumes_in_the_middle_of_a_run(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk(steps=40))
    updates: list[RunUpdate] = []
    await durably.start()
    async with asyncio.timeout(20):
        while not updates or not (isinstance(updates[-1], RunSnapshot) and updates[-1].run.is_terminal):
            async for update in durably.subscribe(run.id, after=updates[-1].cursor if updates else None):
                updates.append(update)
                if len(updates) % 3 == 0:
                    break
    assert heard(updates) == said(40)
    assert rises(updates)


async def test_a_run_of_very_many_lines_is_told_in_portions(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk(steps=2, lines=450))
    await durably.process_one()
    assert heard(await collect(durably.subscribe(run.id))) == said(2, 450)


async def test_a_subscriber_that_sleeps_holds_no_more_than_a_portion_and_misses_nothing(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk(steps=30, lines=30))
    subscription = durably.subscribe(run.id)
    first = await anext(subscription)
    await durably.start()
    await durably.wait_for_run(run.id, timeout=20)
    assert len(subscription._portion) <= 100  # pyright: ignore[reportPrivateUsage]
    assert heard([first, *await collect(subscription)]) == said(30, 30)


async def test_a_step_is_told_while_it_runs(durably: Durably) -> None:
    gate = asyncio.Event()

    @durably.job
    async def hold(step: StepContext, input: Talk) -> None:
        await step.run("held", gate.wait)

    await durably.start()
    run = await hold.trigger(Talk())
    seen: list[str] = []
    async with asyncio.timeout(10):
        async for update in durably.subscribe(run.id):
            if isinstance(update, StepSnapshot):
                seen.append(update.step.status)
                gate.set()
    assert seen == ["running", "completed"]


async def test_a_run_that_is_retried_is_followed_on_from_the_same_cursor(durably: Durably) -> None:
    broken = True

    @durably.job
    async def flaky(step: StepContext, input: Talk) -> None:
        def work() -> None:
            step.log.info("trying")
            if broken:
                raise ValueError("no")

        await step.run("work", work)
        step.log.info("through")

    run = await flaky.trigger(Talk())
    await durably.process_one()
    first = await collect(durably.subscribe(run.id))
    broken = False
    await durably.retry(run.id)
    await durably.process_one()
    second = await collect(durably.subscribe(run.id, after=first[-1].cursor))
    assert (heard(first), heard(second)) == (["trying"], ["trying", "through"])
    assert finished(second) == ["work"]
    assert states(second)[-1] == "completed"
    assert rises([*first, *second])


async def test_a_thousand_fast_runs_are_followed_without_a_lost_or_doubled_line(durably: Durably) -> None:
    handle = durably.register(talking)
    await durably.start()

    async def one() -> None:
        run = await handle.trigger(Talk(steps=2, lines=1))
        updates = await collect(durably.subscribe(run.id))
        assert heard(updates) == said(2, 1)
        assert finished(updates) == ["step-0", "step-1"]
        assert states(updates)[-1] == "completed"

    for _ in range(10):
        await asyncio.gather(*(one() for _ in range(100)))


async def test_parallel_steps_and_their_threads_are_told_in_the_order_of_their_numbers(
    durably: Durably,
) -> None:
    @durably.job
    async def busy(step: StepContext, input: Talk) -> None:
        def work(number: int) -> None:
            for line in range(20):
                step.log.info(f"{number}.{line}")

        await asyncio.gather(*(step.run(f"s{number}", work, number) for number in range(8)))

    await durably.start()
    for _ in range(5):
        run = await busy.trigger(Talk())
        updates = await collect(durably.subscribe(run.id))
        assert sorted(heard(updates)) == sorted(f"{n}.{line}" for n in range(8) for line in range(20))
        assert sorted(finished(updates)) == [f"s{number}" for number in range(8)]
        assert rises(updates)


async def test_a_write_that_must_be_repeated_leaves_no_gap_behind_the_ones_after_it(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One branch's notes meet trouble while another branch goes on."""
    told: list[str] = []
    durably.on("log:write", lambda event: told.append(event.message))

    @durably.job
    async def two(step: StepContext, input: Talk) -> None:
        async def speak(name: str) -> None:
            step.log.info(f"{name} speaks")
            step.progress(1 if name == "first" else 2)

        await asyncio.gather(step.run("first", speak, "first"), step.run("second", speak, "second"))

    store = durably._store  # pyright: ignore[reportPrivateUsage]
    save_step, busy = store.save_step, [True]

    async def trouble(*args: object) -> object:
        if busy:
            busy.clear()
            raise StoreBusyError("for a moment")
        return await save_step(*args)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "save_step", trouble)
    run = await two.trigger(Talk())
    following = asyncio.create_task(collect(durably.subscribe(run.id)))
    await durably.start()
    updates = await following
    assert sorted(heard(updates)) == ["first speaks", "second speaks"]
    assert sorted(finished(updates)) == ["first", "second"]
    assert rises(updates)
    assert told == heard(updates)


async def test_a_deleted_run_ends_the_subscription_with_a_clear_word(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk())
    subscription = durably.subscribe(run.id)
    assert isinstance(await anext(subscription), RunSnapshot)
    await durably.cancel(run.id)
    await durably.delete_run(run.id)
    rest = await collect(subscription)
    assert rest == [RunVanished(run_id=run.id, cursor=rest[0].cursor)]


async def test_a_missing_run_is_an_error(durably: Durably) -> None:
    with pytest.raises(RunNotFoundError):
        await anext(durably.subscribe("nobody"))


@pytest.mark.parametrize("cursor", ["", "1", "a.b", "1.2.3", "-1.0", "١.٢"])
async def test_what_is_no_cursor_is_refused_at_once(durably: Durably, cursor: str) -> None:
    with pytest.raises(ValidationError) as caught:
        durably.subscribe("any", after=cursor)
    assert caught.value.fields == ("after",)


async def test_a_consumer_that_leaves_or_is_cancelled_leaves_nothing_behind(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    before = tasks()
    run = await handle.trigger(Talk())
    async for _ in durably.subscribe(run.id):
        break
    consumers = [asyncio.create_task(collect(durably.subscribe(run.id))) for _ in range(5)]
    everything = durably.subscribe_runs()
    await anext(everything)
    consumers.append(asyncio.create_task(anext(everything)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await asyncio.sleep(0.1)
    assert tasks() > before
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait(consumers)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tasks() == before
    assert not durably._waiters._watches  # pyright: ignore[reportPrivateUsage]
    gc.collect()


async def test_a_cancelled_wait_loses_no_update(durably: Durably, handle: JobHandle[Talk, int]) -> None:
    run = await handle.trigger(Talk())
    subscription = durably.subscribe(run.id)
    first = await anext(subscription)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(subscription)
    await durably.process_one()
    assert heard([first, *await collect(subscription)]) == said()


async def test_closing_the_instance_lets_subscribers_go(url: str) -> None:
    async with Durably(url, worker=False) as durably:
        handle = durably.register(talking)
        run = await handle.trigger(Talk())
        subscription = durably.subscribe(run.id)
        await anext(subscription)
        waiting = asyncio.create_task(collect(subscription))
        await asyncio.sleep(0.05)
    with pytest.raises(NotRunningError):
        await waiting


async def test_a_closed_subscription_tells_nothing_more(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk())
    await durably.process_one()
    async with durably.subscribe(run.id) as subscription:
        await anext(subscription)
    assert await collect(subscription) == []


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
