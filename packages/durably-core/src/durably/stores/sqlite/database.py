"""A database that is open: its connections, each on a thread of its own."""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeVar

from durably.environment import Environment
from durably.errors import NotRunningError, StoreBusyError, StoreError
from durably.models import Durability
from durably.stores.sqlite import schema
from durably.stores.sqlite.connection import MEMORY, Connector, check_version, connect, connect_reader
from durably.stores.sqlite.presence import Presence
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.upkeep import Upkeep
from durably.stores.sqlite.writer import Desk

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("durably")

FOLLOWED_FOR = 10.0
"""Seconds for which whoever asked what is new is expected to ask again."""

OPENING_PAUSE = 0.05
"""Seconds between two tries to open a database that is busy."""


class Database:
    """One connection that writes and one that reads; a database in memory has one for both.

    Bound to the event loop and to the process that opened it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        environment: Environment,
        durability: Durability,
        busy_timeout: float,
        connector: Connector,
    ) -> None:
        check_version()
        in_memory = os.fspath(path) == MEMORY
        # Absolute, because the program may change its directory.
        self.path: str = MEMORY if in_memory else str(Path(path).absolute())
        self.presence: Presence = Presence(None if in_memory else Path(f"{self.path}-workers"))
        self.host: str = ""
        """The machine and its boot, as the environment tells it."""
        self.watchers: list[Callable[[], None]] = []
        """Called on the loop when another process has committed something."""
        self._environment = environment
        self._durability: Durability = durability
        self._busy_timeout = busy_timeout
        self._connector = connector
        self._writer: Desk | None = None
        self._reader: Desk | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._opening = asyncio.Lock()
        self._ends: list[Future[None]] = []
        self._followed_at = -inf

    async def open(self) -> None:
        """Connect. Repeatable.

        Raises:
            StoreError: The database cannot be used; the kind and the message say why.
        """
        async with self._opening:
            if self._writer is None:
                await self._open()

    async def close(self) -> None:
        """Do what is queued, then disconnect. Repeatable."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        # A forked child has copies of our connections: closing them would break the parent's locks.
        if self._environment.process_id() == self._process:
            # All of it is queued before the first await: a caller cancelled here leaves nothing open.
            if reader is not None:
                self._ends.append(reader.close())
            if writer is not None:
                self._ends.append(writer.close(finally_do=self.presence.close))
            for end in list(self._ends):
                await asyncio.shield(asyncio.wrap_future(end))
        self._ends.clear()
        if not self._opening.locked():
            # One that somebody had to wait for belongs to their event loop; the next one may be another.
            self._opening = asyncio.Lock()

    def write(
        self, work: Callable[[Session], T], *, probe: Callable[[Session], T | None] | None = None
    ) -> "asyncio.Future[T]":
        """Have the work done in a transaction, unless the probe already knows the answer."""
        return self._open_desk(self._writer).submit(work, probe=probe)

    def read(self, work: Callable[[Session], T]) -> "asyncio.Future[T]":
        """Have the work done without a transaction."""
        return self._open_desk(self._reader or self._writer).submit(work, reads=True)

    def follow(self, work: Callable[[Session], T]) -> "asyncio.Future[T]":
        """Have the work done for somebody who follows what happens, and wants to hear of it soon."""
        self._followed_at = self._environment.monotonic()
        return self.read(work)

    def is_followed(self) -> bool:
        """Whether somebody follows what happens."""
        return self._environment.monotonic() - self._followed_at < FOLLOWED_FOR

    def write_aside(self, work: Callable[[Session], T]) -> "Future[T]":
        """Have the work done in a transaction; from any thread, with or without the event loop."""
        return self._our_desk(self._writer).submit_aside(work)

    def _open_desk(self, desk: Desk | None) -> Desk:
        desk = self._our_desk(desk)
        if asyncio.get_running_loop() is not self._loop:
            raise NotRunningError(
                f"the store of {self.path} was opened on another event loop; close it there, or open another"
            )
        return desk

    def _our_desk(self, desk: Desk | None) -> Desk:
        if desk is None:
            raise NotRunningError(f"the store of {self.path} is not open: `async with durably:` opens it")
        if self._environment.process_id() != self._process:
            raise NotRunningError(
                f"the store of {self.path} was opened in the process this one was forked from; "
                "open it after the fork, or start the process by 'spawn'"
            )
        return desk

    async def _open(self) -> None:
        opened = await self._opened()
        self.host = self._environment.host()
        self._loop = asyncio.get_running_loop()
        self._process = self._environment.process_id()
        if opened.reader is not None:
            self._reader = Desk(
                self._environment, "durably-reader", opened.reader, self.path, damaged=self._give_up
            )
        self._writer = Desk(
            self._environment,
            "durably-writer",
            opened.writer,
            self.path,
            damaged=self._give_up,
            idle=opened.upkeep,
        )

    async def _opened(self) -> "_Opened":
        """Open the connections away from the loop.

        Turning a new file into WAL mode does not wait for other starters, whatever the busy timeout:
        so it is tried again for a while.
        """
        deadline = self._environment.monotonic() + self._busy_timeout
        while True:
            threads = self._environment.threads(1)
            future = threads.submit(self._connect)
            threads.close()
            try:
                return await asyncio.wrap_future(future)
            except StoreBusyError:
                if self._environment.monotonic() >= deadline:
                    raise
            except asyncio.CancelledError:
                future.add_done_callback(_discard)
                raise
            await self._environment.sleep(OPENING_PAUSE)

    def _connect(self) -> "_Opened":
        clock = self._environment.now
        with ExitStack() as on_failure:
            connection = connect(
                self.path,
                durability=self._durability,
                busy_timeout=self._busy_timeout,
                connector=self._connector,
            )
            on_failure.callback(connection.close)
            writer = Session(connection, clock)
            schema.check_not_newer(writer)
            if self.path == MEMORY:
                opened = _Opened(writer)
            else:
                reading = connect_reader(
                    self.path, busy_timeout=self._busy_timeout, connector=self._connector
                )
                on_failure.callback(reading.close)
                upkeep = Upkeep(
                    self._environment,
                    connection,
                    self.path,
                    changed=self._tell_watchers,
                    is_followed=self.is_followed,
                    replaced=self._give_up,
                )
                opened = _Opened(writer, Session(reading, clock), upkeep)
            on_failure.pop_all()
        return opened

    def _tell_watchers(self) -> None:
        if self._writer is not None:
            for changed in self.watchers:
                self._writer.tell(changed)

    def _give_up(self, error: StoreError) -> None:
        """Neither read nor write any more: with a damaged file, or the wrong one, that could only do harm."""
        if self._writer is None or self._writer.broken is None:
            logger.error("the database is given up: %s", error)
        for desk in (self._writer, self._reader):
            if desk is not None:
                desk.broken = error


@dataclass(frozen=True, slots=True)
class _Opened:
    """What opening a database gives."""

    writer: Session
    reader: Session | None = None
    upkeep: Upkeep | None = None

    def close(self) -> None:
        for session in (self.reader, self.writer):
            if session is not None:
                session.connection.close()


def _discard(future: "Future[_Opened]") -> None:
    """Close what was opened for a caller that does not wait any more."""
    if not future.cancelled() and future.exception() is None:
        future.result().close()
