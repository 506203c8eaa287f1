"""Following one run: present state first, then everything once and in order."""

import asyncio
import gc
from pathlib import Path

import pytest
from typing_extensions import override

from durably import (
    Durably,
    JobHandle,
    NotRunningError,
    RealEnvironment,
    RunNotFoundError,
    RunSnapshot,
    RunUpdate,
    RunVanished,
    StepContext,
    StepSnapshot,
    StoreBusyError,
    ValidationError,
)
from durably.following import PACE
from durably.stores.watching import Tail
from tests.core.talking import Talk, collect, finished, heard, rises, said, states, talking


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@pytest.fixture
def handle(durably: Durably) -> JobHandle[Talk, int]:
    return durably.register(talking)


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


async def test_whoever_wants_only_the_news_is_told_the_state_and_what_comes_after_it(
    durably: Durably,
) -> None:
    gate = asyncio.Event()

    @durably.job
    async def pause(step: StepContext, input: Talk) -> None:
        await step.run("before", lambda: step.log.info("old"))
        await step.run("held", gate.wait)
        await step.run("after", lambda: step.log.info("new"))

    await durably.start()
    run = await pause.trigger(Talk())
    async for update in durably.subscribe(run.id):
        if isinstance(update, StepSnapshot) and update.step.name == "held":
            break
    news = durably.subscribe(run.id, replay=False)
    first = await anext(news)
    gate.set()
    updates = [first, *await collect(news)]

    assert states(updates)[0] == "running"
    assert heard(updates) == ["new"]
    assert finished(updates) == ["held", "after"]
    # Its cursors are like any other's.
    assert heard(await collect(durably.subscribe(run.id, after=first.cursor))) == ["new"]


async def test_the_news_of_a_run_that_has_ended_are_its_end(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk())
    await durably.process_one()
    updates = await collect(durably.subscribe(run.id, replay=False))
    assert states(updates) == ["completed"]
    assert len(updates) == 1
    # It is the cursor of one who has seen everything.
    assert await collect(durably.subscribe(run.id, after=updates[0].cursor)) == []


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


async def test_a_subscriber_who_is_looking_while_the_instance_closes_is_let_go_too(
    durably: Durably, handle: JobHandle[Talk, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await handle.trigger(Talk())
    subscription = durably.subscribe(run.id)
    await anext(subscription)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    follow = store.follow

    async def close_meanwhile(run_id: str, /, *, change: int, after: int, limit: int) -> Tail | None:
        tail = await follow(run_id, change=change, after=after, limit=limit)
        await durably.close()
        return tail

    monkeypatch.setattr(store, "follow", close_meanwhile)
    async with asyncio.timeout(5):
        with pytest.raises(NotRunningError, match="was closed"):
            await anext(subscription)


async def test_a_closed_subscription_tells_nothing_more(
    durably: Durably, handle: JobHandle[Talk, int]
) -> None:
    run = await handle.trigger(Talk())
    await durably.process_one()
    async with durably.subscribe(run.id) as subscription:
        await anext(subscription)
    assert await collect(subscription) == []


async def test_what_happens_while_a_subscriber_looks_wakes_it(
    durably: Durably, handle: JobHandle[Talk, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await handle.trigger(Talk())
    subscription = durably.subscribe(run.id)
    await anext(subscription)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    follow = store.follow

    async def cancelled_behind_its_back(run_id: str, *, change: int, after: int, limit: int) -> Tail | None:
        tail = await follow(run_id, change=change, after=after, limit=limit)
        monkeypatch.undo()
        await durably.cancel(run_id)
        return tail

    monkeypatch.setattr(store, "follow", cancelled_behind_its_back)
    assert states(await collect(subscription)) == ["cancelled"]


class Metronome(RealEnvironment):
    """A clock that moves on by so much at each look at it; notes the sleeps."""

    def __init__(self, step: float) -> None:
        self.sleeps: list[float] = []
        self._step = step
        self._looks = 0

    @override
    def monotonic(self) -> float:
        self._looks += 1
        return self._looks * self._step

    @override
    async def sleep(self, seconds: float, /) -> None:
        self.sleeps.append(seconds)
        await super().sleep(seconds)


@pytest.mark.parametrize(("step", "gathers"), [(1.0, False), (0.0, True)])
async def test_news_gathers_behind_other_news_and_is_told_at_once_after_a_quiet_time(
    tmp_path: Path, step: float, gathers: bool
) -> None:
    environment = Metronome(step)
    async with Durably(tmp_path / "app.db", worker=False, environment=environment) as durably:
        run = await durably.register(talking).trigger(Talk())
        updates = durably.subscribe(run.id)
        await anext(updates)
        told = asyncio.create_task(anext(updates))
        # It has looked, found nothing, and waits.
        watches = durably._waiters._watches  # pyright: ignore[reportPrivateUsage]
        while not any(watch.seen for watch in watches[run.id]):
            await asyncio.sleep(0)
        await durably.cancel(run.id)
        async with asyncio.timeout(30):
            await told
        assert (PACE in environment.sleeps) == gathers
