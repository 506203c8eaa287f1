"""Runs, steps and events in the words of the reference's clients.

The wire knows no `running` and no `waiting`: a run that has begun and not ended is `leased` there.
Names are in camel case, durations in milliseconds, what is not known is left out of events.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from durably import LogEntry, Progress, Run, RunStatus, Step

Wire: TypeAlias = dict[str, Any]
WireStatus: TypeAlias = Literal["pending", "leased", "completed", "failed", "cancelled"]

WORDS: Mapping[RunStatus, WireStatus] = {
    "pending": "pending",
    "running": "leased",
    "waiting": "leased",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
STATUSES: Mapping[str, list[RunStatus]] = {
    word: [ours for ours, theirs in WORDS.items() if theirs == word] for word in WORDS.values()
}
MILLISECOND = timedelta(milliseconds=1)


def dump(value: object) -> bytes:
    """JSON as `JSON.stringify` writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which is no text
        return json.dumps(value, separators=(",", ":")).encode()


def iso(moment: datetime | None) -> str | None:
    """As `Date.prototype.toISOString` writes it."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def client_run(run: Run) -> Wire:
    """A run as lists and single answers show it: without keys and leases."""
    status = WORDS[run.status]
    return {
        "id": run.id,
        "jobName": run.job_name,
        "input": json.loads(run.input_json),
        "status": status,
        "currentStepIndex": run.completed_step_count,
        "completedStepCount": run.completed_step_count,
        "progress": progress(run.progress),
        "output": stored(run.output_json),
        "error": reason(run),
        "labels": dict(run.labels),
        "startedAt": iso(run.started_at),
        "completedAt": iso(run.completed_at),
        "createdAt": iso(run.created_at),
        "isTerminal": run.is_terminal,
        "isActive": not run.is_terminal,
    }


def client_step(run_id: str, step: Step) -> Wire:
    """A step that has ended."""
    return {
        "id": f"{run_id}-{index(step)}",
        "runId": run_id,
        "name": step.name,
        "index": index(step),
        "status": step.status,
        "output": stored(step.result_json),
        "error": None if step.error is None else step.error.message,
        "startedAt": iso(step.started_at),
        "completedAt": iso(step.completed_at),
    }


def index(step: Step) -> int:
    """Its place among the run's steps, from 0."""
    return step.position - 1


def stored(text: str | None) -> object:
    """A stored value; what there is not is null."""
    return None if text is None else json.loads(text)


def reason(run: Run) -> str | None:
    """Why the run failed; why an earlier attempt at its job did is not told."""
    return run.error.message if run.status == "failed" and run.error is not None else None


def progress(told: Progress | None) -> Wire | None:
    """How far the run has come."""
    if told is None:
        return None
    parts = {"current": _number(told.current), "total": _number(told.total), "message": told.message}
    return {name: part for name, part in parts.items() if part is not None}


def _number(value: float | None) -> float | None:
    """JavaScript has one kind of numbers, and writes 3 for 3.0."""
    return int(value) if value is not None and float(value).is_integer() else value


def milliseconds(since: datetime | None, until: datetime | None) -> int:
    """How long it took."""
    return 0 if since is None or until is None else round((until - since) / MILLISECOND)


# Events

DETAILS = frozenset(
    {"input", "leaseOwner", "leaseExpiresAt", "output", "duration", "failedStepName", "timestamp", "sequence"}
)
"""What is told to those who follow one run, and not to those who follow a list."""


def brief(event: Wire) -> Wire:
    """An event as it is told to those who follow a list."""
    hidden = DETAILS | {"error"} if event["type"] == "run:fail" else DETAILS
    return {name: fact for name, fact in event.items() if name not in hidden}


def run_event(type: str, run: Run, **facts: object) -> Wire:
    """What happened to a run, when it last changed."""
    return _event(type, run, facts, at=run.updated_at, sequence=0)


def leased(run: Run) -> Wire:
    """A worker began with the run, or went on with it."""
    return run_event(
        "run:leased",
        run,
        input=json.loads(run.input_json),
        leaseOwner=run.lease_owner or "",
        leaseExpiresAt=iso(run.lease_expires_at) or "",
    )


def ended(run: Run) -> Wire:
    """How the run ended."""
    if run.status == "completed":
        duration = milliseconds(run.started_at, run.completed_at)
        return run_event("run:complete", run, output=stored(run.output_json), duration=duration)
    if run.status == "failed":
        steps = () if run.error is None else run.error.steps
        failed_step = steps[0] if steps else "unknown"
        return run_event("run:fail", run, error=reason(run) or "Unknown error", failedStepName=failed_step)
    return run_event("run:cancel", run)


def progressed(run: Run) -> Wire:
    """How far the run has come."""
    return run_event("run:progress", run, progress=progress(run.progress))


def step_event(run: Run, step: Step) -> Wire:
    """A step began or ended."""
    place = {"stepName": step.name, "stepIndex": index(step)}
    at = step.completed_at or step.started_at
    if step.status == "completed":
        facts = place | {
            "output": stored(step.result_json),
            "duration": milliseconds(step.started_at, step.completed_at),
        }
        return _event("step:complete", run, facts, at=at, sequence=step.sequence)
    if step.status == "failed":
        facts = place | {"error": "Unknown error" if step.error is None else step.error.message}
        return _event("step:fail", run, facts, at=at, sequence=step.sequence)
    type = "step:cancel" if step.status == "cancelled" else "step:start"
    return _event(type, run, place, at=at, sequence=step.sequence)


def log_event(run: Run, line: LogEntry) -> Wire:
    """The job wrote a line."""
    facts: dict[str, object] = {
        "stepName": line.step_name,
        "level": "warn" if line.level == "warning" else line.level,
        "message": line.message,
    }
    if line.fields:
        facts["data"] = dict(line.fields)
    return _event("log:write", run, facts, at=line.created_at, sequence=line.sequence)


def _event(type: str, run: Run, facts: Mapping[str, object], *, at: datetime, sequence: int) -> Wire:
    return {
        "type": type,
        "runId": run.id,
        "jobName": run.job_name,
        **facts,
        "labels": dict(run.labels),
        "timestamp": iso(at),
        "sequence": sequence,
    }
