"""What an execution tells beside its checkpoints, until it is written."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from durably.models import LogEntry, Progress
from durably.stores.base import Notes, StepRecord

Entry: TypeAlias = LogEntry | Progress


@dataclass(frozen=True, slots=True)
class Page:
    """Notes on their way to the store, and the entries in the order in which they were made."""

    notes: Notes
    entries: Sequence[Entry]


class Journal:
    """Log lines, progress and started steps of one execution, and their per-run numbering.

    Thread-safe: plain functions write log lines from their threads. Numbers are given and entries
    kept under one lock, so that whoever reads the rows by number never finds one added below the
    last it has seen.
    """

    def __init__(self, last_sequence: int, *, filled: Callable[[], None], keeps_logs: bool = True) -> None:
        self._lock = threading.Lock()
        self._sequence = last_sequence
        self._entries: list[Entry] = []
        self._started: dict[str, StepRecord] = {}
        self._filled = filled
        self._keeps_logs = keeps_logs

    def number(self) -> int:
        """The next number; to be used at once."""
        with self._lock:
            self._sequence += 1
            return self._sequence

    def log(self, make: Callable[[int], LogEntry]) -> None:
        """Keep the line that `make` makes of its number."""
        with self._lock:
            self._sequence += 1
            self._entries.append(make(self._sequence))
        self._filled()

    def progress(self, progress: Progress) -> None:
        """Keep it; of several only the last is stored."""
        with self._lock:
            self._entries.append(progress)
        self._filled()

    def step_started(self, step: StepRecord) -> None:
        """Keep the mark until the step ends."""
        self._started[step.name] = step
        self._filled()

    def step_ended(self, name: str) -> None:
        """The step's own record makes its mark superfluous."""
        self._started.pop(name, None)

    def page(self) -> Page:
        """Take out the log lines and the progress."""
        if not self._entries:
            return _EMPTY
        with self._lock:
            entries, self._entries = self._entries, []
        logs = [entry for entry in entries if isinstance(entry, LogEntry)] if self._keeps_logs else []
        last = next((entry for entry in reversed(entries) if isinstance(entry, Progress)), None)
        return Page(Notes(logs=logs, progress=last), entries)

    def full_page(self, *, started_before: float) -> Page:
        """Take out everything, of the started steps those that began before this instant."""
        page = self.page()
        marks = [mark for mark in self._started.values() if mark.started_at <= started_before]
        for mark in marks:
            del self._started[mark.name]
        if not marks:
            return page
        notes = Notes(logs=page.notes.logs, progress=page.notes.progress, started=marks)
        return Page(notes, page.entries)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self._entries and not self._started


_EMPTY = Page(Notes(), ())
