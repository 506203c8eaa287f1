"""How runs ended, in figures and small pictures: SVG without a script."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import ClassVar, Final

from typing_extensions import override

from durably import RunFilter, RunStatus, Statistics
from durably_web import bells, wording
from durably_web.bells import Bell, Topic
from durably_web.components.base import Component
from durably_web.visits import Visit

HEIGHT: Final = 60
"""Of a chart, in its own units."""
BAR: Final = 10
"""The width of a bar and the gap beside it."""
CAP: Final = 10_000
OLDEST: Final = 20
"""How many of the oldest pending runs are looked at for one that is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Part of the time: what ended in it, and the heights of the two pieces of its bar."""

    x: int
    height: float
    failed_height: float
    since: datetime
    until: datetime
    completed: int
    failed: int

    @property
    def when(self) -> str:
        """Which part it is."""
        return wording.between(self.since, self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Runs that ended in the last 24 hours, by half hours."""

    bars: tuple[Bar, ...]
    width: int
    highest: int
    """Runs that ended in the part with the most."""
    completed: int
    failed: int
    median: float | None
    p95: float | None
    is_whole: bool

    @property
    def words(self) -> str:
        """The same for those who do not see it."""
        return f"{self.completed:,} completed, {self.failed:,} failed in the last 24 hours"


def chart(found: Statistics) -> Chart:
    """The chart of the jobs together."""
    jobs = found.jobs
    completed = [sum(part) for part in zip(*(job.completed_series for job in jobs), strict=True)]
    failed = [sum(part) for part in zip(*(job.failed_series for job in jobs), strict=True)]
    highest = max([0, *(one + other for one, other in zip(completed, failed, strict=True))])
    unit = HEIGHT / max(1, highest)
    width = (found.until - found.since) / max(1, len(completed))
    one_job = jobs[0] if len(jobs) == 1 else None
    return Chart(
        bars=tuple(
            Bar(
                x=number * BAR,
                height=round(good * unit, 2),
                failed_height=round(bad * unit, 2),
                since=found.since + number * width,
                until=found.since + (number + 1) * width,
                completed=good,
                failed=bad,
            )
            for number, (good, bad) in enumerate(zip(completed, failed, strict=True))
        ),
        width=BAR * max(1, len(completed)),
        highest=highest,
        completed=sum(completed),
        failed=sum(failed),
        median=one_job.median if one_job else None,
        p95=one_job.p95 if one_job else None,
        is_whole=found.is_whole,
    )


@dataclass(frozen=True)
class StatsComponent(Component):
    """A component about what was counted."""

    @override
    def topics(self) -> Sequence[Topic]:
        return (bells.RUNS,)

    @override
    def bells(self) -> Sequence[Bell]:
        return (bells.STATS,)


@dataclass(frozen=True)
class ThroughputChart(StatsComponent):
    """When runs ended, and how: of one job, or of all."""

    job_name: str | None = None

    name: ClassVar[str] = "throughput_chart"

    @property
    @override
    def about_job(self) -> str | None:
        return self.job_name

    @override
    async def load(self, visit: Visit) -> Chart:
        asked = RunFilter() if self.job_name is None else RunFilter(job_name=(self.job_name,))
        found = await visit.statistics(asked)
        return chart(found)


@dataclass(frozen=True)
class Sparkline(ThroughputChart):
    """The same within a line."""

    name: ClassVar[str] = "sparkline"
    is_inline: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number, and what it counts."""

    status: RunStatus
    number: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TilesShown:
    """The most important numbers."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class StatsTiles(StatsComponent):
    """How much waits, for how long, how much is being executed, and how much ended how."""

    name: ClassVar[str] = "stats_tiles"

    @override
    async def load(self, visit: Visit) -> TilesShown:
        counts = await visit.counts(RunFilter(), cap=CAP)
        found = await visit.statistics(RunFilter())
        workers = await visit.caller.workers()
        completed = sum(job.completed for job in found.jobs)
        failed = sum(job.failed for job in found.jobs)
        more = "" if found.is_whole else "+"
        on = f" · on {wording.many(len(workers), 'worker')}" if workers else ""
        tiles = [
            Tile(status="pending", number=wording.count(counts["pending"]), text=await _oldest(visit)),
            Tile(status="running", number=wording.count(counts["running"]), text=f"Running{on}"),
            Tile(status="completed", number=f"{completed:,}{more}", text="Completed · last 24 h"),
            Tile(status="failed", number=f"{failed:,}{more}", text="Failed · last 24 h"),
        ]
        if counts["waiting"].number:
            waiting = wording.count(counts["waiting"])
            tiles.insert(2, Tile(status="waiting", number=waiting, text="Waiting · need no worker"))
        return TilesShown(tiles=tuple(tiles))


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingShown:
    """Jobs that fail."""

    jobs: tuple[tuple[str, int, float], ...]
    """Name, failed runs, and their part of those that ended."""


@dataclass(frozen=True)
class FailingJobs(StatsComponent):
    """The jobs that failed most often in the last 24 hours."""

    _: KW_ONLY
    limit: int = 8

    name: ClassVar[str] = "failing_jobs"

    @override
    async def load(self, visit: Visit) -> FailingShown:
        found = await visit.statistics(RunFilter())
        failing = [
            (job.job_name, job.failed, job.failed / (job.completed + job.failed))
            for job in found.jobs
            if job.failed
        ]
        failing.sort(key=lambda job: job[1], reverse=True)
        return FailingShown(jobs=tuple(failing[: max(1, self.limit)]))


async def _oldest(visit: Visit) -> str:
    """How long the oldest run that could begin has waited: the number by which one sees that work piles up."""
    runs = await visit.caller.runs(RunFilter(status=("pending",)), limit=OLDEST, after=0)
    due = [run.due_at or run.created_at for run in runs if run.due_at is None or run.due_at <= visit.now]
    if not due:
        return "Pending"
    return f"Pending · oldest waits {wording.duration((visit.now - min(due)).total_seconds())}"
