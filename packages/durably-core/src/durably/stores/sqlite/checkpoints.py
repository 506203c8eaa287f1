"""What an owner writes: steps, notes, the outcome. Every write is fenced."""

from durably.failures import plain_text
from durably.models import RunError
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import run_at
from durably.stores.sqlite.rows import error_text, json_text
from durably.stores.sqlite.session import Session, Value
from durably.stores.sqlite.triggering import follow_failure
from durably.stores.sqlite.waits import child_ended
from durably.stores.values import Answer, Completed, Failed, Lease, Notes, StepRecord

SQL = load("checkpoints")


def save_step(session: Session, lease: Lease, step: StepRecord, notes: Notes) -> Answer:
    """Write a step; the notes go with it or not at all."""
    if not _save(session, lease, step):
        answer = standing(session, lease)
        if answer != "applied" or not _is_saved(session, lease, step):
            # A different record of a finished step: whoever wrote that one was a rightful owner.
            return "lost" if answer == "applied" else answer
    if notes:
        write_notes(session, lease, notes)
    return "applied"


def note(session: Session, lease: Lease, notes: Notes) -> Answer:
    """Write the notes."""
    answer = standing(session, lease)
    if answer == "applied":
        write_notes(session, lease, notes)
    return answer


def finish(session: Session, lease: Lease, outcome: Completed | Failed, notes: Notes) -> Answer:
    """Write the notes and end the run."""
    answer = standing(session, lease)
    output, error = _columns(outcome)
    status = "completed" if isinstance(outcome, Completed) else "failed"
    if answer != "applied":
        return "applied" if _is_finished(session, lease, status, output, error) else answer
    if notes:
        write_notes(session, lease, notes)
    row = session.one(
        SQL["finish_run"],
        {
            "run_id": lease.run_id,
            "generation": lease.generation,
            "status": status,
            "output": output,
            "error": error_text(error),
            "now": session.now,
            "change": session.next_change(),
        },
    )
    settle_key(session, key_of(row))
    child_ended(session, lease.run_id)
    if isinstance(outcome, Failed):
        follow_failure(session, run_at(session, row["seq"]))
    elif not outcome.keep_results:
        session.run(SQL["drop_results"], {"run_id": lease.run_id})
    return "applied"


def standing(session: Session, lease: Lease) -> Answer:
    """Whether the lease is good now."""
    row = session.row(SQL["find_fence"], {"run_id": lease.run_id})
    if row is None or row["lease_generation"] != lease.generation:
        return "lost"
    if row["status"] == "running":
        return "applied"
    return "cancelled" if row["status"] == "cancelled" else "lost"


def _save(session: Session, lease: Lease, step: StepRecord) -> bool:
    error = error_text(step.error) if step.error is not None else None
    written = session.connection.execute(
        SQL["save_step"],
        {
            "run_id": lease.run_id,
            "generation": lease.generation,
            "name": step.name,
            "status": step.status,
            "position": step.position,
            "attempt": step.attempt,
            "sequence": step.sequence,
            "started_at": step.started_at,
            "completed_at": step.completed_at,
            "error": error,
            "result": step.result_json,
            "kind": step.kind,
        },
    )
    return written.rowcount > 0


def _is_saved(session: Session, lease: Lease, step: StepRecord) -> bool:
    """Whether this very record is there: then its first writing was a success nobody heard of."""
    row = session.row(SQL["find_step"], {"run_id": lease.run_id, "name": step.name})
    present = (step.status, step.attempt, error_text(step.error), step.result_json)
    return row is not None and tuple(row) == present


def _is_finished(
    session: Session, lease: Lease, status: str, output: str | None, error: RunError | None
) -> bool:
    row = session.row(SQL["find_outcome"], {"run_id": lease.run_id, "generation": lease.generation})
    return row is not None and tuple(row) == (status, output, error_text(error))


def _columns(outcome: Completed | Failed) -> tuple[str | None, RunError | None]:
    if isinstance(outcome, Completed):
        return outcome.output_json, None
    return None, outcome.error


def write_notes(session: Session, lease: Lease, notes: Notes) -> None:
    """Write what an owner tells beside its checkpoints; the guard is in every statement."""
    fence: dict[str, Value] = {"run_id": lease.run_id, "generation": lease.generation}
    for step in notes.started:
        _save(session, lease, step)
    for step in notes.cursors:
        session.run(
            SQL["save_cursor"],
            {
                **fence,
                "name": step.name,
                "position": step.position,
                "attempt": step.attempt,
                "sequence": step.sequence,
                "started_at": step.started_at,
                "cursor": step.cursor_json,
            },
        )
    for entry in notes.logs:
        session.run(
            SQL["save_log"],
            {
                **fence,
                "sequence": entry.sequence,
                "level": entry.level,
                "step_name": entry.step_name,
                "created_at": entry.created_at.timestamp(),
                "message": plain_text(entry.message),
                "fields": json_text(entry.fields),
            },
        )
    if notes.progress is not None:
        message = notes.progress.message
        session.run(
            SQL["save_progress"],
            {
                **fence,
                "current": notes.progress.current,
                "total": notes.progress.total,
                "message": None if message is None else plain_text(message),
                "now": session.now,
                "change": session.next_change(),
            },
        )
