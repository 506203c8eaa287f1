"""Which runs are meant."""

from collections.abc import Iterable, Mapping

from durably.errors import ValidationError
from durably.models import RunStatus
from durably.options import labels
from durably.stores.watching import RunFilter

STATUSES: tuple[RunStatus, ...] = (
    "pending", "running", "waiting", "completed", "failed", "cancelled",
)  # fmt: skip


def run_filter(
    status: RunStatus | Iterable[RunStatus] | None,
    job_name: str | Iterable[str] | None,
    labels_: Mapping[str, str] | None,
) -> RunFilter:
    """A checked filter.

    Raises:
        ValidationError: A status does not exist, or a label is none.
    """
    statuses: tuple[object, ...] = (status,) if isinstance(status, str) else tuple(status or ())
    names = (job_name,) if isinstance(job_name, str) else tuple(job_name or ())
    for one in statuses:
        if one not in STATUSES:
            raise ValidationError(
                f"status: there is no {one!r}; there are: {', '.join(STATUSES)}", fields=("status",)
            )
    return RunFilter(
        status=[one for one in STATUSES if one in statuses],
        job_name=names,
        labels=labels(labels_),
    )
