"""A SQLite store with a clock in the test's hand, and what lies under its hood."""

import sqlite3
from collections.abc import Callable

from typing_extensions import override

from durably.stores.sqlite import SqliteStore
from durably.stores.sqlite.session import Session, Values
from durably_testing.conformance import stage as contract
from durably_testing.conformance.stage import BROKEN, DONE, HOST, LEASE, NO_NOTES, STATES, HandClock, bring_to

__all__ = ["BROKEN", "DONE", "HOST", "LEASE", "NO_NOTES", "STATES", "HandClock", "Stage", "bring_to"]


class Stage(contract.Stage):
    """One store, and what workers and people do to it."""

    store: SqliteStore

    @override
    def __init__(self, store: SqliteStore, clock: HandClock) -> None:
        super().__init__(store, clock)

    # Under the hood

    async def sql(self, statement: str, values: Values | None = None) -> list[tuple[object, ...]]:
        """Execute on the writer's connection, in a transaction."""

        def work(session: Session) -> list[tuple[object, ...]]:
            return [tuple(row) for row in session.rows(statement, values or {})]

        return await self.store.database.write(work)

    async def at_connection(self, act: Callable[[sqlite3.Connection], object]) -> None:
        """Do something with the writer's connection, on its own thread and in no transaction.

        From another thread a call waits for the connection with the interpreter's lock in hand, while
        the writer, on its way into a callback, waits for the interpreter's lock: neither moves again.
        """

        def probe(session: Session) -> bool:
            act(session.connection)
            return True

        await self.store.database.write(lambda _: True, probe=probe)

    async def is_in_transaction(self) -> bool:
        """Whether the writer has left one open."""
        seen: list[bool] = []
        await self.at_connection(lambda connection: seen.append(connection.in_transaction))
        return seen[0]

    async def column(self, id: str, name: str) -> object:
        [[value]] = await self.sql(f"SELECT {name} FROM durably_runs WHERE id = :id", {"id": id})
        return value
