"""Looking at runs, steps and logs."""

from itertools import product
from typing import get_args

import pytest

from durably.filters import RunFilter
from durably.models import RunStatus
from durably.statistics import Count
from durably.stores.sqlite import leading
from durably.stores.sqlite.listing import MOST_ARMS
from tests.core.stores.stage import Stage

WORLD = [
    (number, f"job-{number % 3}", status, {"parity": str(number % 2), "third": str(number % 3)})
    for number, status in enumerate(
        ["pending", "completed", "failed", "cancelled", "running", "completed"] * 4
    )
]


async def build(stage: Stage) -> None:
    for number, job, status, labels in WORLD:
        id = f"{number:02}"
        await stage.trigger(id, job_name=job, labels=labels)
        if status in {"completed", "failed", "running"}:
            [claim] = (await stage.ask(limit=1, jobs=[job])).claims
            if claim.run.id != id:
                # An earlier pending run of this job: put it back, take ours.
                await stage.sql("UPDATE durably_runs SET ready = 1 WHERE ready = 1")
            await stage.store.release([claim.lease])
            await stage.sql(
                "UPDATE durably_runs SET status = :status, ready = 0, completed_at = 1.0 WHERE id = :id",
                {"status": status if status != "running" else "waiting", "id": id},
            )
        elif status == "cancelled":
            await stage.store.cancel(id, token="t")


def expected(
    *, status: tuple[RunStatus, ...] = (), job: tuple[str, ...] = (), labels: dict[str, str] | None = None
) -> list[str]:
    shown = {"running": "waiting"}
    return [
        f"{number:02}"
        for number, job_name, stored, has in reversed(WORLD)
        if (not status or shown.get(stored, stored) in status)
        and (not job or job_name in job)
        and all(has.get(key) == value for key, value in (labels or {}).items())
    ]


@pytest.mark.parametrize(
    "status", [(), ("completed",), ("failed", "pending"), ("waiting", "waiting"), ("running",)]
)
@pytest.mark.parametrize("job", [(), ("job-1",), ("job-0", "job-2"), ("nobody's",)])
@pytest.mark.parametrize("labels", [{}, {"parity": "1"}, {"parity": "0", "third": "2"}, {"parity": "9"}])
async def test_a_list_holds_what_the_filter_asks_for_newest_first(
    stage: Stage, status: tuple[RunStatus, ...], job: tuple[str, ...], labels: dict[str, str]
) -> None:
    await build(stage)
    filter = RunFilter(status=status, job_name=job, labels=labels)
    wanted = expected(status=status, job=job, labels=labels)
    assert await stage.ids(filter) == wanted
    assert await stage.store.count_runs(filter, cap=100) == len(wanted)
    assert await stage.store.count_runs(filter, cap=2) == min(2, len(wanted))
    # In pages, by offset and by key.
    by_offset: list[str] = []
    by_key: list[str] = []
    before: int | None = None
    while page := await stage.store.list_runs(filter, limit=3, offset=len(by_offset), before=None):
        by_offset += [run.id for run in page]
    while page := await stage.store.list_runs(filter, limit=2, offset=0, before=before):
        by_key += [run.id for run in page]
        before = page[-1].position
    assert by_offset == by_key == wanted
    # Back again, from the oldest on.
    back: list[str] = []
    after: int | None = 0
    while page := await stage.store.list_runs(filter, limit=2, after=after):
        back = [run.id for run in page] + back
        after = page[0].position
    assert back == wanted


@pytest.mark.parametrize("reach", [1, 5, 1000])
async def test_whatever_leads_finds_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    await build(stage)
    monkeypatch.setattr(leading, "REACH", reach)
    statuses: list[tuple[RunStatus, ...]] = [(), ("completed",), ("failed", "pending")]
    for status, job, labels in product(
        statuses, [(), ("job-1",)], [{}, {"parity": "1"}, {"third": "2", "parity": "0"}, {"parity": "9"}]
    ):
        filter = RunFilter(status=status, job_name=job, labels=labels)
        wanted = expected(status=status, job=job, labels=labels)
        assert await stage.ids(filter) == wanted
        counts = await stage.store.count_by_status(filter, cap=100)
        for one in get_args(RunStatus):
            alone = [] if status and one not in status else expected(status=(one,), job=job, labels=labels)
            assert counts[one] == Count(number=len(alone), is_whole=True)


@pytest.mark.parametrize("labels", [{}, {"parity": "0"}])
async def test_counts_by_status_stop_at_their_cap_and_say_so(stage: Stage, labels: dict[str, str]) -> None:
    await build(stage)
    filter = RunFilter(labels=labels)
    everything = await stage.store.count_by_status(filter, cap=100)
    counts = await stage.store.count_by_status(filter, cap=2)
    assert any(not count.is_whole for count in counts.values())
    for status, count in counts.items():
        assert count.number <= min(2, everything[status].number)
        assert count.is_whole <= (count == everything[status])


async def test_nothing_is_counted_of_nothing(stage: Stage) -> None:
    await build(stage)
    nothing = RunFilter(labels={"parity": "1"}, is_nothing=True)
    counts = await stage.store.count_by_status(nothing, cap=100)
    assert set(counts.values()) == {Count(number=0, is_whole=True)}


async def test_a_filter_by_very_many_jobs_is_served_too(stage: Stage) -> None:
    await build(stage)
    many = (*(f"other-{number}" for number in range(MOST_ARMS)), "job-1")
    assert await stage.ids(RunFilter(job_name=many)) == expected(job=("job-1",))
    filter = RunFilter(job_name=many, status=("failed",))
    assert await stage.ids(filter) == expected(job=("job-1",), status=("failed",))
