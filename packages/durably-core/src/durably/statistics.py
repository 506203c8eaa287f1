"""How runs ended: counts, durations and their course in time."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import TypeAlias

from durably.models import RunStatus

Ending: TypeAlias = tuple[str, RunStatus, float | None, float]
"""A job's name, how a run of it ended, when it first started, and when it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many runs were counted."""

    number: int
    is_whole: bool
    """False: counting stopped, there may be more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatistics:
    """How the runs of a job ended in a stretch of time."""

    job_name: str
    completed: int
    failed: int
    cancelled: int
    median: float | None
    """Seconds from first start to end, waits included, in which half of the completed runs were done."""
    p95: float | None
    """… and 95 of 100."""
    completed_series: tuple[int, ...]
    """How many completed in each part of the time, the oldest part first."""
    failed_series: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How runs ended in a stretch of time."""

    since: datetime
    until: datetime
    jobs: tuple[JobStatistics, ...]
    """Those of which a run ended, by name."""
    is_whole: bool
    """False: more runs ended than were looked at; these are the newest of them."""


def summarise(
    endings: Iterable[Ending], *, since: float, until: float, parts: int
) -> tuple[JobStatistics, ...]:
    """What happened to each job."""
    by_job: defaultdict[str, list[Ending]] = defaultdict(list)
    for ending in endings:
        by_job[ending[0]].append(ending)
    width = max(until - since, 0.001) / parts
    return tuple(
        _of_job(name, by_job[name], since=since, width=width, parts=parts) for name in sorted(by_job)
    )


def _of_job(name: str, endings: Sequence[Ending], *, since: float, width: float, parts: int) -> JobStatistics:
    series = {"completed": [0] * parts, "failed": [0] * parts, "cancelled": [0] * parts}
    durations: list[float] = []
    for _, status, started_at, ended_at in endings:
        series[status][min(max(int((ended_at - since) / width), 0), parts - 1)] += 1
        if status == "completed" and started_at is not None:
            durations.append(max(0.0, ended_at - started_at))
    durations.sort()
    return JobStatistics(
        job_name=name,
        completed=sum(series["completed"]),
        failed=sum(series["failed"]),
        cancelled=sum(series["cancelled"]),
        median=_quantile(durations, 0.5),
        p95=_quantile(durations, 0.95),
        completed_series=tuple(series["completed"]),
        failed_series=tuple(series["failed"]),
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The least value that is not below this share of them."""
    if not ordered:
        return None
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
