"""A recorded history: what a run was given, and what each of its steps came to, as a file.

The file is JSON, made to be read and compared line by line. It has the run's values as they are
stored: what must not be in a repository must be taken out of it first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from durably import Run, RunError, Step
from durably_testing.errors import HistoryError

VERSION = 1

Kind: TypeAlias = Literal["run", "map", "sleep", "signal", "child", "spawn"]
"""What a step was; as in `Step.kind`."""
JsonValue: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStep:
    """A checkpoint."""

    name: str
    kind: Kind = "run"
    attempt: int = 1
    result: JsonValue = None
    error: RunError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run from its beginning to its end."""

    job_name: str
    run_id: str
    """Ids and randomness that a job takes from its step context derive from it."""
    link: int
    """Which one of its chain; the steps are those of this link."""
    input: JsonValue
    steps: Sequence[RecordedStep]
    """In the order in which they ended."""
    output: JsonValue
    error: RunError | None
    """Why it failed; None: it completed."""


def history_of(run: Run, steps: Sequence[Step]) -> History:
    """The history of a run that has ended.

    Raises:
        HistoryError: It has not completed or failed, or its steps' results were not kept.
    """
    if run.status not in {"completed", "failed"}:
        raise HistoryError(f"run {run.id} is {run.status}: a history is of a run that completed or failed")
    ended = sorted(
        (step for step in steps if step.status in {"completed", "failed"}), key=lambda step: step.sequence
    )
    for step in ended:
        if step.status == "completed" and step.result_json is None:
            raise HistoryError(
                f"step {step.name!r} of run {run.id} has no result any more: it was read without results, or "
                "the run was executed with keep_results=False"
            )
    return History(
        job_name=run.job_name,
        run_id=run.id,
        link=run.link,
        input=json.loads(run.input_json),
        steps=tuple(
            RecordedStep(
                name=step.name, kind=step.kind, attempt=step.attempt, result=step.result, error=step.error
            )
            for step in ended
        ),
        output=None if run.output_json is None else json.loads(run.output_json),
        error=run.error if run.status == "failed" else None,
    )


def write_history(history: History, path: Path) -> None:
    """Write the file, and the folders that it needs."""
    content: dict[str, JsonValue] = {
        "durably_history": VERSION,
        "job": history.job_name,
        "run": history.run_id,
        **({} if history.link == 1 else {"link": history.link}),
        "input": history.input,
        "steps": [_step_content(step) for step in history.steps],
    }
    if history.error is None:
        content["output"] = history.output
    else:
        content["error"] = _error_content(history.error)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_history(path: Path) -> History:
    """Read the file.

    Raises:
        HistoryError: It is no history, or one of another version; says which.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["durably_history"]
    except (ValueError, LookupError, TypeError) as error:
        raise HistoryError(f"{path} is no history: {error!r}") from None
    if version != VERSION:
        raise HistoryError(
            f"{path} is a history of version {version}, this durably-testing reads version {VERSION}; record it anew"
        )
    try:
        return History(
            job_name=content["job"],
            run_id=content["run"],
            link=content.get("link", 1),
            input=content["input"],
            steps=tuple(_step_of(step) for step in content["steps"]),
            output=content.get("output"),
            error=_error_of(content.get("error")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise HistoryError(f"{path} is damaged: {error!r}") from None


def _step_content(step: RecordedStep) -> Mapping[str, JsonValue]:
    content: dict[str, JsonValue] = {"name": step.name}
    if step.kind != "run":
        content["kind"] = step.kind
    if step.attempt != 1:
        content["attempt"] = step.attempt
    if step.error is None:
        content["result"] = step.result
    else:
        content["error"] = _error_content(step.error)
    return content


def _step_of(content: Mapping[str, JsonValue]) -> RecordedStep:
    kind = content.get("kind", "run")
    if kind not in get_args(Kind):
        raise ValueError(f"step {content['name']!r} is of no kind that there is: {kind!r}")
    return RecordedStep(
        name=content["name"],
        kind=cast("Kind", kind),
        attempt=content.get("attempt", 1),
        result=content.get("result"),
        error=_error_of(content.get("error")),
    )


def _error_content(error: RunError) -> Mapping[str, JsonValue]:
    # No traceback: it is of no account to the job, and changes with every line of its code.
    content: dict[str, JsonValue] = {"type": error.type, "message": error.message}
    return {**content, "steps": list(error.steps)} if error.steps else content


def _error_of(content: Mapping[str, JsonValue] | None) -> RunError | None:
    if content is None:
        return None
    return RunError(type=content["type"], message=content["message"], steps=tuple(content.get("steps", ())))
