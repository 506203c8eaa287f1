"""How runs ended."""

from datetime import UTC, datetime, timedelta

import pytest

from durably import Durably, RunFilter, StepContext, ValidationError
from durably.statistics import Ending, summarise
from tests.core.unchecked import unchecked


def test_endings_are_counted_by_job_and_by_part_of_the_time() -> None:
    endings: list[Ending] = [
        ("b", "completed", 0.0, 10.0),
        ("a", "failed", None, 11.9),
        ("a", "completed", 10.0, 12.0),
        ("a", "cancelled", None, 19.9),
        ("a", "completed", 19.0, 20.0),
        # A clock that ran backwards.
        ("a", "completed", 30.0, 9.0),
    ]
    a, b = summarise(endings, since=10.0, until=20.0, parts=5)

    assert (a.job_name, a.completed, a.failed, a.cancelled) == ("a", 3, 1, 1)
    assert a.completed_series == (1, 1, 0, 0, 1)
    assert a.failed_series == (1, 0, 0, 0, 0)
    assert (a.median, a.p95) == (1.0, 2.0)
    assert (b.job_name, b.completed_series, b.median) == ("b", (1, 0, 0, 0, 0), 10.0)


@pytest.mark.parametrize(("count", "median", "p95"), [(1, 1, 1), (2, 1, 2), (20, 10, 19), (100, 50, 95)])
def test_a_percentile_is_a_duration_that_there_was(count: int, median: float, p95: float) -> None:
    endings: list[Ending] = [("a", "completed", 0.0, float(number)) for number in range(count, 0, -1)]
    [a] = summarise(endings, since=0.0, until=1.0, parts=1)
    assert (a.median, a.p95) == (median, p95)


def test_without_a_completed_run_there_is_no_percentile() -> None:
    [a] = summarise([("a", "failed", 0.0, 1.0)], since=0.0, until=1.0, parts=2)
    assert (a.median, a.p95) == (None, None)


async def build(durably: Durably) -> None:
    @durably.job
    async def work(step: StepContext, fails: bool) -> None:
        if fails:
            raise ValueError

    @durably.job
    async def play(step: StepContext, input: None) -> None: ...

    for fails, org in ((False, "acme"), (True, "acme"), (False, "globex")):
        await work.trigger(fails, labels={"org": org})
    await play.trigger(None, labels={"org": "acme"})
    await durably.process_until_idle()
    await play.trigger(None)
    await durably.cancel((await play.trigger(None)).id)


def hour(ago: float = 1) -> datetime:
    return datetime.now(UTC) - timedelta(hours=ago)


async def test_statistics_tell_how_each_job_ended(durably: Durably) -> None:
    await build(durably)
    found = await durably.get_statistics(since=hour(), parts=4)

    assert [(one.job_name, one.completed, one.failed, one.cancelled) for one in found.jobs] == [
        ("play", 1, 0, 1),
        ("work", 2, 1, 0),
    ]
    assert found.jobs[1].completed_series == (0, 0, 0, 2)
    assert found.is_whole
    assert timedelta(0) <= datetime.now(UTC) - found.until < timedelta(minutes=1)
    assert (await durably.get_statistics(since=hour(-1))).jobs == ()


async def test_statistics_are_narrowed_as_lists_are(durably: Durably) -> None:
    await build(durably)

    async def count(**criteria: object) -> list[tuple[str, int]]:
        found = await unchecked(durably.get_statistics)(since=hour(), **criteria)
        return [(one.job_name, one.completed + one.failed + one.cancelled) for one in found.jobs]

    assert await count(job_name="work") == [("work", 3)]
    assert await count(labels={"org": "acme"}) == [("play", 1), ("work", 2)]
    assert await count(where=RunFilter(labels={"org": "globex"})) == [("work", 1)]
    assert await count(where=RunFilter(status=("failed",))) == [("work", 1)]
    assert await count(where=RunFilter(status=("pending",))) == []
    assert await count(job_name="work", where=RunFilter().and_jobs()) == []
    assert await count(job_name="nobody's") == []


@pytest.mark.parametrize("narrowed", [{}, {"job_name": "play"}, {"labels": {"a": "b"}}])
async def test_of_very_many_runs_the_newest_are_looked_at(
    durably: Durably, narrowed: dict[str, object]
) -> None:
    @durably.job
    async def play(step: StepContext, fails: bool) -> None:
        if fails:
            raise ValueError

    for fails in (True, True, False, False, False):
        await play.trigger(fails, labels={"a": "b"})
        await durably.process_one()
    [found] = (statistics := await unchecked(durably.get_statistics)(since=hour(), cap=3, **narrowed)).jobs

    assert (found.completed, found.failed) == (3, 0)
    assert not statistics.is_whole


@pytest.mark.parametrize(
    ("options", "field"),
    [({"parts": 0}, "parts"), ({"cap": 0}, "cap"), ({"since": datetime(2026, 1, 1)}, "since")],  # noqa: DTZ001
)
async def test_what_cannot_be_summarised_is_refused(
    durably: Durably, options: dict[str, object], field: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        await unchecked(durably.get_statistics)(**{"since": hour(), **options})
    assert caught.value.fields == (field,)
