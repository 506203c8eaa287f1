"""Jobs and the workers that execute them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from typing_extensions import override

from durably import JobStatistics, RunFilter, RunStatus, Statistics, WorkerInfo
from durably_web import bells
from durably_web.bells import Bell
from durably_web.components.charts import Chart, StatsComponent, chart
from durably_web.visits import Visit

MOST_JOBS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShown:
    """A job, and how it does."""

    name: str
    doc: str | None
    """What its function says of itself: the first line."""
    last: RunStatus | None
    """How its newest run is doing."""
    statistics: JobStatistics | None
    """Of the last 24 hours; None: nothing of it ended."""
    chart: Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsShown:
    """The jobs that this visitor may see."""

    jobs: tuple[JobShown, ...]


@dataclass(frozen=True)
class JobList(StatsComponent):
    """All jobs: those that this application knows, and those of which a run ended lately."""

    name: ClassVar[str] = "job_list"

    @override
    async def load(self, visit: Visit) -> JobsShown:
        found = await visit.statistics(RunFilter())
        names = sorted({*visit.durably.jobs, *(job.job_name for job in found.jobs)})[:MOST_JOBS]
        seen = [name for name in names if await visit.caller.sees_job(name)]
        return JobsShown(jobs=tuple([await show_job(visit, name, found) for name in seen]))


@dataclass(frozen=True)
class JobCard(StatsComponent):
    """One job: what it is, how its last run did, how long it takes."""

    job: str

    name: ClassVar[str] = "job_card"

    @property
    @override
    def about_job(self) -> str | None:
        return self.job

    @override
    async def load(self, visit: Visit) -> JobShown:
        await visit.check_job(self.job)
        found = await visit.statistics(RunFilter(job_name=(self.job,)))
        return await show_job(visit, self.job, found)

    @override
    def bells(self) -> Sequence[Bell]:
        return (*super().bells(), bells.of_job(self.job))


async def show_job(visit: Visit, name: str, found: Statistics) -> JobShown:
    """What is shown of a job, with its part of the figures."""
    own = replace(found, jobs=tuple(job for job in found.jobs if job.job_name == name))
    newest = await visit.caller.runs(RunFilter(job_name=(name,)), limit=1)
    handle = visit.durably.get_job(name)
    doc = (handle.definition.doc or "") if handle is not None else ""
    return JobShown(
        name=name,
        doc=doc.strip().partition("\n")[0] or None,
        last=newest[0].status if newest else None,
        statistics=own.jobs[0] if own.jobs else None,
        chart=chart(own),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersShown:
    """Who executes runs."""

    workers: tuple[WorkerInfo, ...]
    is_private: bool
    compact: bool


@dataclass(frozen=True)
class WorkersTable(StatsComponent):
    """The processes that execute runs: how busy they are, and when they were last heard from."""

    compact: bool = False

    name: ClassVar[str] = "workers_table"

    @override
    async def load(self, visit: Visit) -> WorkersShown:
        sees = await visit.caller.sees_workers()
        return WorkersShown(
            workers=tuple(await visit.caller.workers()), is_private=not sees, compact=self.compact
        )
