"""One connection and the transaction it is in."""

import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from durably.stores.sqlite.queries import load

Value: TypeAlias = str | int | float | None
Values: TypeAlias = Mapping[str, Value]

SQL = load("clock")
NOTHING: Values = {}


class Session:
    """A connection, the present instant, and the counters of the transaction it is in.

    The counters (the change number, and the instant that ranks are made of) are read at most once
    and written at most once in a transaction, however many verbs share it.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.connection = connection
        self.now: float = 0.0
        self._clock = clock
        self._change = 0
        self._instant = 0.0
        self._has_read_counters = False
        self._after_commit: list[Callable[[], None]] = []

    def tell_time(self) -> None:
        """Let `now` be the present; it stands still until the next call."""
        self.now = self._clock()

    def begin(self) -> None:
        """Open a transaction that may write.

        Immediate, because a transaction that begins by reading cannot wait for the write lock: it
        fails at once when another process has written meanwhile.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        self.tell_time()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Let several reads see the database as it is at the first of them."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("COMMIT")

    def commit(self) -> None:
        """Commit, then do what was put off until the commit."""
        if self._has_read_counters:
            self.run(SQL["write_clock"], {"change": self._change, "instant": self._instant})
        self.connection.execute("COMMIT")
        self._has_read_counters = False
        put_off, self._after_commit = self._after_commit, []
        for action in put_off:
            action()

    def rollback(self) -> None:
        """Leave the transaction, if there still is one.

        After a full disk or an interrupt SQLite has rolled back already, and a second ROLLBACK
        would hide the error that matters.
        """
        self._has_read_counters = False
        self._after_commit.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def after_commit(self, action: Callable[[], None]) -> None:
        """Have something done once this transaction is committed; never if it is rolled back."""
        self._after_commit.append(action)

    def next_change(self) -> int:
        """The number of the next change in the store."""
        self._read_counters()
        self._change += 1
        return self._change

    def last_change(self) -> int:
        """The number of the last change in the store, those of this transaction included."""
        if self._has_read_counters:
            return self._change
        change: int = self.one(SQL["read_clock"])["change"]
        return change

    def instant(self) -> float:
        """The present, but never before an instant this store has given already."""
        self._read_counters()
        self._instant = max(self._instant, self.now)
        return self._instant

    def run(self, statement: str, values: Values = NOTHING) -> int:
        """Execute; answers how many rows changed."""
        return self.connection.execute(statement, values).rowcount

    def rows(self, statement: str, values: Values = NOTHING) -> Sequence[sqlite3.Row]:
        """Execute and fetch everything."""
        rows: list[sqlite3.Row] = self.connection.execute(statement, values).fetchall()
        return rows

    def row(self, statement: str, values: Values = NOTHING) -> sqlite3.Row | None:
        """Execute and fetch the first row.

        All rows are fetched: a statement that is not read to its end would stay open, and in the
        way of the COMMIT.
        """
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def one(self, statement: str, values: Values = NOTHING) -> sqlite3.Row:
        """Execute what always finds a row, and fetch it."""
        return self.rows(statement, values)[0]

    def _read_counters(self) -> None:
        if not self._has_read_counters:
            self._change, self._instant = self.one(SQL["read_clock"])
            self._has_read_counters = True
