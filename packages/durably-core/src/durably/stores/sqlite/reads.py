"""Looking at runs, steps, logs and workers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from durably.filters import STATUSES, RunFilter
from durably.models import Disposition, LogEntry, Run, RunStatus, Step, StepAttempt, WorkerInfo
from durably.statistics import Count
from durably.stores.sqlite.leading import count_labelled, leading
from durably.stores.sqlite.listing import (
    Lead,
    Span,
    compose_census,
    compose_count,
    compose_list,
)
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.rows import to_attempt, to_log_entry, to_run, to_step, to_worker
from durably.stores.sqlite.session import Session, Values
from durably.stores.sqlite.spans import span_of

SQL = load("reads")


def get_run(session: Session, run_id: str, *, disposition: Disposition | None = None) -> Run | None:
    """The run as it stands now."""
    row = session.row(SQL["get_run"], {"run_id": run_id})
    return None if row is None else to_run(row, disposition=disposition)


def run_at(session: Session, seq: int) -> Run:
    """The run in this place, which the caller knows to exist."""
    return to_run(session.one(SQL["get_run_at"], {"seq": seq}))


def list_runs(
    session: Session,
    filter: RunFilter,
    *,
    limit: int | None,
    offset: int = 0,
    before: int | None = None,
    after: int | None = None,
) -> Sequence[Run]:
    """A page of runs, the newest first."""
    span = span_of(session, filter)
    filter, lead = leading(session, filter, span)
    statement, values = compose_list(
        filter, limit=limit, offset=offset, before=before, after=after, span=span, lead=lead
    )
    runs = [to_run(row) for row in session.rows(statement, values)]
    # The statement chooses the rows in this order but does not promise to give them so.
    return sorted(runs, key=lambda run: run.position, reverse=True)


def count_runs(session: Session, filter: RunFilter, cap: int) -> int:
    """How many match, up to `cap`."""
    span = span_of(session, filter)
    filter, lead = leading(session, filter, span)
    return _count(session, filter, cap, span, lead)


def count_by_status(session: Session, filter: RunFilter, cap: int) -> Mapping[RunStatus, Count]:
    """How many match in each status."""
    span = span_of(session, filter)
    filter, lead = leading(session, filter, span)
    if lead == "label":
        is_whole = count_labelled(session, next(iter(filter.labels.items())), cap, span) < cap
        statement, values = compose_census(filter, cap=cap, span=span)
        found: dict[RunStatus, int] = dict(map(tuple, session.rows(statement, values)))
        return {status: Count(number=found.get(status, 0), is_whole=is_whole) for status in STATUSES}
    # An index knows each status: they are counted one by one.
    numbers: dict[RunStatus, int] = {
        status: _count(session, filter & RunFilter(status=(status,)), cap, span, lead) for status in STATUSES
    }
    return {status: Count(number=number, is_whole=number < cap) for status, number in numbers.items()}


def _count(session: Session, filter: RunFilter, cap: int, span: Span, lead: Lead) -> int:
    statement, values = compose_count(filter, cap=cap, span=span, lead=lead)
    count: int = session.one(statement, values)[0]
    return count


def list_changes(session: Session, after: int, limit: int) -> Sequence[Run]:
    """Runs in the order of their latest changes."""
    return [to_run(row) for row in session.rows(SQL["list_changes"], {"after": after, "limit": limit})]


def list_steps(session: Session, run_id: str, after: int, results: bool) -> Sequence[Step]:
    """Steps that changed after a sequence number, in the order of their positions."""
    rows = session.rows(SQL["list_steps"], {"run_id": run_id, "after": after, "results": results})
    attempts = attempts_of(session, run_id)
    return [to_step(row, attempts.get(row["name"], ())) for row in rows]


def list_logs(session: Session, run_id: str, after: int, limit: int | None) -> Sequence[LogEntry]:
    """Log lines after a sequence number."""
    values: Values = {"run_id": run_id, "after": after, "limit": -1 if limit is None else limit}
    return [to_log_entry(row) for row in session.rows(SQL["list_logs"], values)]


def last_logs(session: Session, run_id: str, before: int | None, limit: int) -> Sequence[LogEntry]:
    """The last log lines before a sequence number, in order."""
    values: Values = {"run_id": run_id, "before": before, "limit": limit}
    return [to_log_entry(row) for row in reversed(session.rows(SQL["last_logs"], values))]


def list_workers(session: Session) -> Sequence[WorkerInfo]:
    """Every worker, the oldest first."""
    return [to_worker(row) for row in session.rows(SQL["list_workers"])]


def attempts_of(session: Session, run_id: str) -> Mapping[str, tuple[StepAttempt, ...]]:
    """The failed attempts at each step of a run, the oldest first; not the last one of a failed step."""
    attempts: defaultdict[str, tuple[StepAttempt, ...]] = defaultdict(tuple)
    for row in session.rows(SQL["list_attempts"], {"run_id": run_id}):
        attempts[row["step_name"]] += (to_attempt(row),)
    return attempts
