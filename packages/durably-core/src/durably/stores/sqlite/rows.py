"""Rows into values, and values into text."""

import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime

from durably.models import (
    Disposition,
    Link,
    LogEntry,
    Progress,
    Run,
    RunError,
    Step,
    StepAttempt,
    WorkerInfo,
)
from durably.stores.values import StepRecord

SHARED_SCOPE = "*"
"""The scope of a key that spans jobs; otherwise it is the job's name."""


def instant(seconds: float) -> datetime:
    """Seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def maybe_instant(seconds: float | None) -> datetime | None:
    """The same for a column that may be null."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def to_run(row: sqlite3.Row, *, disposition: Disposition | None = None) -> Run:
    """A row of durably_snapshots."""
    current = row["progress_current"]
    return Run(
        id=row["id"],
        job_name=row["job_name"],
        status=row["status"],
        labels=json.loads(row["labels"]),
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
        position=row["seq"],
        change=row["change"],
        input_json=row["input"],
        output_json=row["output"],
        error=to_error(row["error"]),
        progress=None
        if current is None
        else Progress(current=current, total=row["progress_total"], message=row["progress_message"]),
        idempotency_key=row["idempotency_key"],
        concurrency_key=row["concurrency_key"],
        is_key_shared=row["key_scope"] == SHARED_SCOPE,
        priority=row["priority"],
        due_at=maybe_instant(row["due_at"]),
        link=row["link"],
        attempt=row["attempt"],
        started_at=maybe_instant(row["started_at"]),
        timed_from=maybe_instant(row["timed_from"]),
        completed_at=maybe_instant(row["completed_at"]),
        completed_step_count=row["steps_completed"],
        crashes=row["crashes"],
        lease_owner=row["lease_owner"],
        lease_expires_at=maybe_instant(row["lease_expires_at"]),
        lease_generation=row["lease_generation"],
        parent_id=row["parent_id"],
        is_detached=bool(row["is_detached"]),
        on_failure=() if row["on_failure"] is None else tuple(json.loads(row["on_failure"])),
        disposition=disposition,
    )


def to_step(row: sqlite3.Row, attempts: tuple[StepAttempt, ...] = ()) -> Step:
    """A row of durably_steps, and the attempts that failed before its latest."""
    error = to_error(row["error"])
    ended_at = maybe_instant(row["completed_at"])
    if error is not None and ended_at is not None:
        last = StepAttempt(
            number=row["attempt"], started_at=instant(row["started_at"]), ended_at=ended_at, error=error
        )
        attempts = (*attempts, last)
    return Step(
        name=row["name"],
        status=row["status"],
        position=row["position"],
        attempt=row["attempt"],
        sequence=row["sequence"],
        started_at=instant(row["started_at"]),
        completed_at=ended_at,
        result_json=row["result"],
        error=error,
        kind=row["kind"],
        wake_at=maybe_instant(row["wake_at"]),
        signal_key=row["signal_key"],
        child_id=row["child_id"],
        attempts=attempts if row["kind"] in {"run", "map"} else (),
        cursor_json=row["cursor"],
    )


def to_attempt(row: sqlite3.Row) -> StepAttempt:
    """A row of durably_attempts."""
    return StepAttempt(
        number=row["number"],
        started_at=instant(row["started_at"]),
        ended_at=instant(row["ended_at"]),
        error=to_error(row["error"]) or RunError(type="Unknown", message=""),
    )


def to_link(row: sqlite3.Row) -> Link:
    """A row of durably_links."""
    return Link(
        number=row["number"],
        started_at=instant(row["started_at"]),
        ended_at=instant(row["ended_at"]),
        input_json=row["input"],
    )


def to_step_record(row: sqlite3.Row) -> StepRecord:
    """A row of durably_steps, for the run's next owner."""
    return StepRecord(
        name=row["name"],
        status=row["status"],
        position=row["position"],
        attempt=row["attempt"],
        sequence=row["sequence"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        result_json=row["result"],
        error=to_error(row["error"]),
        kind=row["kind"],
        wake_at=row["wake_at"],
        signal_key=row["signal_key"],
        child_id=row["child_id"],
    )


def to_log_entry(row: sqlite3.Row) -> LogEntry:
    """A row of durably_logs."""
    return LogEntry(
        sequence=row["sequence"],
        level=row["level"],
        message=row["message"],
        fields=json.loads(row["fields"]),
        step_name=row["step_name"],
        created_at=instant(row["created_at"]),
    )


def to_worker(row: sqlite3.Row) -> WorkerInfo:
    """A row of durably_workers, with the number of runs it holds."""
    return WorkerInfo(
        id=row["id"],
        host=row["host"],
        pid=row["pid"],
        state=row["state"],
        slots=row["slots"],
        running=row["running"],
        jobs=tuple(json.loads(row["jobs"])),
        started_at=instant(row["started_at"]),
        heartbeat_at=instant(row["heartbeat_at"]),
    )


def to_error(text: str | None) -> RunError | None:
    """A stored error."""
    if text is None:
        return None
    stored = json.loads(text)
    return RunError(
        type=stored["type"],
        message=stored["message"],
        traceback=stored["traceback"],
        steps=tuple(stored["steps"]),
    )


def error_text(error: RunError | None) -> str | None:
    """An error as it is stored; the same error always gives the same text."""
    if error is None:
        return None
    return json.dumps(
        {
            "type": error.type,
            "message": error.message,
            "traceback": error.traceback,
            "steps": error.steps,
        }
    )


def json_text(value: Mapping[str, object]) -> str:
    """Labels or a log line's fields. What is no JSON is told as text: a log line must not fail."""
    return json.dumps(dict(value), default=str)
