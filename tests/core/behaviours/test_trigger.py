"""TRG: triggering, keys, and what happens to a run that is not the only one of its key."""

import asyncio

import pytest
from pydantic import BaseModel

from durably import (
    Coalesce,
    ConflictError,
    Durably,
    Event,
    EventType,
    JobHandle,
    RunCancelledError,
    RunCoalesced,
    StepContext,
    ValidationError,
    define_job,
)
from tests.core.unchecked import unchecked


class Page(BaseModel):
    number: int = 0


async def sync(step: StepContext, input: Page) -> int:
    return input.number


SYNC = define_job(name="sync", input=Page, output=int, run=sync)
MODES: tuple[Coalesce, ...] = ("skip", "replace", "reject")


@pytest.fixture
def pages(durably: Durably) -> JobHandle[Page, int]:
    return durably.register(SYNC)


@pytest.fixture
def heard(durably: Durably) -> list[Event]:
    events: list[Event] = []
    names: tuple[EventType, ...] = ("run:trigger", "run:coalesced", "run:cancel")
    for name in names:
        durably.on(name)(events.append)
    return events


def told(heard: list[Event]) -> list[tuple[str, str]]:
    return [(event.type, str(getattr(event, "run_id", ""))) for event in heard]


async def test_a_trigger_is_told_once_and_a_known_key_is_not(
    pages: JobHandle[Page, int], heard: list[Event]
) -> None:
    """TRG-1, TRG-2."""
    run = await pages.trigger(Page(number=1), idempotency_key="i")
    again = await pages.trigger(Page(number=2), idempotency_key="i")
    assert (run.status, run.disposition) == ("pending", "created")
    assert (again.id, again.disposition, again.input) == (run.id, "idempotent", Page(number=1))
    assert told(heard) == [("run:trigger", run.id)]


@pytest.mark.parametrize("mode", MODES)
async def test_a_known_idempotency_key_wins_over_coalesce_and_conflict(
    durably: Durably, pages: JobHandle[Page, int], heard: list[Event], mode: Coalesce
) -> None:
    """TRG-3."""
    known = await pages.trigger(Page(), idempotency_key="i")
    waiting = await pages.trigger(Page(), concurrency_key="k")
    heard.clear()
    run = await pages.trigger(Page(), idempotency_key="i", concurrency_key="k", coalesce=mode)
    assert (run.id, run.disposition) == (known.id, "idempotent")
    assert heard == []
    assert (still := await durably.get_run(waiting.id)) is not None
    assert still.status == "pending"


async def test_without_coalesce_runs_of_a_key_queue(pages: JobHandle[Page, int]) -> None:
    """TRG-4, TRG-7: where the reference allows one pending run, ours queue."""
    runs = [await pages.trigger(Page(), concurrency_key="k") for _ in range(3)]
    assert [(run.status, run.disposition) for run in runs] == [("pending", "created")] * 3


async def test_reject_is_a_conflict_that_names_the_run_in_the_way(
    durably: Durably, pages: JobHandle[Page, int], heard: list[Event]
) -> None:
    """TRG-4."""
    first = await pages.trigger(Page(), concurrency_key="k", coalesce="reject")
    with pytest.raises(ConflictError, match="'replace' would take its place") as caught:
        await pages.trigger(Page(), concurrency_key="k", coalesce="reject")
    assert (caught.value.run_id, caught.value.status) == (first.id, "pending")
    assert first.id in str(caught.value)
    assert [run.id for run in await durably.get_runs()] == [first.id]
    assert told(heard) == [("run:trigger", first.id)]


async def test_skip_answers_the_waiting_run_with_its_own_input_and_labels(
    pages: JobHandle[Page, int], heard: list[Event]
) -> None:
    """TRG-5."""
    first = await pages.trigger(Page(number=1), concurrency_key="k", labels={"a": "first"})
    run = await pages.trigger(Page(number=2), concurrency_key="k", labels={"b": "second"}, coalesce="skip")
    assert (run.id, run.disposition) == (first.id, "coalesced")
    assert (run.input, run.labels) == (Page(number=1), {"a": "first"})
    await pages.trigger(Page(number=3), concurrency_key="k", coalesce="skip")

    assert told(heard) == [("run:trigger", first.id)] + [("run:coalesced", first.id)] * 2
    events = [event for event in heard if isinstance(event, RunCoalesced)]
    assert [(event.job_name, event.labels) for event in events] == [("sync", {"a": "first"})] * 2
    assert [(event.skipped_input, event.skipped_labels) for event in events] == [
        (Page(number=2), {"b": "second"}),
        (Page(number=3), {}),
    ]
    # Payloads are private.
    assert "number" not in repr(events[0])


