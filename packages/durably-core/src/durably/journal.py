"""What an execution tells beside its checkpoints, until it is written."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from durably.models import LogEntry, Progress
from durably.stores.values import Notes, StepRecord

Entry: TypeAlias = LogEntry | Progress


@dataclass(frozen=True, slots=True)
class Page:
    """Notes on their way to the store."""

    notes: Notes
    until: int
    """How many entries of the journal are in the store once these are."""


class Journal:
    """Log lines, progress, cursors and started steps of one execution, and their per-run numbering.

    Thread-safe: plain functions write log lines from their threads. Whoever reads the rows by number
    never finds one added below the last it has seen: numbers are given and entries kept under one
    lock, a writer takes its own number before the page that goes with it, and a page carries the
    entries of the pages before it too until one of them is known to be written.
    """

    def __init__(self, last_sequence: int, *, filled: Callable[[], None], keeps_logs: bool = True) -> None:
        self._lock = threading.Lock()
        self._sequence = last_sequence
        self._entries: list[Entry] = []
        self._new = 0
        self._written = 0
        self._started: dict[str, StepRecord] = {}
        self._cursors: dict[str, StepRecord] = {}
        self._filled = filled
        self._keeps_logs = keeps_logs

    def number(self, count: int = 1) -> int:
        """The first of the next `count` numbers; to be used at once."""
        with self._lock:
            first = self._sequence + 1
            self._sequence += count
            return first

    def log(self, make: Callable[[int], LogEntry]) -> None:
        """Keep the line that `make` makes of its number."""
        with self._lock:
            self._sequence += 1
            self._entries.append(make(self._sequence))
            self._new += 1
        self._filled()

    def progress(self, progress: Progress) -> None:
        """Keep it; of several only the last is stored."""
        with self._lock:
            self._entries.append(progress)
            self._new += 1
        self._filled()

    def cursor(self, step: StepRecord, cursor_json: str) -> None:
        """Keep the cursor of a step; of several only the last is stored."""
        with self._lock:
            self._sequence += 1
            # Under a number of its own: it may be what makes the step known.
            self._cursors[step.name] = replace(step, sequence=self._sequence, cursor_json=cursor_json)
            self._new += 1
        self._filled()

    def step_started(self, step: StepRecord) -> None:
        """Keep the mark until the step ends."""
        self._started[step.name] = step
        self._filled()

    def step_ended(self, name: str) -> None:
        """The step's own record makes its mark superfluous."""
        self._started.pop(name, None)

    def marks(self, *, started_before: float) -> Sequence[StepRecord]:
        """Take out the started steps that began before this instant."""
        marks = [mark for mark in self._started.values() if mark.started_at <= started_before]
        for mark in marks:
            del self._started[mark.name]
        return marks

    def page(self) -> Page:
        """The log lines, the progress and the cursors that are not known to be written."""
        if not self._entries and not self._cursors:
            return NO_PAGE
        with self._lock:
            entries = tuple(self._entries)
            cursors = tuple(self._cursors.values())
            self._new = 0
            until = self._written + len(entries)
        logs = [entry for entry in entries if isinstance(entry, LogEntry)] if self._keeps_logs else []
        last = next((entry for entry in reversed(entries) if isinstance(entry, Progress)), None)
        return Page(Notes(logs=logs, progress=last, cursors=cursors), until)

    def written(self, page: Page) -> Sequence[Entry]:
        """Note that a page is in the store; answers its entries that are known to be so only now."""
        for cursor in page.notes.cursors:
            with self._lock:
                if self._cursors.get(cursor.name) is cursor:
                    del self._cursors[cursor.name]
        if page.until <= self._written:
            return ()
        with self._lock:
            count = page.until - self._written
            entries, self._entries = self._entries[:count], self._entries[count:]
            self._written = page.until
        return entries

    @property
    def has_news(self) -> bool:
        """Whether there are entries that no page has taken."""
        return self._new > 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self._new and not self._started


NO_PAGE = Page(Notes(), 0)
