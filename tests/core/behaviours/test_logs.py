"""LOG, and the switches that keep logs and results out of the store."""

import asyncio

import pytest
from pydantic import BaseModel

from durably import Durably, LogWritten, StepContext


class Nothing(BaseModel):
    pass


async def test_a_line_has_its_level_fields_and_step(durably: Durably) -> None:
    """LOG-1, LOG-2."""

    @durably.job
    async def talk(step: StepContext, input: Nothing) -> None:
        step.log.info("one", a=1)
        await step.run("inside", step.log.warning, "two")
        step.log.warning("three", b=[1, {"c": None}])
        step.log.error("four")

    events: list[LogWritten] = []
    durably.on("log:write", events.append)
    run = await talk.trigger(Nothing())
    await durably.process_one()
    expected: list[tuple[str, str, dict[str, object], str | None]] = [
        ("info", "one", {"a": 1}, None),
        ("warning", "two", {}, "inside"),
        ("warning", "three", {"b": [1, {"c": None}]}, None),
        ("error", "four", {}, None),
    ]
    stored = await durably.get_logs(run.id)
    assert [(line.level, line.message, dict(line.fields), line.step_name) for line in stored] == expected
    assert [(line.level, line.message, dict(line.fields), line.step_name) for line in events] == expected
    assert {event.run_id for event in events} == {run.id}


@pytest.mark.parametrize("flushed", [False, True])
async def test_logs_that_are_not_kept_are_told_all_the_same(url: str, flushed: bool) -> None:
    """PLG-1: where the reference needs a plugin to store them, ours has a switch not to."""
    durably = Durably(url, persist_logs=False, polling_interval=60)
    await durably.migrate()
    heard: list[str] = []
    told = asyncio.Event()

    def hear(event: LogWritten) -> None:
        heard.append(event.message)
        told.set()

    durably.on("log:write", hear)

    @durably.job
    async def talk(step: StepContext, input: Nothing) -> None:
        step.log.info("one")
        if flushed:
            # Nothing else is to be written: the timer alone brings it out.
            await told.wait()
        await step.run("work", step.log.info, "two")
        step.progress(1)

    run = await talk.trigger(Nothing())
    async with asyncio.timeout(5):
        assert await durably.process_one()
    assert heard == ["one", "two"]
    assert await durably.get_logs(run.id) == []
    assert (done := await durably.get_run(run.id)) is not None
    assert done.progress is not None
    await durably.close()


async def test_results_that_are_not_kept_go_when_the_run_completes_and_not_before(url: str) -> None:
    """STP-11, KER-1."""
    durably = Durably(url, keep_results=False, polling_interval=60)
    await durably.migrate()
    calls: list[str] = []

    @durably.job
    async def work(step: StepContext, input: Nothing) -> int:
        first = await step.run("first", lambda: len(calls) + 41, result=int)
        calls.append("execution")
        if len(calls) == 1:
            raise RuntimeError("stumble")
        return first

    run = await work.trigger(Nothing())
    await durably.process_one()
    # A run that failed can be retried, and needs them.
    assert [step.result for step in await durably.get_steps(run.id)] == [41]
    await durably.retry(run.id)
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.completed_step_count) == (41, 1)
    steps = await durably.get_steps(run.id)
    assert [(step.name, step.status, step.result) for step in steps] == [("first", "completed", None)]
    await durably.close()


async def test_results_are_kept_unless_told_otherwise(durably: Durably) -> None:
    """STP-11."""

    @durably.job
    async def work(step: StepContext, input: Nothing) -> None:
        await step.run("first", lambda: 41, result=int)

    run = await work.trigger(Nothing())
    await durably.process_one()
    assert [step.result for step in await durably.get_steps(run.id)] == [41]
