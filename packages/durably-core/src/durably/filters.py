"""Which runs are meant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar, get_args

from durably.errors import ValidationError
from durably.models import Run, RunStatus
from durably.options import labels

STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are meant, as a value that can only be narrowed: `one & other` means runs that fit both.

    An empty criterion does not filter.
    """

    status: Sequence[RunStatus] = ()
    job_name: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """All of them must match."""
    created_since: datetime | None = None
    """Runs created at this instant or later."""
    created_before: datetime | None = None
    """Runs created before this instant."""
    is_nothing: bool = False
    """Whether no run can fit: what two filters mean that contradict each other."""

    def __and__(self, other: "RunFilter") -> "RunFilter":
        status, knows_status = _common(self.status, other.status)
        job_name, knows_job = _common(self.job_name, other.job_name)
        agree = all(self.labels.get(key, value) == value for key, value in other.labels.items())
        return RunFilter(
            status=status,
            job_name=job_name,
            labels={**self.labels, **other.labels},
            created_since=max(_known(self.created_since, other.created_since), default=None),
            created_before=min(_known(self.created_before, other.created_before), default=None),
            is_nothing=self.is_nothing or other.is_nothing or not (knows_status and knows_job and agree),
        )

    def and_labels(self, labels: Mapping[str, str] | None = None, /, **more: str) -> "RunFilter":
        """Those of them that have these labels too."""
        return self & RunFilter(labels={**(labels or {}), **more})

    def and_jobs(self, *names: str) -> "RunFilter":
        """Those of them that are of one of these jobs; without a name: none."""
        return self & RunFilter(job_name=names) if names else replace(self, is_nothing=True)

    def fits(self, run: Run) -> bool:
        """Whether this run is meant."""
        return (
            (not self.status or run.status in self.status)
            and (self.created_since is None or run.created_at >= self.created_since)
            and (self.created_before is None or run.created_at < self.created_before)
            and self.covers(run.job_name, run.labels)
        )

    def covers(self, job_name: str, labels: Mapping[str, str]) -> bool:
        """Whether runs of this job with these labels are meant, in some status and of some age at least."""
        return (
            not self.is_nothing
            and (not self.job_name or job_name in self.job_name)
            and self.labels.items() <= labels.items()
        )


def run_filter(
    status: RunStatus | Iterable[RunStatus] | None,
    job_name: str | Iterable[str] | None,
    labels_: Mapping[str, str] | None,
    where: RunFilter | None = None,
) -> RunFilter:
    """A checked filter; with `where`, only runs that fit this one too.

    Raises:
        ValidationError: A status does not exist, a label is none, or an instant has no time zone.
    """
    filter = RunFilter(
        status=(status,) if isinstance(status, str) else tuple(status or ()),
        job_name=(job_name,) if isinstance(job_name, str) else tuple(job_name or ()),
        labels=labels_ or {},
    )
    wanted = filter if where is None else filter & where
    for one in (*filter.status, *(where.status if where is not None else ())):
        if one not in STATUSES:
            raise ValidationError(
                f"status: there is no {one!r}; there are: {', '.join(STATUSES)}", fields=("status",)
            )
    for bound in ("created_since", "created_before"):
        instant: datetime | None = getattr(wanted, bound)
        if instant is not None and instant.tzinfo is None:
            raise ValidationError(
                f"{bound}: {instant} has no time zone; say which, e.g. datetime(…, tzinfo=UTC)",
                fields=(bound,),
            )
    return replace(
        wanted,
        status=[one for one in STATUSES if one in wanted.status],
        labels=labels(wanted.labels),
    )


def _known(*instants: datetime | None) -> list[datetime]:
    return [instant for instant in instants if instant is not None]


def _common(one: Sequence[T], other: Sequence[T]) -> tuple[Sequence[T], bool]:
    """What both allow, and whether that is anything; empty allows all."""
    if not one or not other:
        return one or other, True
    both = tuple(item for item in one if item in other)
    return both, bool(both)
