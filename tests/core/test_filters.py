import asyncio
from datetime import UTC, datetime
from itertools import product

import pytest

from durably import Durably, RunFilter, RunSnapshot, RunsSnapshot, StepContext, ValidationError, job
from durably.filters import run_filter
from tests.core.unchecked import unchecked

ASKED = [
    RunFilter(),
    RunFilter(status=("pending",)),
    RunFilter(status=("cancelled", "pending")),
    RunFilter(job_name=("echo",)),
    RunFilter(job_name=("other",)),
    RunFilter(labels={"org": "a"}),
    RunFilter(labels={"org": "b", "kind": "x"}),
    RunFilter(created_since=datetime(2020, 1, 1, tzinfo=UTC)),
    RunFilter(created_before=datetime(2020, 1, 1, tzinfo=UTC)),
    RunFilter(is_nothing=True),
]


@job
async def echo(step: StepContext, text: str) -> str:
    return text


async def world(durably: Durably) -> None:
    """Runs with and without labels; of each kind one is cancelled, one waits."""
    handle = durably.register(echo)
    for labels in ({}, {"org": "a"}, {"org": "b"}, {"org": "b", "kind": "x"}):
        run = await handle.trigger("text", labels=labels)
        await handle.trigger("text", labels=labels)
        await durably.cancel(run.id)


@pytest.mark.parametrize(("one", "other"), [*product(ASKED, ASKED)])
async def test_both_filters_together_mean_the_runs_that_fit_each(
    durably: Durably, one: RunFilter, other: RunFilter
) -> None:
    await world(durably)
    everything = await durably.get_runs()
    both = one & other

    wanted = [run.id for run in everything if one.fits(run) and other.fits(run)]
    assert [run.id for run in everything if both.fits(run)] == wanted
    assert [run.id for run in await durably.get_runs(where=both)] == wanted
    assert await durably.count_runs(where=both) == len(wanted)


async def test_a_filter_cannot_be_widened_by_naming_another_label(durably: Durably) -> None:
    await world(durably)
    mine = RunFilter(labels={"org": "a"})

    assert await durably.get_runs(labels={"org": "b"}, where=mine) == []
    assert mine.and_labels(org="b").is_nothing
    assert mine.and_labels({"app.kind": "x"}).labels == {"org": "a", "app.kind": "x"}
    assert mine.and_jobs("echo", "other").and_jobs("echo").job_name == ("echo",)
    assert mine.and_jobs().is_nothing


async def test_what_fits_nothing_changes_nothing(durably: Durably) -> None:
    await world(durably)
    nothing = RunFilter(is_nothing=True)

    assert await durably.cancel_runs(where=nothing) == 0
    assert await durably.retry_runs(status="cancelled", where=nothing) == 0
    assert await durably.cancel_runs(where=RunFilter(labels={"org": "b"})) == 2


async def test_a_narrowed_subscription_tells_of_its_runs_only(durably: Durably) -> None:
    await world(durably)
    mine = durably.subscribe_runs(where=RunFilter(labels={"org": "a"}))
    nothing = durably.subscribe_runs(where=RunFilter(is_nothing=True))
    first = await anext(mine)
    assert isinstance(first, RunsSnapshot)
    assert [run.labels["org"] for run in first.runs] == ["a", "a"]
    assert (await anext(nothing)).cursor == first.cursor

    await durably.cancel_runs()
    change = await anext(mine)
    assert isinstance(change, RunSnapshot)
    assert change.run.labels == {"org": "a"}


async def test_a_subscription_to_nothing_passes_over_every_change(durably: Durably) -> None:
    await world(durably)
    nothing = durably.subscribe_runs(where=RunFilter(is_nothing=True), after="0")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(nothing)


@pytest.mark.parametrize(
    "criteria",
    [
        {"status": ("leased",)},
        {"labels": {"no key": "x"}},
        {"created_since": datetime(2026, 11, 22)},  # noqa: DTZ001 (without its zone it may mean many instants)
        {"created_before": datetime(2026, 11, 22)},  # noqa: DTZ001
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(criteria: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        run_filter(None, None, None, unchecked(RunFilter)(**criteria))


async def test_a_search_goes_through_the_front_door(durably: Durably) -> None:
    await world(durably)
    [run, *_] = await durably.get_runs(labels={"org": "a"})
    found = await durably.search_runs(run.id[-8:], by="id", where=RunFilter(labels={"org": "a"}))
    assert [(one.id, one.input) for one in found.runs] == [(run.id, "text")]
    assert (await durably.search_runs(run.id[-8:], by="id", where=RunFilter(labels={"org": "b"}))).runs == ()
    assert (await durably.search_runs("no", by="error", cursor="7")).cursor is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"text": ""},
        {"by": "input"},
        {"limit": 0},
        {"among": True},
        {"by": "error", "cursor": "x"},
        {"where": unchecked(RunFilter)(status=("leased",))},
    ],
)
async def test_a_search_that_cannot_be_made_is_refused(
    durably: Durably, arguments: dict[str, object]
) -> None:
    asked: dict[str, object] = {"text": "x", "by": "id", **arguments}
    with pytest.raises(ValidationError):
        await unchecked(durably.search_runs)(asked.pop("text"), **asked)
