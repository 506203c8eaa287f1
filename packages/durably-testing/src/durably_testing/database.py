"""The database of a history: one connection in memory, shared by all simulated processes.

They are on one thread, and the store does each verb in one piece, so nobody ever finds another's
transaction open. Connections are used again, emptied: their prepared statements are what costs.
"""

import asyncio
import sqlite3
from typing import Any

from typing_extensions import override

from durably.spi import RealEnvironment, SqliteStore
from durably_testing.oracle import invariant_triggers
from durably_testing.processes import current_process
from durably_testing.rules import SIMULATED

_KEPT = {"durably_clock", "durably_schema_versions"}

_spare: list["SharedConnection"] = []


class SharedConnection(sqlite3.Connection):
    """A connection that outlives the stores which use it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pragmas: dict[str, object] = {}

    @override
    def close(self) -> None:
        """Stay open: a process has ended, not the history."""

    @override
    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As every connection's; a pragma is carried out once, and then answered from memory.

        Each process that opens its store says the same ones, and one that sets something would have
        every prepared statement prepared anew.
        """
        if not sql.startswith("PRAGMA"):
            return super().execute(sql, parameters)
        if sql not in self._pragmas:
            row = super().execute(sql).fetchone()
            self._pragmas[sql] = None if row is None else row[0]
        value = self._pragmas[sql]
        return super().execute("SELECT ?1 WHERE ?1 IS NOT NULL", (value,))


def borrow_database() -> SharedConnection:
    """An empty, migrated database with the oracle's triggers in it; give it back at the end."""
    try:
        return _spare.pop()
    except IndexError:
        return _made()


def give_back(connection: SharedConnection) -> None:
    """Empty the database for the next history."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'durably_%'"
    ).fetchall():
        if name not in _KEPT:
            connection.execute(f"DELETE FROM {name}")
    connection.execute("UPDATE durably_clock SET change = 0, instant = 0.0")
    connection.execute("COMMIT")
    _spare.append(connection)


def _made() -> SharedConnection:
    connection = sqlite3.connect(
        ":memory:",
        isolation_level=None,
        check_same_thread=False,
        factory=SharedConnection,
        cached_statements=1024,
    )

    def connect(*_: Any, **__: Any) -> SharedConnection:
        return connection

    async def migrate() -> None:
        store = SqliteStore(":memory:", environment=RealEnvironment(), connector=connect)
        await store.open()
        await store.migrate()
        await store.close()

    asyncio.run(migrate())
    connection.create_function("durably_writer", 0, _writer)
    invariant_triggers(connection)
    for statement in SIMULATED:
        connection.execute(statement)
    return connection


def _writer() -> int | None:
    """The simulated worker whose word is being carried out."""
    process = current_process.get()
    return None if process is None or process.is_immune else process.id
