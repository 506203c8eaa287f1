"""What a person does to runs: cancel, retry, delete, purge."""

from collections.abc import Sequence

from durably.models import RunStatus
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import get_run
from durably.stores.sqlite.session import Session, Value
from durably.stores.sqlite.waits import await_again, child_ended
from durably.stores.values import Transition

SQL = load("transitions")

UNHAPPY: tuple[RunStatus, ...] = ("failed", "cancelled")
"""What a person may send back."""


def cancel(session: Session, run_id: str, token: str) -> Transition:
    """pending, running or waiting → cancelled."""
    if _was_applied(session, run_id, token):
        return Transition(applied=True, run=get_run(session, run_id))
    row = session.row(SQL["cancel_run"], _values(session, run_id, token))
    settle_key(session, key_of(row))
    if row is not None:
        child_ended(session, run_id)
    return Transition(applied=row is not None, run=get_run(session, run_id))


def retry(session: Session, run_id: str, token: str) -> Transition:
    """failed or cancelled → pending, without the steps whose failure ended the run.

    A child whose failure ended it is retried in its place, and so is one that was cancelled with it.
    """
    return _retry(session, run_id, token, UNHAPPY)


def _retry(session: Session, run_id: str, token: str, revived: Sequence[RunStatus]) -> Transition:
    before = get_run(session, run_id)
    if before is None or _was_applied(session, run_id, token):
        return Transition(applied=before is not None, run=before)
    row = session.row(SQL["retry_run"], _values(session, run_id, token))
    if row is not None:
        failed = before.error.steps if before.error else ()
        send_back(session, row["seq"], failed, token, revived=revived)
        settle_key(session, key_of(row))
    return Transition(applied=row is not None, run=get_run(session, run_id))


def send_back(
    session: Session, seq: int, failed: Sequence[str], token: str, *, revived: Sequence[RunStatus]
) -> None:
    """Drop the failures of these steps, and let every unfinished one begin its attempts anew.

    A step with a cursor keeps that. A child that is waited for, and has ended so, is retried in its place.
    """
    for name in failed:
        if not await_again(session, seq, name):
            session.run(SQL["keep_failure"], {"seq": seq, "name": name})
            session.run(SQL["put_back"], {"seq": seq, "name": name})
            session.run(SQL["drop_failure"], {"seq": seq, "name": name})
    for child in session.rows(SQL["ended_children"], {"seq": seq}):
        if child["status"] in revived:
            _retry(session, child["id"], token, revived)
    session.run(SQL["begin_anew"], {"seq": seq})
    session.run(SQL["due_at_once"], {"seq": seq})


def delete(session: Session, run_id: str) -> Transition:
    """Remove a run that has ended; answers it as it was."""
    before = get_run(session, run_id)
    return Transition(applied=session.run(SQL["delete_run"], {"run_id": run_id}) > 0, run=before)


def nothing_to_purge(session: Session, older_than: float) -> int | None:
    """0 if no run ended that long ago."""
    found = session.row(SQL["is_purge_due"], {"before": session.now - older_than})
    return 0 if found is None else None


def purge(session: Session, older_than: float, limit: int) -> int:
    """Remove runs that ended long ago, the oldest first; answers how many."""
    return session.run(SQL["purge_runs"], {"before": session.now - older_than, "limit": limit})


def _was_applied(session: Session, run_id: str, token: str) -> bool:
    row = session.row(SQL["find_token"], {"run_id": run_id})
    return row is not None and row["last_token"] == token


def _values(session: Session, run_id: str, token: str) -> dict[str, Value]:
    return {"run_id": run_id, "token": token, "now": session.now, "change": session.next_change()}
