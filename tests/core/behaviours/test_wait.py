"""WAI: waiting for runs, and hearing of them meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    JobHandle,
    LogWritten,
    Progress,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    StepContext,
    ValidationError,
    WaitTimeoutError,
    define_job,
)
from tests.core.unchecked import unchecked


class Plan(BaseModel):
    steps: int = 2
    fail: bool = False


async def talk(step: StepContext, input: Plan) -> str:
    for number in range(input.steps):
        step.progress(number, input.steps, f"step {number}")
        await step.run(f"step-{number}", step.log.info, f"in {number}")
        step.log.warning("after", number=number)
    if input.fail:
        raise ValueError("no")
    return "end"


TALK = define_job(name="talk", input=Plan, output=str, run=talk)


@pytest.fixture
def talker(durably: Durably) -> JobHandle[Plan, str]:
    return durably.register(TALK)


async def test_whoever_triggers_and_waits_hears_progress_and_logs_in_order(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """WAI-1."""
    progress: list[Progress] = []
    lines: list[LogWritten] = []
    await durably.start()
    other = await talker.trigger(Plan(steps=5))
    result = await talker.trigger_and_wait(
        Plan(), timeout=5, on_progress=progress.append, on_log=lines.append
    )
    await durably.wait_for_run(other.id, timeout=5)
    assert (result.output, result.disposition) == ("end", "created")
    assert [(one.current, one.total, one.message) for one in progress] == [(0, 2, "step 0"), (1, 2, "step 1")]
    assert [(one.level, one.message, dict(one.fields), one.step_name) for one in lines] == [
        ("info", "in 0", {}, "step-0"),
        ("warning", "after", {"number": 0}, None),
        ("info", "in 1", {}, "step-1"),
        ("warning", "after", {"number": 1}, None),
    ]
    assert {one.run_id for one in lines} == {result.id}


async def test_what_was_told_before_the_wait_is_not_told_again(durably: Durably) -> None:
    """WAI-3."""
    gate, begun = asyncio.Event(), asyncio.Event()

    @durably.job
    async def pause(step: StepContext, input: Plan) -> None:
        async def first() -> None:
            step.log.info("before")

        await step.run("first", first)
        begun.set()
        await gate.wait()
        step.log.info("after")

    heard: list[str] = []
    await durably.start()
    run = await pause.trigger(Plan())
    await begun.wait()
    waiting = asyncio.create_task(
        durably.wait_for_run(run.id, timeout=5, on_log=lambda line: heard.append(line.message))
    )
    await asyncio.sleep(0.01)
    gate.set()
    await waiting
    assert heard == ["after"]
    # A run that has ended tells nothing at all.
    await durably.wait_for_run(
        run.id, on_log=lambda line: heard.append("again"), on_progress=lambda one: heard.append("again")
    )
    assert heard == ["after"]


async def test_after_the_wait_nothing_is_heard_any_more(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """WAI-3, WAI-4."""
    heard: list[object] = []
    run = await talker.trigger(Plan())
    with pytest.raises(WaitTimeoutError):
        await durably.wait_for_run(run.id, timeout=0.01, on_log=heard.append, on_progress=heard.append)
    bus = durably._bus  # pyright: ignore[reportPrivateUsage]
    assert not bus.wants("log:write")
    assert not bus.wants("run:progress")
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == "end"
    assert heard == []


async def test_a_callback_that_raises_harms_neither_the_wait_nor_the_run(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """WAI-1, EVT-3."""
    errors: list[str] = []
    durably.on_error(lambda error, event: errors.append(f"{event.type}: {error!r}"))

    def broken(progress: Progress) -> None:
        raise RuntimeError("mine")

    async def broken_later(line: LogWritten) -> None:
        raise RuntimeError("mine too")

    await durably.start()
    result = await talker.trigger_and_wait(Plan(steps=1), timeout=5, on_progress=broken, on_log=broken_later)
    await asyncio.sleep(0)
    assert result.output == "end"
    assert errors.count("run:progress: RuntimeError('mine')") == 1
    assert errors.count("log:write: RuntimeError('mine too')") == 2


async def test_trigger_and_wait_tells_how_the_run_ended(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """WAI-1."""
    await durably.start()
    with pytest.raises(RunFailedError, match="ValueError: no"):
        await talker.trigger_and_wait(Plan(fail=True), timeout=5)
    await durably.stop()
    waiting = asyncio.create_task(talker.trigger_and_wait(Plan(), timeout=5))
    await asyncio.sleep(0.01)
    (run,) = await durably.get_runs(status="pending")
    await durably.cancel(run.id)
    with pytest.raises(RunCancelledError, match=run.id):
        await waiting


async def test_every_end_settles_at_once_when_it_has_come_already(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """WAI-2."""
    good, bad, gone = await talker.batch_trigger([Plan(), Plan(fail=True), Plan()])
    await durably.cancel(gone.id)
    await durably.process_until_idle()
    assert (await durably.wait_for_run(good.id, timeout=5)).output == "end"
    with pytest.raises(RunFailedError):
        await durably.wait_for_run(bad.id, timeout=5)
    with pytest.raises(RunCancelledError):
        await durably.wait_for_run(gone.id, timeout=5)
    with pytest.raises(RunNotFoundError):
        await durably.wait_for_run("missing", timeout=5)


Wait = Callable[..., Awaitable[object]]


@pytest.mark.parametrize("option", ["polling_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "1s", True])
async def test_durations_that_cannot_be_are_refused(
    durably: Durably, talker: JobHandle[Plan, str], option: str, value: object
) -> None:
    """WAI-4."""
    run = await talker.trigger(Plan())
    with pytest.raises(ValidationError, match=f"{option} must be a positive number of seconds"):
        await unchecked(durably.wait_for_run)(run.id, **{option: value})


async def test_a_wait_may_poll_more_often_than_its_instance(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """WAI-4: no event tells of this end, and the instance itself polls once a minute."""
    run = await talker.trigger(Plan())
    patient = asyncio.create_task(durably.wait_for_run(run.id))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(durably.wait_for_run(run.id, polling_interval=0.005))
    await asyncio.sleep(0.01)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    await store.cancel(run.id, token="unheard")
    async with asyncio.timeout(5):
        for one in (waiting, patient):
            with pytest.raises(RunCancelledError):
                await one


async def test_without_news_a_wait_polls_at_its_instances_interval(url: str) -> None:
    """WAI-4."""
    durably = Durably(url, polling_interval=0.005)
    await durably.migrate()
    run = await durably.register(TALK).trigger(Plan())
    waiting = asyncio.create_task(durably.wait_for_run(run.id))
    await asyncio.sleep(0.01)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    await store.cancel(run.id, token="unheard")
    async with asyncio.timeout(5):
        with pytest.raises(RunCancelledError):
            await waiting
    await durably.close()


async def test_a_deletion_in_this_process_is_heard_at_once(
    durably: Durably, talker: JobHandle[Plan, str]
) -> None:
    """BUG-22: polls once a minute, and the cancellation before was not told."""
    run = await talker.trigger(Plan())
    waiting = asyncio.create_task(durably.wait_for_run(run.id))
    await asyncio.sleep(0.01)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    await store.cancel(run.id, token="unheard")
    await durably.delete_run(run.id)
    async with asyncio.timeout(5):
        with pytest.raises(RunNotFoundError):
            await waiting


async def test_a_deletion_elsewhere_is_noticed(another: Callable[..., Durably]) -> None:
    """WAI-5."""
    here, there = another(worker=False), another(worker=False)
    await here.init()
    await there.init()
    run = await here.register(TALK).trigger(Plan())
    waiting = asyncio.create_task(here.wait_for_run(run.id))
    await asyncio.sleep(0.01)
    store = there._store  # pyright: ignore[reportPrivateUsage]
    # In one go, so that it is never seen cancelled.
    await asyncio.gather(store.cancel(run.id, token="t"), store.delete(run.id, token="t"))
    async with asyncio.timeout(5):
        with pytest.raises(RunNotFoundError):
            await waiting
