"""Searching runs for a text, in what may be millions of them.

No index serves a text, and one for the ends of ids would cost every trigger a page of its own. So a
search is bounded: it looks at so many of the newest runs, and can be taken up where it ended.
"""

from collections.abc import Mapping

from durably.filters import RunFilter
from durably.models import RunsFound, SearchBy
from durably.stores.sqlite.listing import IDS, Span, compose_errors, compose_ids, compose_newest
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import run_at
from durably.stores.sqlite.session import Session, Value
from durably.stores.sqlite.spans import span_of

SQL = load("searching")

BEYOND = "\x7f"
"""Behind an id it is greater than that id, and than no other one that is."""


def search_runs(
    session: Session,
    filter: RunFilter,
    text: str,
    *,
    by: SearchBy,
    limit: int,
    among: int,
    cursor: str | None,
) -> RunsFound:
    """Those of the newest runs that hold the text, the newest first."""
    with session.snapshot():
        span = span_of(session, filter)
        if by == "id":
            return _by_id(session, filter, text, limit=limit, among=among, span=span, cursor=cursor)
        span = span.until(None if cursor is None else int(cursor))
        failed = filter & RunFilter(status=("failed",))
        return _by_error(session, failed, text, limit=limit, among=among, span=span)


def _by_id(
    session: Session,
    filter: RunFilter,
    text: str,
    *,
    limit: int,
    among: int,
    span: Span,
    cursor: str | None,
) -> RunsFound:
    top = BEYOND if cursor is None else cursor
    if cursor is None and span.end is not None:
        top = (session.one(SQL["greatest_id"], {"end": span.end})[0] or "") + BEYOND
    statement, values = compose_ids(filter, text=text, top=top, among=among, limit=limit, span=span)
    found = session.rows(statement, values)
    seen, last = _extent(session, IDS, "id", {"top": top, "among": among})
    places = [row["seq"] for row in found]
    return _found(session, places, seen, found[-1]["id"] if len(found) == limit else last)


def _by_error(
    session: Session, filter: RunFilter, text: str, *, limit: int, among: int, span: Span
) -> RunsFound:
    statement, values = compose_errors(filter, text=text, among=among, limit=limit, span=span)
    places = [row["seq"] for row in session.rows(statement, values)]
    newest, values = compose_newest(filter, among=among, span=span)
    seen, last = _extent(session, newest, "seq", values)
    return _found(session, places, seen, places[-1] if len(places) == limit else last)


def _extent(
    session: Session, chosen: str, place: str, values: Mapping[str, Value]
) -> tuple[int, str | int | None]:
    """How many runs were to be searched, and the last of them if there may be more."""
    seen, last = session.one(f"SELECT count(*), min({place}) FROM ({chosen})", values)
    return seen, last if seen == values["among"] else None


def _found(session: Session, places: list[int], seen: int, last: str | int | None) -> RunsFound:
    runs = [run_at(session, place) for place in sorted(places, reverse=True)]
    return RunsFound(runs=tuple(runs), looked_at=seen, cursor=None if last is None else str(last))
