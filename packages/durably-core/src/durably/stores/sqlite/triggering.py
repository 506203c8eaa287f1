"""Storing new runs."""

from collections.abc import Sequence

from durably.models import Run
from durably.stores.base import NewRun
from durably.stores.sqlite.keys import Key, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import get_run
from durably.stores.sqlite.rows import SHARED_SCOPE, instant, json_text, maybe_instant, to_run
from durably.stores.sqlite.session import Session

SQL = load("triggering")

SECONDS_PER_PRIORITY = 60
"""How much earlier one step of priority lets a run stand: so nothing waits for ever."""


def enqueue(session: Session, runs: Sequence[NewRun]) -> Sequence[Run]:
    """Store runs, or find the ones that were stored before."""
    stored = [_enqueue(session, run) for run in runs]
    for key in {_key_of(run) for run in runs}:
        settle_key(session, key)
    return stored


def _enqueue(session: Session, new: NewRun) -> Run:
    due_at = new.run_at if new.delay is None else session.now + new.delay
    key = _key_of(new)
    waits = due_at is not None and due_at > session.now
    change = session.next_change()
    inserted = session.row(
        SQL["insert_run"],
        {
            "id": new.id,
            "job_name": new.job_name,
            "change": change,
            "priority": new.priority,
            "rank": session.instant() - new.priority * SECONDS_PER_PRIORITY,
            "ready": not waits and key is None,
            "timer_at": due_at if waits else None,
            "due_at": due_at,
            "idempotency_key": new.idempotency_key,
            "key_scope": key[0] if key else None,
            "concurrency_key": new.concurrency_key,
            "now": session.now,
            "labels": json_text(new.labels),
            "input": new.input_json,
        },
    )
    if inserted is None:
        return _stored_before(session, new)
    seq = inserted["seq"]
    for name, value in new.labels.items():
        session.run(SQL["insert_label"], {"key": name, "value": value, "seq": seq})
    created_at = instant(session.now)
    return Run(
        id=new.id,
        job_name=new.job_name,
        status="pending",
        labels=dict(new.labels),
        created_at=created_at,
        updated_at=created_at,
        position=seq,
        change=change,
        input_json=new.input_json,
        idempotency_key=new.idempotency_key,
        concurrency_key=new.concurrency_key,
        is_key_shared=new.key_scope == SHARED_SCOPE,
        priority=new.priority,
        due_at=maybe_instant(due_at),
        disposition="created",
    )


def _stored_before(session: Session, new: NewRun) -> Run:
    own = get_run(session, new.id, disposition="created")
    if own is not None:
        return own
    row = session.one(
        SQL["find_by_idempotency_key"],
        {"job_name": new.job_name, "idempotency_key": new.idempotency_key},
    )
    return to_run(row, disposition="idempotent")


def _key_of(new: NewRun) -> Key | None:
    if new.concurrency_key is None:
        return None
    # Without a scope a key belongs to its job.
    return new.key_scope or new.job_name, new.concurrency_key
