"""What a visitor sees of what runs are given, do and answer, as the application says it.

A `Caller` applies it to everything that leaves it: so there is no view that could forget it.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from traceback import extract_tb
from typing import Any, Final, Generic, Self, TypeVar, cast

from typing_extensions import override

from durably import (
    BehindKey,
    Ended,
    Explanation,
    LogEntry,
    LogLine,
    Progress,
    Run,
    RunError,
    RunSnapshot,
    RunsSnapshot,
    RunsUpdate,
    RunUpdate,
    Step,
    StepSnapshot,
    StoredValueError,
    WaitingForSignal,
)
from durably_web.auth import Payload, PayloadKind

Ctx = TypeVar("Ctx")
T = TypeVar("T")

logger: logging.Logger = logging.getLogger("durably.web")

HIDDEN: Final = "[hidden]"
"""What stands in the place of what is not shown."""


class Redaction(Generic[Ctx]):
    """Shows to one visitor what they may see.

    Args:
        hook: What the application says; None: everything is shown as it is.
        ctx: Whom it is shown to.
    """

    def __init__(self, hook: Callable[[Ctx, Payload], object] | None, ctx: Ctx) -> None:
        self._hook = hook
        self._ctx = ctx
        self._told: set[PayloadKind] = set()

    @property
    def is_none(self) -> bool:
        """Whether everything is shown as it is."""
        return self._hook is None

    def run(self, run: Run) -> Run:
        """The run as they see it."""
        if self._hook is None:
            return run
        input_json = self._json("input", run.input_json, run)
        output_json = None if run.output_json is None else self._json("output", run.output_json, run)
        shown = replace(
            run,
            input_json=input_json,
            output_json=output_json,
            error=self._error(run.error, run),
            progress=self._progress(run.progress, run),
            idempotency_key=self._text("key", run.idempotency_key, run),
            concurrency_key=self._text("key", run.concurrency_key, run),
        )
        return shown.typed(_reader(run, "input"), _reader(run, "output"))

    def shows_input(self, run: Run) -> bool:
        """Whether they see all of the run's input."""
        return self._hook is None or self._json("input", run.input_json, run) == run.input_json

    def step(self, run: Run, step: Step) -> Step:
        """A step of the run as they see it."""
        if self._hook is None:
            return step
        place = step.name
        return replace(
            step,
            result_json=None
            if step.result_json is None
            else self._json("step", step.result_json, run, place),
            cursor_json=None
            if step.cursor_json is None
            else self._json("step", step.cursor_json, run, place),
            signal_key=self._text("key", step.signal_key, run, place),
            error=self._error(step.error, run, place),
            attempts=tuple(
                replace(attempt, error=self._error(attempt.error, run, place)) for attempt in step.attempts
            ),
        )

    def line(self, run: Run, entry: LogEntry) -> LogEntry:
        """A line of the run's log as they see it."""
        if self._hook is None:
            return entry
        place = entry.step_name
        return replace(
            entry,
            message=self._text("log", entry.message, run, place),
            fields=self._fields(entry.fields, run, place) if entry.fields else entry.fields,
        )

    def explanation(self, run: Run, explanation: Explanation) -> Explanation:
        """Why the run is not running, as they see it."""
        match explanation:
            case BehindKey(key=key):
                return replace(explanation, key=self._text("key", key, run))
            case WaitingForSignal(key=key):
                return replace(explanation, key=self._text("key", key, run))
            case Ended(error=error):
                return replace(explanation, error=self._error(error, run))
            case _:
                return explanation

    def updates(self, run: Run, updates: AsyncIterator[RunUpdate]) -> AsyncIterator[RunUpdate]:
        """The updates of the run as they see them."""

        def show(update: RunUpdate) -> RunUpdate:
            nonlocal run
            match update:
                case RunSnapshot():
                    run = update.run
                    return replace(update, run=self.run(run))
                case StepSnapshot():
                    return replace(update, step=self.step(run, update.step))
                case LogLine():
                    return replace(update, entry=self.line(run, update.entry))
                case _:
                    return update

        return updates if self._hook is None else _Shown(updates, show)

    def list_updates(self, updates: AsyncIterator[RunsUpdate]) -> AsyncIterator[RunsUpdate]:
        """The updates of many runs as they see them."""

        def show(update: RunsUpdate) -> RunsUpdate:
            if isinstance(update, RunsSnapshot):
                return replace(update, runs=tuple(map(self.run, update.runs)))
            return replace(update, run=self.run(update.run))

        return updates if self._hook is None else _Shown(updates, show)

    def _error(self, error: T, run: Run, step_name: str | None = None) -> T:
        if not isinstance(error, RunError):
            return error
        message = self._text("error", error.message, run, step_name)
        traceback = self._text("traceback", error.traceback, run, step_name)
        return cast("T", replace(error, message=message, traceback=traceback))

    def _progress(self, progress: Progress | None, run: Run) -> Progress | None:
        if progress is None:
            return None
        return replace(progress, message=self._text("progress", progress.message, run))

    def _text(self, kind: PayloadKind, text: T, run: Run, step_name: str | None = None) -> T:
        if text is None:
            return text
        shown = self._asked(kind, text, run, step_name)
        return cast("T", shown if isinstance(shown, str) else HIDDEN)

    def _json(self, kind: PayloadKind, text: str, run: Run, step_name: str | None = None) -> str:
        """A stored value; its text stays what it is, number by number, if nothing of it is hidden."""
        try:
            # The hook gets a value of its own: what it does to it is not done to what it is compared with.
            shown = _dumped(self._asked(kind, json.loads(text), run, step_name))
            return text if shown == _dumped(json.loads(text)) else shown
        except (TypeError, ValueError, RecursionError) as error:
            self._tell(kind, run, error)
            return _dumped(HIDDEN)

    def _fields(self, fields: Mapping[str, object], run: Run, step_name: str | None) -> Mapping[str, object]:
        text = self._json("log", _dumped(dict(fields)), run, step_name)
        shown: object = json.loads(text)
        return cast("Mapping[str, object]", shown) if isinstance(shown, dict) else {"…": HIDDEN}

    def _asked(self, kind: PayloadKind, value: object, run: Run, step_name: str | None) -> object:
        """What the application answers; what it cannot decide is hidden."""
        if self._hook is None:
            return value
        payload = Payload(kind=kind, value=value, run=run, step_name=step_name)
        try:
            shown = self._hook(self._ctx, payload)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be shown
            self._tell(kind, run, error)
            return HIDDEN
        return HIDDEN if shown is None and value is not None else shown

    def _tell(self, kind: PayloadKind, run: Run, error: Exception) -> None:
        """Once for a kind and request, and without the error's words: they may quote the value."""
        if kind in self._told:
            return
        self._told.add(kind)
        place = extract_tb(error.__traceback__)[-1]
        logger.error(
            "redact could not decide about the %s of run %s, so it is hidden: %s in %s, line %s",
            kind, run.id, type(error).__name__, place.filename, place.lineno,
        )  # fmt: skip


class _Shown(AsyncIterator[T]):
    """Updates as they are shown."""

    def __init__(self, updates: AsyncIterator[T], show: Callable[[T], T]) -> None:
        self._updates = updates
        self._show = show

    @override
    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> T:
        return self._show(await anext(self._updates))


def _reader(run: Run[Any, Any], name: str) -> Callable[[str], Any]:
    """Reads what is shown: as the job's type if it still fits, else as plain JSON."""

    def read(text: str) -> object:
        try:
            return getattr(replace(run, input_json=text, output_json=text), name)
        except StoredValueError:
            return cast("object", json.loads(text))

    return read


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
