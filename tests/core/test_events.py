"""Events follow the commit, in order, and harm nobody."""

import asyncio

import pytest
from pydantic import BaseModel

from durably import (
    ConfigurationError,
    Durably,
    Event,
    EventType,
    LogWritten,
    RunCompleted,
    RunFailed,
    StepContext,
    is_domain_event,
)
from tests.core.unchecked import unchecked

ALL: tuple[EventType, ...] = (
    "run:trigger", "run:start", "run:progress", "run:complete", "run:fail", "run:cancel",
    "run:retry", "run:release", "run:delete", "step:start", "step:complete", "step:fail",
    "step:cancel", "log:write", "worker:error",
)  # fmt: skip


class Nothing(BaseModel):
    pass


def listen(durably: Durably) -> list[Event]:
    seen: list[Event] = []
    for name in ALL:
        durably.on(name)(seen.append)
    return seen


async def test_a_runs_events_come_in_order_the_terminal_one_last(durably: Durably) -> None:
    seen = listen(durably)

    @durably.job
    async def story(step: StepContext, input: Nothing) -> str:
        step.progress(0, 2)

        async def work() -> int:
            step.log.info("inside")
            return 1

        await step.run("one", work)
        step.log.info("outside")
        step.progress(2, 2)
        return "end"

    run = await story.trigger(Nothing(), labels={"a": "b"})
    await durably.process_one()

    assert [event.type for event in seen] == [
        "run:trigger",
        "run:start",
        "step:start",
        "run:progress",
        "log:write",
        "step:complete",
        "log:write",
        "run:progress",
        "run:complete",
    ]
    assert [event.sequence for event in seen] == list(range(1, 10))
    assert all(event.created_at.utcoffset() is not None for event in seen)
    done = seen[-1]
    assert isinstance(done, RunCompleted)
    assert (done.run_id, done.job_name, done.labels, done.output) == (
        run.id, "story", {"a": "b"}, "end",
    )  # fmt: skip
    assert [event.step_name for event in seen if isinstance(event, LogWritten)] == ["one", None]
    assert [event.type for event in seen if is_domain_event(event)] == [
        "run:trigger",
        "run:complete",
    ]


async def test_an_event_about_a_state_is_told_once_the_state_is_stored(durably: Durably) -> None:
    states: list[tuple[str, str]] = []
    looks: list[asyncio.Task[None]] = []

    async def look(event: RunCompleted | RunFailed) -> None:
        run = await durably.get_run(event.run_id)
        assert run is not None
        states.append((event.type, run.status))

    durably.on("run:complete", look)
    durably.on("run:fail", look)

    @durably.job
    async def fate(step: StepContext, input: Nothing) -> None:
        if step.run_id == failing.id:
            raise ValueError("no")

    await fate.trigger(Nothing())
    failing = await fate.trigger(Nothing())
    await durably.process_until_idle()
    await durably.stop()
    async with asyncio.timeout(5):
        while len(states) < 2:
            await asyncio.sleep(0)
    assert sorted(states) == [("run:complete", "completed"), ("run:fail", "failed")]
    assert looks == []


async def test_verbs_of_people_are_told_too(durably: Durably) -> None:
    seen = listen(durably)

    @durably.job
    async def idle(step: StepContext, input: Nothing) -> None: ...

    run = await idle.trigger(Nothing(), idempotency_key="k")
    await idle.trigger(Nothing(), idempotency_key="k")
    await durably.cancel(run.id)
    await durably.retry(run.id)
    await durably.cancel(run.id)
    await durably.delete_run(run.id)
    assert [event.type for event in seen] == [
        "run:trigger", "run:cancel", "run:retry", "run:cancel", "run:delete",
    ]  # fmt: skip


async def test_a_step_cut_off_by_a_cancel_is_cancelled_not_failed(durably: Durably) -> None:
    seen = listen(durably)
    begun = asyncio.Event()

    @durably.job
    async def long(step: StepContext, input: Nothing) -> None:
        async def wait() -> None:
            begun.set()
            await asyncio.Event().wait()

        await step.run("wait", wait)

    await durably.start()
    run = await long.trigger(Nothing())
    await begun.wait()
    await durably.cancel(run.id)
    await durably.stop()
    kinds = [event.type for event in seen]
    assert "step:cancel" in kinds
    assert "step:fail" not in kinds
    assert "run:fail" not in kinds
    assert kinds.count("run:cancel") == 1


async def test_a_handler_that_raises_harms_neither_run_nor_others(durably: Durably) -> None:
    errors: list[str] = []
    seen: list[str] = []

    def broken(event: RunCompleted) -> None:
        raise RuntimeError("plain")

    async def broken_later(event: RunCompleted) -> None:
        raise RuntimeError("async")

    durably.on("run:complete", broken)
    durably.on("run:complete", broken_later)
    durably.on("run:complete", lambda event: seen.append(event.run_id))
    durably.on_error(lambda error, event: errors.append(f"{event.type} {error}"))

    @durably.job
    async def fine(step: StepContext, input: Nothing) -> None: ...

    run = await fine.trigger(Nothing())
    await durably.process_one()
    await asyncio.sleep(0.01)
    assert seen == [run.id]
    assert sorted(errors) == ["run:complete async", "run:complete plain"]


async def test_an_unsubscribed_handler_hears_nothing(durably: Durably) -> None:
    seen: list[Event] = []
    stop_one = durably.on("run:trigger", seen.append)
    stop_two = durably.on("run:trigger", seen.append)

    @durably.job
    async def idle(step: StepContext, input: Nothing) -> None: ...

    await idle.trigger(Nothing())
    stop_one()
    stop_one()
    await idle.trigger(Nothing())
    stop_two()
    await idle.trigger(Nothing())
    assert len(seen) == 3


def test_an_event_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="run:complete"):
        unchecked(Durably(":memory:").on)("run:leased", print)


async def test_a_step_that_has_ended_is_replayed_and_not_started_again(durably: Durably) -> None:
    seen: list[tuple[str, str]] = []
    durably.on("step:start", lambda event: seen.append((event.type, event.step_name)))
    durably.on("step:replay", lambda event: seen.append((event.type, event.step_name)))

    @durably.job
    async def flaky(step: StepContext, input: Nothing) -> None:
        await step.run("first", lambda: asyncio.sleep(0))
        await step.sleep("pause", 0.01)
        if step.attempt == 1:
            raise ValueError("no")

    run = await flaky.trigger(Nothing())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()
    assert seen == [("step:start", "first"), ("step:replay", "first"), ("step:replay", "pause")]
