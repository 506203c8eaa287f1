"""How a wait ends.

That is decided in one place, `end`, and the wait becomes a checkpoint in the same transaction: when
it begins, when a signal is sent or a child ends, when the run is claimed again. So a signal that
comes late finds the timeout stored already, and changes nothing.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from durably.models import RunError
from durably.stores.sqlite.freeing import hand_back
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.rows import error_text, to_error, to_step_record
from durably.stores.sqlite.session import Session
from durably.stores.values import NewSignal, Receipt, StepRecord

SQL = load("waits")

TIMEOUT_TYPE = "durably.errors.SignalTimeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """How a wait ends."""

    result: str | None = None
    error: RunError | None = None
    signal_id: str | None = None
    """The signal that is consumed by it."""


def end_what_can_end(session: Session, seq: int) -> None:
    """End the waits of a run that is about to go on."""
    for row in session.rows(SQL["waits_of_run"], {"seq": seq}):
        end(session, seq, to_step_record(row))


def ripe_waits(session: Session, run_id: str) -> Sequence[str]:
    """Names of the run's waits for which there is news; whether they have ended is for `end` to say."""
    rows = session.rows(SQL["ripe_waits"], {"run_id": run_id, "now": session.now})
    return [row["name"] for row in rows]


def send_signal(session: Session, signal: NewSignal) -> Receipt:
    """Store a signal, and hand it to the oldest suspended wait it fits.

    Answers `sent`, or why not: `missing` or `ended`, of the run it is addressed to.
    """
    seq: int | None = None
    if signal.run_id is not None:
        row = session.row(SQL["find_receiver"], {"run_id": signal.run_id})
        if row is None:
            return "missing"
        if row["status"] in ("completed", "failed", "cancelled"):
            return "ended"
        seq = row["seq"]
    session.run(
        SQL["insert_signal"],
        {
            "id": signal.id,
            "name": signal.name,
            "seq": seq,
            "key": signal.key,
            "now": session.now,
            "payload": signal.payload_json,
        },
    )
    if seq is None:
        found = session.row(SQL["waiting_for_key"], {"name": signal.name, "key": signal.key})
        _wake(session, found)
    else:
        _wake_if_ended(session, seq, signal.name)
    return "sent"


def child_ended(session: Session, child_id: str) -> None:
    """Hand the child's outcome to the run that waits for it, if that is suspended."""
    for row in session.rows(SQL["waiting_for_child"], {"child_id": child_id}):
        _wake(session, row)


def await_again(session: Session, seq: int, name: str) -> bool:
    """Put a wait for a child back, for a retry; answers whether it is one, and the child still there."""
    return session.run(SQL["await_child_again"], {"seq": seq, "name": name}) > 0


def unfinished_children(session: Session, run_id: str, limit: int) -> Sequence[str]:
    """Attached children that have not ended."""
    rows = session.rows(SQL["unfinished_children"], {"run_id": run_id, "limit": limit})
    return [row["id"] for row in rows]


def orphans(session: Session, limit: int) -> Sequence[str]:
    """Attached children whose parent was cancelled, and that were not."""
    return [row["id"] for row in session.rows(SQL["orphans"], {"limit": limit})]


def nothing_to_forget(session: Session, older_than: float) -> int | None:
    """0 if no signal is that old."""
    found = session.row(SQL["is_forgetting_due"], {"before": session.now - older_than})
    return 0 if found is None else None


def forget_signals(session: Session, older_than: float, limit: int) -> int:
    """Remove old signals that were addressed by key."""
    return session.run(SQL["forget_signals"], {"before": session.now - older_than, "limit": limit})


def end(session: Session, seq: int, step: StepRecord, *, sequence: int = 0) -> StepRecord:
    """End a wait if its time has come; answers it as it stands then.

    Args:
        session: The transaction.
        seq: The run.
        step: The wait as it is stored.
        sequence: The number for its end, where an owner gives one; else the store takes the next.
    """
    outcome = _outcome(session, seq, step)
    if outcome is None:
        return step
    if outcome.signal_id is not None:
        session.run(SQL["consume_signal"], {"id": outcome.signal_id, "now": session.now})
    session.run(
        SQL["end_wait"],
        {
            "seq": seq,
            "name": step.name,
            "status": "completed" if outcome.error is None else "failed",
            "sequence": sequence,
            "now": session.now,
            "result": outcome.result,
            "error": error_text(outcome.error),
        },
    )
    return to_step_record(session.one(SQL["find_wait"], {"seq": seq, "name": step.name}))


def is_over(session: Session, seq: int, step: StepRecord) -> bool:
    """Whether the wait would end now; consumes nothing."""
    return _outcome(session, seq, step) is not None


def _outcome(session: Session, seq: int, step: StepRecord) -> _Outcome | None:
    """How the wait ends now, if it does."""
    in_time = step.wake_at is None or step.wake_at > session.now
    match step.kind:
        case "sleep":
            return None if in_time else _Outcome(result="null")
        case "spawn":
            return _Outcome(result=json.dumps(step.child_id))
        case "child":
            return _outcome_of_child(session, step)
        case "signal":
            return _outcome_of_signal(session, seq, step, in_time=in_time)
        case "run" | "map":
            return None
        case _:
            assert_never(step.kind)


def _outcome_of_signal(session: Session, seq: int, step: StepRecord, *, in_time: bool) -> _Outcome | None:
    signal = session.row(
        SQL["find_signal"],
        {"seq": seq, "name": step.name, "key": step.signal_key, "wake_at": step.wake_at},
    )
    if signal is not None:
        return _Outcome(result=signal["payload"], signal_id=signal["id"])
    if in_time:
        return None
    return _Outcome(error=RunError(type=TIMEOUT_TYPE, message=f"no signal {step.name!r} came in time"))


def _outcome_of_child(session: Session, step: StepRecord) -> _Outcome | None:
    child = session.row(SQL["find_child"], {"child_id": step.child_id})
    if child is None:
        return _Outcome(error=RunError(type="ChildMissing", message=f"run {step.child_id} was deleted"))
    match child["status"]:
        case "completed":
            return _Outcome(result=child["output"])
        case "cancelled":
            return _Outcome(
                error=RunError(type="ChildCancelled", message=f"run {step.child_id} was cancelled")
            )
        case "failed":
            error = to_error(child["error"]) or RunError(type="ChildFailed", message="")
            return _Outcome(error=replace(error, steps=()))
        case _:
            return None


def _wake(session: Session, row: sqlite3.Row | None) -> None:
    if row is not None:
        _wake_if_ended(session, row["seq"], row["name"])


def _wake_if_ended(session: Session, seq: int, name: str) -> None:
    """End the wait of a suspended run, and let the run go on."""
    row = session.row(SQL["find_wait"], {"seq": seq, "name": name})
    if row is None or row["status"] != "running" or session.row(SQL["is_waiting"], {"seq": seq}) is None:
        return
    if end(session, seq, to_step_record(row)).status != "running":
        hand_back(session, seq)
