"""Opening a SQLite database, and saying what is wrong with it."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from durably.errors import (
    NotADatabaseError,
    SchemaMissingError,
    SqliteTooOldError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from durably.models import Durability

MEMORY = ":memory:"
FLOOR = (3, 37, 0)
"""STRICT tables, and RETURNING, came with this version."""

CACHED_STATEMENTS = 512

Connector: TypeAlias = Callable[..., sqlite3.Connection]
"""How a connection is made: called as `sqlite3.connect`."""


_creating = threading.Lock()


def check_version(found: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite library that is too old for our tables."""
    if found < FLOOR:
        raise SqliteTooOldError(".".join(map(str, found)), ".".join(map(str, FLOOR[:2])))


def connect(
    path: str, *, durability: Durability, busy_timeout: float, connector: Connector = sqlite3.connect
) -> sqlite3.Connection:
    """Open the connection that writes; creates the file, readable by its owner alone."""
    _create_file(path)
    connection = _connect(path, busy_timeout, connector)
    try:
        journal = _pragma(connection, "journal_mode")
        if path != MEMORY and journal != "wal":
            journal = _pragma(connection, "journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous(durability, journal)}")
        connection.execute("PRAGMA foreign_keys = ON")
        # We make the checkpoints ourselves (upkeep.py); what a burst left of the log is cut off.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {16 * 1024 * 1024}")
        # The first read of the file: whatever is wrong with it shows here.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    return connection


def synchronous(durability: Durability, journal: object) -> str:
    """When a commit waits for the disk.

    Where the file system has no shared memory SQLite keeps its older journal, which loses the last
    commit in a power cut unless the removal of the journal is waited for as well.
    """
    if durability == "process":
        return "NORMAL"
    return "FULL" if journal == "wal" else "EXTRA"


def connect_reader(
    path: str, *, busy_timeout: float, connector: Connector = sqlite3.connect
) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = _connect(path, busy_timeout, connector)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    return connection


def explain(error: Exception, path: str) -> Exception:
    """The error in our own words; anything that is not SQLite's comes back as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    found = _BY_CODE.get(primary) if primary is not None else None
    if found is not None:
        kind, words = found
        return kind(f"{path}: {words} ({error})")
    if "no such table: durably_" in str(error):
        return SchemaMissingError(f"{path} has no tables of durably yet; call migrate() or init() first")
    return StoreError(f"{path}: {error}")


_BY_CODE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_BUSY: (
        StoreBusyError,
        "another connection keeps the database locked; find a program with a long write transaction",
    ),
    sqlite3.SQLITE_LOCKED: (StoreBusyError, "the database is locked by another connection of this process"),
    sqlite3.SQLITE_FULL: (StoreFullError, "no room left on the disk or in the database"),
    sqlite3.SQLITE_IOERR: (StoreUnavailableError, "reading or writing failed; check the disk"),
    sqlite3.SQLITE_CANTOPEN: (
        StoreUnavailableError,
        "the database cannot be opened; check that its folder exists and may be entered",
    ),
    sqlite3.SQLITE_INTERRUPT: (StoreUnavailableError, "the statement was interrupted"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailableError, "out of memory"),
    sqlite3.SQLITE_PROTOCOL: (
        StoreUnavailableError,
        "the file's locks do not work; is it on a network drive?",
    ),
    sqlite3.SQLITE_READONLY: (
        StoreReadOnlyError,
        "the database is read-only; check the permissions of the file and of its folder",
    ),
    sqlite3.SQLITE_PERM: (StoreReadOnlyError, "access was denied; check the permissions of the file"),
    sqlite3.SQLITE_AUTH: (StoreReadOnlyError, "access was denied"),
    sqlite3.SQLITE_NOTADB: (NotADatabaseError, "the file is not a SQLite database; was the path meant?"),
    sqlite3.SQLITE_CORRUPT: (NotADatabaseError, "the database is damaged; restore it from a backup"),
}


def _connect(path: str, busy_timeout: float, connector: Connector) -> sqlite3.Connection:
    try:
        connection = connector(
            path,
            timeout=busy_timeout,
            isolation_level=None,
            cached_statements=CACHED_STATEMENTS,
            # The connection is opened, used and closed on different threads, one at a time.
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise explain(error, path) from error
    connection.row_factory = sqlite3.Row
    # A file mapped into memory turns an I/O error into a dead process.
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _create_file(path: str) -> None:
    if path == MEMORY:
        return
    # SQLite gives its log and index files the mode of the database. Only a new file is touched, by one
    # thread at a time: closing any handle of a database drops the locks which this process holds on it.
    with _creating, contextlib.suppress(OSError):
        os.close(os.open(Path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    row = connection.execute(f"PRAGMA {pragma}").fetchall()
    return row[0][0] if row else None
