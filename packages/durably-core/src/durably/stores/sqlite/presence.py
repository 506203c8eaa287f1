"""Presence: a lock that dies with its process, so that a dead worker is known at once.

Each worker holds an exclusive `flock` on a file of its own beside the database. The kernel frees it
the moment the process is gone, however it went. It belongs to the open file rather than to the
process, so that nobody loses it by closing another handle of the same file, as POSIX record locks
would be lost.
"""

import contextlib
import os
import sys
import weakref
from pathlib import Path
from urllib.parse import quote

if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool:
        """Whether the lock was free and is ours now."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Whether the lock was free and is ours now."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class Presence:
    """The presence locks of this process's workers, and the judgement over those of others.

    Args:
        folder: Where the files are; None where there can be none, e.g. for a database in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        self._kept: set[str] = set()
        self._tombs: dict[str, int] = {}
        _everyone.add(self)

    def take(self, worker_id: str) -> str | None:
        """Lock the worker's file; answers its path, None if its death could not be seen. Repeatable."""
        if self._folder is None:
            return None
        path = self._folder / f"{quote(worker_id, safe='')}.lock"
        if worker_id in self._held:
            return str(path)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:
            return None
        # Some network drives grant every lock to everybody; then the dead would seem alive, or the
        # living dead. So the lock has to prove itself against a second handle.
        if not try_lock(handle) or _is_free(path):
            os.close(handle)
            return None
        self._held[worker_id] = handle
        return str(path)

    def keep(self, worker_id: str) -> None:
        """Hold this worker's lock until the process ends: threads of its runs may still work."""
        self._kept.add(worker_id)

    def drop(self, worker_id: str) -> None:
        """Give the worker's lock up, unless it is kept."""
        if worker_id in self._kept or self._folder is None:
            return
        handle = self._held.pop(worker_id, None)
        if handle is not None:
            _remove(self._folder / f"{quote(worker_id, safe='')}.lock", handle)

    def holds(self, worker_id: str) -> bool:
        """Whether the worker is one of ours."""
        return worker_id in self._held

    def is_dead(self, path: str) -> bool:
        """Whether the worker with this file is gone for certain.

        Its lock is then ours until `bury`, so that of several processes only one buries it.
        """
        if path in self._tombs:
            return True
        try:
            handle = os.open(path, os.O_RDWR)
        except OSError:
            # No file, no judgement: its lease will tell.
            return False
        if not try_lock(handle):
            os.close(handle)
            return False
        self._tombs[path] = handle
        return True

    def bury(self, path: str) -> None:
        """Remove the file of a dead worker."""
        handle = self._tombs.pop(path, None)
        if handle is not None:
            _remove(Path(path), handle)

    def close(self) -> None:
        """Give up every lock that is not kept."""
        for worker_id in list(self._held):
            self.drop(worker_id)
        for path in list(self._tombs):
            os.close(self._tombs.pop(path))

    def forget_in_child(self) -> None:
        """Close the handles a fork has copied: a living child must not keep its dead parent alive."""
        for handle in (*self._held.values(), *self._tombs.values()):
            with contextlib.suppress(OSError):
                os.close(handle)
        self._held.clear()
        self._tombs.clear()


def _is_free(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        return try_lock(handle)
    finally:
        os.close(handle)


def _remove(path: Path, handle: int) -> None:
    if sys.platform == "win32":
        # A file that is open cannot be removed there.
        os.close(handle)
        path.unlink(missing_ok=True)
    else:
        # First the name, then the lock: whoever finds the file free finds a dead worker's.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


_everyone: "weakref.WeakSet[Presence]" = weakref.WeakSet()


def _after_fork() -> None:
    for presence in list(_everyone):
        presence.forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
