"""Storing new runs."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from durably.models import Run
from durably.stores.follow_ups import follow_up
from durably.stores.sqlite.keys import Key, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import get_run, run_at
from durably.stores.sqlite.rows import SHARED_SCOPE, instant, json_text, maybe_instant, to_run
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.transitions import cancel
from durably.stores.values import Enqueued, NewRun

SQL = load("triggering")

SECONDS_PER_PRIORITY = 60
"""How much earlier one step of priority lets a run stand: so nothing waits for ever."""


def enqueue(session: Session, runs: Sequence[NewRun]) -> Enqueued:
    """Store runs, or find the ones that were stored before, or that wait already."""
    may_be_refused = any(run.coalesce == "reject" for run in runs)
    if may_be_refused:
        session.run(SQL["begin"])
    stored: list[Run] = []
    replaced: dict[str, Run] = {}
    for new in runs:
        waiting = _waiting(session, new)
        if waiting is None:
            stored.append(_insert(session, new))
        elif new.coalesce == "skip":
            stored.append(replace(run_at(session, waiting["seq"]), disposition="coalesced"))
        elif new.coalesce == "replace":
            cancel(session, waiting["id"], new.id)
            replaced[waiting["id"]] = run_at(session, waiting["seq"])
            stored.append(_insert(session, new, rank=waiting["rank"]))
        else:
            conflict = run_at(session, waiting["seq"])
            session.run(SQL["undo"])
            session.run(SQL["end"])
            return Enqueued(conflict=conflict)
    for key in {_key_of(run) for run in runs}:
        settle_key(session, key)
    if may_be_refused:
        session.run(SQL["end"])
    if replaced:
        # What this very call stored first, a later run of it may have replaced.
        stored = [replace(replaced.get(run.id, run), disposition=run.disposition) for run in stored]
    return Enqueued(runs=stored, replaced=list(replaced.values()))


def follow_failure(session: Session, run: Run) -> None:
    """Store the run that follows one that has just failed, if one is to follow."""
    new = follow_up(run)
    if new is not None:
        enqueue(session, [new])


def _waiting(session: Session, new: NewRun) -> sqlite3.Row | None:
    """The run that a new one would coalesce with, unless the new one is stored already."""
    key = _key_of(new)
    if new.coalesce is None or key is None or _stored_before(session, new) is not None:
        return None
    values = {"scope": key[0], "key": key[1], "job_name": new.job_name}
    queued = session.row(SQL["last_in_queue"], values)
    if queued is not None:
        return queued
    delayed = session.row(SQL["first_by_the_clock"], values)
    if delayed is None or new.coalesce != "skip":
        return delayed
    # One that falls due later must not answer for a start that is wanted sooner.
    return delayed if delayed["timer_at"] <= (_due_at(session, new) or session.now) else None


def _due_at(session: Session, new: NewRun) -> float | None:
    return new.run_at if new.delay is None else session.now + new.delay


def _insert(session: Session, new: NewRun, *, rank: float | None = None) -> Run:
    """Store a run, no further back in the queue than `rank`; or answer what is stored already."""
    due_at = _due_at(session, new)
    key = _key_of(new)
    own_rank = session.instant() - new.priority * SECONDS_PER_PRIORITY
    waits = due_at is not None and due_at > session.now
    change = session.next_change()
    inserted = session.row(
        SQL["insert_run"],
        {
            "id": new.id,
            "job_name": new.job_name,
            "change": change,
            "priority": new.priority,
            "rank": own_rank if rank is None else min(rank, own_rank),
            "ready": not waits and key is None,
            "timer_at": due_at if waits else None,
            "due_at": due_at,
            "idempotency_key": new.idempotency_key,
            "key_scope": key[0] if key else None,
            "concurrency_key": new.concurrency_key,
            "now": session.now,
            "labels": json_text(new.labels),
            "input": new.input_json,
            "parent_id": new.parent_id,
            "is_detached": new.is_detached,
            "on_failure": json.dumps(new.on_failure) if new.on_failure else None,
        },
    )
    if inserted is None:
        # Both ends of the conflict are looked for by `_stored_before`: one of them is there.
        return cast("Run", _stored_before(session, new))
    seq = inserted["seq"]
    for name, value in new.labels.items():
        session.run(SQL["insert_label"], {"key": name, "value": value, "seq": seq})
    return _as_stored(new, position=seq, change=change, due_at=due_at, now=session.now)


def _as_stored(new: NewRun, *, position: int, change: int, due_at: float | None, now: float) -> Run:
    """The run as its row says."""
    created_at = instant(now)
    return Run(
        id=new.id,
        job_name=new.job_name,
        status="pending",
        labels=dict(new.labels),
        created_at=created_at,
        updated_at=created_at,
        position=position,
        change=change,
        input_json=new.input_json,
        idempotency_key=new.idempotency_key,
        concurrency_key=new.concurrency_key,
        is_key_shared=new.key_scope == SHARED_SCOPE,
        priority=new.priority,
        due_at=maybe_instant(due_at),
        parent_id=new.parent_id,
        is_detached=new.is_detached,
        on_failure=new.on_failure,
        disposition="created",
    )


def _stored_before(session: Session, new: NewRun) -> Run | None:
    own = get_run(session, new.id, disposition="created")
    if own is not None or new.idempotency_key is None:
        return own
    row = session.row(
        SQL["find_by_idempotency_key"],
        {"job_name": new.job_name, "idempotency_key": new.idempotency_key},
    )
    return None if row is None else to_run(row, disposition="idempotent")


def _key_of(new: NewRun) -> Key | None:
    if new.concurrency_key is None:
        return None
    # Without a scope a key belongs to its job.
    return new.key_scope or new.job_name, new.concurrency_key
