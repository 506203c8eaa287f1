"""Attempts that failed: at a step, which is tried again, and at a whole job."""

from collections import Counter
from collections.abc import Mapping

from durably.stores.sqlite.checkpoints import standing, write_notes
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.rows import error_text
from durably.stores.sqlite.session import Session, Value
from durably.stores.sqlite.transitions import send_back
from durably.stores.values import Answer, Lease, Notes, Reattempt, StepRecord

SQL = load("attempts")


def save_attempt(session: Session, lease: Lease, step: StepRecord, notes: Notes) -> Answer:
    """Write a failed attempt of a step that is tried again, and the notes."""
    fence: dict[str, Value] = {"run_id": lease.run_id, "generation": lease.generation, "name": step.name}
    written = session.run(
        SQL["await_attempt"],
        {
            **fence,
            "position": step.position,
            "attempt": step.attempt,
            "sequence": step.sequence,
            "started_at": step.started_at,
            "wake_at": step.wake_at,
        },
    )
    if not written:
        answer = standing(session, lease)
        return "lost" if answer == "applied" else answer
    session.run(
        SQL["save_attempt"],
        {
            **fence,
            "attempt": step.attempt,
            "sequence": step.sequence,
            "started_at": step.started_at,
            "ended_at": step.completed_at,
            "error": error_text(step.error),
        },
    )
    write_notes(session, lease, notes)
    return "applied"


def failures_of(session: Session, seq: int) -> Mapping[str, int]:
    """How many attempts at each step of a run failed since it was last sent back."""
    return Counter(row["step_name"] for row in session.rows(SQL["failed_attempts"], {"seq": seq}))


def reattempt(session: Session, lease: Lease, outcome: Reattempt, notes: Notes) -> Answer:
    """Write the notes and let the job begin again, after a delay."""
    answer = standing(session, lease)
    values: dict[str, Value] = {
        "run_id": lease.run_id,
        "generation": lease.generation,
        "attempt": outcome.attempt,
    }
    if answer != "applied":
        # Then its first writing was a success nobody heard of.
        return "applied" if session.row(SQL["find_reattempt"], values) is not None else answer
    write_notes(session, lease, notes)
    row = session.one(
        SQL["reattempt_run"],
        {
            **values,
            "delay": outcome.delay,
            "error": error_text(outcome.error),
            "now": session.now,
            "change": session.next_change(),
        },
    )
    # What a person cancelled stays cancelled.
    send_back(
        session, row["seq"], outcome.error.steps, f"{lease.run_id}/{lease.generation}", revived=("failed",)
    )
    settle_key(session, key_of(row))
    return "applied"
