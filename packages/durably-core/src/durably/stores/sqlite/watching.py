"""For those who watch: what is new to them, and why a run is not executed."""

import sqlite3
from collections.abc import Sequence

from durably.filters import RunFilter
from durably.models import TERMINAL_STATUSES, Run, WorkerInfo
from durably.statistics import JobStatistics, summarise
from durably.stores.sqlite.crashes import DEATHS_OF_A_SUSPECT
from durably.stores.sqlite.keys import key_of, waited_for
from durably.stores.sqlite.leading import leading
from durably.stores.sqlite.listing import compose_changes, compose_endings
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import attempts_of, get_run, list_logs, list_runs, list_workers, run_at
from durably.stores.sqlite.rows import instant, maybe_instant, to_run, to_step
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.spans import span_of
from durably.stores.watching import MOST_AHEAD, Entry, Facts, Seen, Survey, Tail

SQL = load("watching")


def news(session: Session, seen: Sequence[Seen]) -> Sequence[Seen]:
    """Those who have not seen everything."""
    with session.snapshot():
        change = session.last_change()
        return [one for one in seen if _is_stale(session, one, change)]


def follow(session: Session, run_id: str, change: int, after: int | None, limit: int) -> Tail | None:
    """The run if it is newer than this change, and its tail."""
    with session.snapshot():
        if after is None:
            last = session.row(SQL["last_sequence"], {"run_id": run_id})
            after = 0 if last is None else int(last[0])
        row = session.row(SQL["glance"], {"run_id": run_id, "sequence": after})
        if row is None:
            return None
        entries = _tail(session, run_id, after, limit + 1) if row["has_tail"] else []
        return Tail(
            # Only if it is new: its payloads may be large.
            run=get_run(session, run_id) if row["change"] != change else None,
            is_terminal=row["status"] in TERMINAL_STATUSES,
            entries=entries[:limit],
            is_whole=len(entries) <= limit,
            sequence=entries[:limit][-1].sequence if entries else after,
        )


def survey(session: Session, filter: RunFilter, after: int | None, limit: int) -> Survey:
    """What changed after a number; or the newest runs."""
    with session.snapshot():
        present = session.last_change()
        if after is None or after > present:
            newest = list_runs(session, filter, limit=limit)
            return Survey(runs=newest, change=present, is_present=True)
        statement, values = compose_changes(filter, after=after, limit=limit, span=span_of(session, filter))
        runs = sorted((to_run(row) for row in session.rows(statement, values)), key=lambda run: run.change)
        reached = runs[-1].change if len(runs) == limit else present
        return Survey(runs=runs, change=reached, is_present=False)


def endings(
    session: Session, filter: RunFilter, since: float, parts: int, cap: int
) -> tuple[float, Sequence[JobStatistics], bool]:
    """How runs ended since an instant, by job."""
    until = session.now
    span = span_of(session, filter)
    filter, lead = leading(session, filter, span)
    statement, values = compose_endings(filter, since=since, cap=cap, span=span, lead=lead)
    rows = session.rows(statement, values)
    return until, summarise(map(tuple, rows), since=since, until=until, parts=parts), len(rows) < cap


def facts(session: Session, run_id: str) -> Facts | None:
    """What decides whether the run is executed."""
    with session.snapshot():
        run = get_run(session, run_id)
        place = session.row(SQL["find_place"], {"run_id": run_id})
        if run is None or place is None:
            return None
        workers = list_workers(session)
        return Facts(
            now=instant(session.now),
            run=run,
            timer_at=maybe_instant(place["timer_at"]),
            steps=[to_step(row) for row in session.rows(SQL["running_steps"], {"seq": place["seq"]})],
            workers=workers,
            suspects=dict(_suspects(session, workers)),
            holder=_holder(session, place),
            ahead=_ahead(session, place),
        )


def _is_stale(session: Session, seen: Seen, present: int) -> bool:
    if seen.run_id is None:
        return seen.change != present
    row = session.row(SQL["glance"], {"run_id": seen.run_id, "sequence": seen.sequence})
    if row is None or row["status"] in TERMINAL_STATUSES:
        return True
    return seen.change is not None and bool(row["change"] != seen.change or row["has_tail"])


def _tail(session: Session, run_id: str, after: int, limit: int) -> list[Entry]:
    rows = session.rows(SQL["tail_of_steps"], {"run_id": run_id, "after": after, "limit": limit})
    entries: list[Entry] = [*list_logs(session, run_id, after, limit)]
    if rows:
        attempts = attempts_of(session, run_id)
        entries += [to_step(row, attempts.get(row["name"], ())) for row in rows]
    return sorted(entries, key=lambda entry: entry.sequence)[:limit]


def _holder(session: Session, place: sqlite3.Row) -> Run | None:
    key = key_of(place)
    seq = None if key is None else waited_for(session, key)
    return None if seq is None or seq == place["seq"] else run_at(session, seq)


def _ahead(session: Session, place: sqlite3.Row) -> int:
    key = key_of(place)
    if key is None or place["holds_key"]:
        return 0
    values = {"scope": key[0], "key": key[1], "rank": place["rank"], "seq": place["seq"], "limit": MOST_AHEAD}
    count: int = session.one(SQL["count_ahead"], values)[0]
    return count


def _suspects(session: Session, workers: Sequence[WorkerInfo]) -> Sequence[tuple[str, str]]:
    found = [
        (worker.id, session.row(SQL["suspects"], {"worker_id": worker.id, "deaths": DEATHS_OF_A_SUSPECT}))
        for worker in workers
    ]
    return [(worker_id, row["id"]) for worker_id, row in found if row is not None]
