"""What the writer's thread does between batches: listen for other processes, keep the log short."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from durably.environment import Environment
from durably.errors import StoreUnavailableError
from durably.stores.sqlite.journal import EMPTY, measure
from durably.stores.sqlite.presence import try_lock

FILE_CHECK_EVERY = 1.0
"""Seconds between two looks at whether the database's file is still the one we opened."""

CHECKPOINT_FRAMES = 1000
"""Pages that come to the log before it is written back into the database."""

CHECKPOINT_GAP = 0.1
"""Seconds between two checkpoints, whichever process makes them."""


class Upkeep:
    """Called every few milliseconds on the writer's thread, outside of any transaction."""

    def __init__(
        self,
        environment: Environment,
        connection: sqlite3.Connection,
        path: str,
        *,
        changed: Callable[[], None],
        is_followed: Callable[[], bool],
        replaced: Callable[[StoreUnavailableError], None],
    ) -> None:
        self._environment = environment
        self._connection = connection
        self._path = Path(path)
        self._log = Path(f"{path}-wal")
        self._changed = changed
        self._is_followed = is_followed
        self._replaced = replaced
        self._seen_version = self._data_version()
        self._file = _identity(self._path)
        self._file_checked_at = environment.monotonic()
        self._written_back = EMPTY
        self._rows_seen = 0

    def __call__(self) -> bool:
        """Do what is due; answers whether somebody counts on hearing of other processes soon.

        Trouble with the database is left for the next verb to tell.
        """
        with contextlib.suppress(sqlite3.Error):
            self._work()
        return self._is_followed()

    def _work(self) -> None:
        # A read of one word in shared memory. Only on this connection: it then tells of every commit
        # but our own; on another one it would tell of ours as well.
        version = self._data_version()
        if version != self._seen_version:
            self._seen_version = version
            self._changed()
        now = self._environment.monotonic()
        if now - self._file_checked_at >= FILE_CHECK_EVERY:
            self._file_checked_at = now
            self._check_file()
        self._maybe_checkpoint()

    def _data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchall()[0][0]
        return version

    def _check_file(self) -> None:
        if self._file is not None and _identity(self._path) != self._file:
            self._replaced(
                StoreUnavailableError(
                    f"{self._path}: the database file was deleted or replaced while it was open; "
                    "see that the right one is in its place, and restart this process"
                )
            )

    def _maybe_checkpoint(self) -> None:
        rows = self._connection.total_changes
        if rows == self._rows_seen:
            return
        self._rows_seen = rows
        extent = measure(self._log)
        # A reader may keep the log from beginning again; then it is not tried at every turn.
        if extent.beyond(self._written_back) >= CHECKPOINT_FRAMES and self._checkpoint():
            self._written_back = extent

    def _checkpoint(self) -> bool:
        """Write the log back, if no other process is just doing so or has just done so.

        Two checkpoints back to back beside a commit could corrupt the database before SQLite
        3.51.3. Source: https://sqlite.org/wal.html, "The WAL-reset bug".
        """
        mark = self._path.with_name(f"{self._path.name}-workers") / "checkpoint.lock"
        made = _made_at(mark)
        now = self._environment.now()
        if made is not None and abs(now - made) < CHECKPOINT_GAP:
            return False
        try:
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(mark, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return True
        try:
            if not try_lock(handle):
                return False
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            os.utime(mark, (now, now))
        finally:
            os.close(handle)
        return True


def _made_at(mark: Path) -> float | None:
    """When the last checkpoint was made, by whichever process."""
    try:
        return mark.stat().st_mtime
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
