"""What a test leaves behind: tasks, threads, open files, rows that belong to nobody."""

import asyncio
import gc
import sqlite3
import threading
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from durably_testing.rules import CHECKS

PATIENCE: float = 5.0
"""Seconds that tasks and threads are given to end."""

_DESCRIPTORS: Path = Path("/proc/self/fd")


class _Leaks:
    def __init__(self, database: str | PathLike[str] | None) -> None:
        self._database = database
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads: set[threading.Thread] = set()
        self._files: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if error is None:
            self._verify()

    async def __aenter__(self) -> Self:
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if error is None:
            if tasks := _tasks() - self._tasks:
                await asyncio.wait(tasks, timeout=PATIENCE)
            self._verify()

    def _look(self) -> None:
        self._tasks = _tasks()
        self._threads = set(threading.enumerate())
        self._files = _open_files()

    def _verify(self) -> None:
        __tracebackhide__ = True
        tasks = [f"task {task.get_name()!r}" for task in _tasks() - self._tasks]
        for thread in set(threading.enumerate()) - self._threads:
            thread.join(PATIENCE)
        threads = [f"thread {one.name!r}" for one in set(threading.enumerate()) - self._threads]
        # What is only waiting to be collected has not been left open by somebody who still could use it.
        gc.collect()
        files = [
            f"open file {number} ({target})"
            for number, target in _open_files().items()
            if self._files.get(number) != target
        ]
        found = sorted([*tasks, *threads, *files, *self._orphans()])
        if found:
            raise AssertionError(
                "\n".join([f"{len(found)} things were left behind", *(f"- {one}" for one in found)])
            )

    def _orphans(self) -> list[str]:
        if self._database is None:
            return []
        with closing(sqlite3.connect(self._database)) as connection:
            return [str(row[0]) for check in CHECKS for row in connection.execute(check)]


def assert_no_leaks(*, database: str | PathLike[str] | None = None) -> _Leaks:
    """Fail if what is done within leaves something behind: a context manager, for `with` or `async with`.

    Tasks of the running loop, threads, open files (on Linux), and, in a database of durably's, rows that
    belong to no run or contradict each other. Threads, and under `async with` tasks, have five seconds to end.

    Args:
        database: The file of a SQLite database to look into at the end.

    Raises:
        AssertionError: Something is left; names all of it.
    """
    return _Leaks(database)


def _tasks() -> set[asyncio.Task[object]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()


def _open_files() -> dict[str, str]:
    """The open files, by number, with what they are."""
    found: dict[str, str] = {}
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        # One is gone already: through it the listing itself was read.
        with suppress(OSError):
            found[entry.name] = str(entry.readlink())
    return found
