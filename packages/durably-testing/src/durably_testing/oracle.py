"""The oracle: the engine's promises, checked by the database itself and after every history.

The triggers write what they find into a table of their own, in the transaction that broke the
promise, so that no `except Exception` can hide it: nobody is told, and the table is read at the end.
"""

import sqlite3
from collections.abc import Sequence

from durably_testing.rules import CHECKS, TRIGGERS


def invariant_triggers(connection: sqlite3.Connection, /) -> None:
    """Have this database watch over its runs; `violations` reads what it found. Repeatable.

    For tests of stores and engines on SQLite, in memory or in a file; costs a few microseconds a
    write. The promises: a checkpoint is never changed; an owner writes only while the run is running;
    a generation rises with every claim and never falls; what has ended stays as it is, but for
    `retry`; a key has one holder; only what has ended is removed.

    Raises:
        sqlite3.OperationalError: The database has no tables of durably; migrate it first.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS durably_violations (text TEXT NOT NULL)")
    for statement in TRIGGERS:
        connection.execute(statement)


def violations(connection: sqlite3.Connection, /) -> Sequence[str]:
    """What the triggers have found, and what the rows as they stand now contradict; empty: nothing."""
    found = [str(row[0]) for row in connection.execute("SELECT text FROM durably_violations ORDER BY rowid")]
    for statement in CHECKS:
        found.extend(str(row[0]) for row in connection.execute(statement))
    return found
