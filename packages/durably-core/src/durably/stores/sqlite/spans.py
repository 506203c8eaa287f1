"""Where instants stand in the order of creation.

Runs are stored in the order of their creation, so the place of an instant is found by halving: some
twenty looks at a row, and no index that every trigger would have to pay for. Where the wall clock was
set back, the instants do not rise; near such a place a run may be taken for older or newer than it is.
"""

from datetime import datetime

from durably.filters import RunFilter
from durably.stores.sqlite.listing import EVERYTHING, Span
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.session import Session

SQL = load("spans")

HALF_A_MICROSECOND = 5e-7


def span_of(session: Session, filter: RunFilter) -> Span:
    """The places at which there are runs that were created when the filter says."""
    if filter.created_since is None and filter.created_before is None:
        return EVERYTHING
    return Span(_place(session, filter.created_since), _place(session, filter.created_before))


def _place(session: Session, instant: datetime | None) -> int | None:
    """The first place where runs are no older than this; one beyond the last, if all are."""
    if instant is None:
        return None
    # Instants are shown in microseconds; what rounds up to this one is no older than it.
    wanted = instant.timestamp() - HALF_A_MICROSECOND
    older, newer = 0, int(session.one(SQL["last_place"])[0]) + 1
    while newer - older > 1:
        middle = (older + newer) // 2
        run = session.row(SQL["next_run"], {"place": middle, "end": newer})
        if run is None or run["created_at"] >= wanted:
            newer = middle
        else:
            older = int(run["seq"])
    return newer