async def test_replace_cancels_the_waiting_run_and_tells_both(
    durably: Durably, pages: JobHandle[Page, int], heard: list[Event]
) -> None:
    first = await pages.trigger(Page(number=1), concurrency_key="k")
    waiting = asyncio.create_task(durably.wait_for_run(first.id))
    await asyncio.sleep(0.01)
    second = await pages.trigger(Page(number=2), concurrency_key="k", coalesce="replace")
    assert second.disposition == "created"
    assert sorted(told(heard)) == sorted([
        ("run:trigger", first.id), ("run:trigger", second.id), ("run:cancel", first.id),
    ])  # fmt: skip
    async with asyncio.timeout(5):
        with pytest.raises(RunCancelledError):
            await waiting
    assert await durably.process_until_idle() == 1
    assert (await durably.wait_for_run(second.id)).output == 2


@pytest.mark.parametrize(
    "options", [{"coalesce": "skip"}, {"coalesce": "queue", "concurrency_key": "k"}, {"coalesce": ""}]
)
async def test_coalesce_needs_a_key_and_a_known_value(
    durably: Durably, pages: JobHandle[Page, int], options: dict[str, object]
) -> None:
    """TRG-6."""
    message = "needs a concurrency_key" if options == {"coalesce": "skip"} else "'skip', 'replace', 'reject'"
    for call in (
        unchecked(pages.trigger)(Page(), **options),
        unchecked(pages.trigger_and_wait)(Page(), **options),
        unchecked(pages.batch_trigger)([Page()], **options),
    ):
        with pytest.raises(ValidationError, match=message) as caught:
            await call
        assert caught.value.fields == ("coalesce",)
    assert await durably.get_runs() == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_running_run_is_never_touched(durably: Durably, mode: Coalesce, heard: list[Event]) -> None:
    """TRG-7."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def body(step: StepContext, input: Page) -> int:
        begun.set()
        await gate.wait()
        return input.number

    handle = durably.register(define_job(name="slow", input=Page, output=int, run=body))
    await durably.start()
    running = await handle.trigger(Page(number=1), concurrency_key="k")
    await begun.wait()
    second = await handle.trigger(Page(number=2), concurrency_key="k", coalesce=mode)
    assert second.disposition == "created"
    assert [event.type for event in heard] == ["run:trigger", "run:trigger"]
    if mode == "reject":
        with pytest.raises(ConflictError):
            await handle.trigger(Page(number=3), concurrency_key="k", coalesce=mode)
    gate.set()
    assert (await durably.wait_for_run(running.id, timeout=5)).output == 1
    assert (await durably.wait_for_run(second.id, timeout=5)).output == 2


@pytest.mark.parametrize("mode", MODES)
async def test_different_keys_and_no_key_are_independent(pages: JobHandle[Page, int], mode: Coalesce) -> None:
    """TRG-8."""
    await pages.trigger(Page(), concurrency_key="a", coalesce=mode)
    await pages.trigger(Page())
    assert (await pages.trigger(Page(), concurrency_key="b", coalesce=mode)).disposition == "created"
    assert (await pages.trigger(Page())).disposition == "created"


async def test_whoever_waits_on_a_coalesced_trigger_gets_the_originals_output(
    durably: Durably, pages: JobHandle[Page, int]
) -> None:
    """TRG-9."""
    first = await pages.trigger(Page(number=1), concurrency_key="k")
    waiting = asyncio.create_task(
        pages.trigger_and_wait(Page(number=2), concurrency_key="k", coalesce="skip")
    )
    await asyncio.sleep(0.01)
    await durably.process_until_idle()
    result = await waiting
    assert (result.id, result.output, result.disposition) == (first.id, 1, "coalesced")


async def test_labels_stay_with_the_run_for_its_whole_life(
    durably: Durably, pages: JobHandle[Page, int]
) -> None:
    """TRG-10, TRG-11."""
    labels = {"app.kubernetes.io/name": "post", "a_b-c": "1"}
    run = await pages.trigger(Page(), labels=labels)
    labels["later"] = "x"
    await durably.cancel(run.id)
    await durably.retry(run.id)
    await durably.process_one()
    assert (done := await durably.get_run(run.id)) is not None
    assert done.labels == {"app.kubernetes.io/name": "post", "a_b-c": "1"}
    assert [found.id for found in await durably.get_runs(labels={"app.kubernetes.io/name": "post"})] == [
        run.id
    ]
    assert (await pages.trigger(Page())).labels == {}


@pytest.mark.parametrize("how", ["invoke", "spawn"])
@pytest.mark.parametrize("option", [{"coalesce": "skip", "concurrency_key": "k"}, {"idempotency_key": "i"}])
async def test_a_child_is_its_own_run_and_cannot_be_another(
    durably: Durably, pages: JobHandle[Page, int], how: str, option: dict[str, object]
) -> None:
    """TRG-5: a parent that waits for its child must not be given the run of somebody else."""

    @durably.job
    async def parent(step: StepContext, input: Page) -> None:
        await unchecked(getattr(step, how))("child", pages, input, **option)

    run = await parent.trigger(Page())
    await durably.process_one()
    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.error is not None
    assert "takes no idempotency_key and no coalesce" in failed.error.message
    assert [found.id for found in await durably.get_runs()] == [run.id]
