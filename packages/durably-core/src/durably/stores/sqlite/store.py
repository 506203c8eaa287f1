"""The SQLite store: the verbs of `Store`, each handed to the thread that owns the connection."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from durably.environment import Environment
from durably.errors import NotRunningError, StoreBusyError, StoreUnavailableError
from durably.models import Durability, LogEntry, Run, Step, WorkerInfo
from durably.stores.base import (
    Answer,
    Claimed,
    ClaimRequest,
    Lease,
    NewRun,
    NewWorker,
    Notes,
    Outcome,
    RunFilter,
    StepRecord,
    Transition,
)
from durably.stores.sqlite import checkpoints, claims, leases, reads, schema, transitions, triggering, workers
from durably.stores.sqlite.connection import MEMORY, check_version, connect, connect_reader
from durably.stores.sqlite.presence import Presence
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.upkeep import Upkeep
from durably.stores.sqlite.writer import Desk

T = TypeVar("T")

OPENING_TRIES = 20
OPENING_PAUSE = 0.05


class SqliteStore:
    """Runs in a SQLite database; the verbs are described in `durably.stores.base.Store`.

    One connection writes, on a thread of its own; all writes that wait for it share a transaction.
    Another one reads. A database in memory has one connection for both, and dies with it. Bound to
    the event loop and to the process that opened it.

    Args:
        path: The database's file, or `:memory:`.
        environment: Clock, ids and threads.
        durability: `disk`: what was acknowledged survives a power cut. `process`: it survives the
            death of the process, and is several times faster.
        busy_timeout: Seconds to wait for another process's write transaction.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        environment: Environment,
        durability: Durability = "disk",
        busy_timeout: float = 5.0,
    ) -> None:
        check_version()
        self._in_memory = os.fspath(path) == MEMORY
        # Absolute, because the program may change its directory.
        self._path = MEMORY if self._in_memory else str(Path(path).absolute())
        self._environment = environment
        self._durability: Durability = durability
        self._busy_timeout = busy_timeout
        self._watchers: list[Callable[[], None]] = []
        self._presence = Presence(None if self._in_memory else Path(f"{self._path}-workers"))
        self._host = ""
        self._writer: Desk | None = None
        self._reader: Desk | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._opening = asyncio.Lock()
        self._ends: list[Future[None]] = []

    def watch(self, changed: Callable[[], None], /) -> None:
        self._watchers.append(changed)

    async def open(self) -> None:
        async with self._opening:
            if self._writer is None:
                await self._open()

    async def migrate(self) -> None:
        await self._write(schema.migrate, probe=schema.is_current)

    async def close(self) -> None:
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        # A forked child has copies of our connections: closing them would break the parent's locks.
        if self._environment.process_id() == self._process:
            # All of it is queued before the first await: a caller cancelled here leaves nothing open.
            if reader is not None:
                self._ends.append(reader.close())
            if writer is not None:
                _ = writer.submit(lambda _: self._presence.close(), reads=True)
                self._ends.append(writer.close())
            for end in list(self._ends):
                await asyncio.shield(asyncio.wrap_future(end))
        self._ends.clear()

    # Triggering

    async def enqueue(self, runs: Sequence[NewRun], /) -> Sequence[Run]:
        return await self._write(lambda session: triggering.enqueue(session, runs))

    # An owner's verbs

    async def claim(self, request: ClaimRequest, /) -> Claimed:
        return await self._write(
            lambda session: claims.claim(session, request),
            probe=lambda session: claims.nothing_to_claim(session, request),
        )

    async def save_step(self, lease: Lease, step: StepRecord, notes: Notes, /) -> Answer:
        return await self._write(lambda session: checkpoints.save_step(session, lease, step, notes))

    async def note(self, lease: Lease, notes: Notes, /) -> Answer:
        return await self._write(lambda session: checkpoints.note(session, lease, notes))

    async def finish(self, lease: Lease, outcome: Outcome, notes: Notes, /) -> Answer:
        return await self._write(lambda session: checkpoints.finish(session, lease, outcome, notes))

    async def release(self, leases_: Sequence[Lease], /) -> None:
        await self._write(lambda session: leases.release(session, leases_))

    async def hold(self, leases_: Sequence[Lease], /, *, seconds: float) -> None:
        for worker_id in {lease.worker_id for lease in leases_}:
            self._presence.keep(worker_id)
        await self._write(lambda session: leases.hold(session, leases_, seconds))

    async def renew(
        self, worker_id: str, leases_: Sequence[Lease], /, *, lease_seconds: float
    ) -> Mapping[str, Answer]:
        return await self._write(lambda session: leases.renew(session, worker_id, leases_, lease_seconds))

    async def check(self, leases_: Sequence[Lease], /) -> Mapping[str, Answer]:
        return await self._read(lambda session: leases.check(session, leases_))

    async def disown(self, worker_id: str, keep: Sequence[Lease], /) -> None:
        await self._write(lambda session: leases.disown(session, worker_id, keep))

    # A person's verbs

    async def cancel(self, run_id: str, /, *, token: str) -> Transition:
        return await self._write(lambda session: transitions.cancel(session, run_id, token))

    async def retry(self, run_id: str, /, *, token: str) -> Transition:
        return await self._write(lambda session: transitions.retry(session, run_id, token))

    async def delete(self, run_id: str, /, *, token: str) -> Transition:
        # The row that could remember the token is gone: a repetition finds no run.
        del token
        return await self._write(lambda session: transitions.delete(session, run_id))

    async def purge(self, *, older_than: float, limit: int) -> int:
        return await self._write(
            lambda session: transitions.purge(session, older_than, limit),
            probe=lambda session: transitions.nothing_to_purge(session, older_than),
        )

    # Workers

    async def add_worker(self, worker: NewWorker, /) -> None:
        await self._write(lambda session: workers.add_worker(session, self._presence, worker))

    async def remove_worker(self, worker_id: str, /) -> None:
        await self._write(lambda session: workers.remove_worker(session, self._presence, worker_id))

    async def bury_dead(self, *, max_crashes: int) -> Claimed:
        return await self._write(
            lambda session: workers.bury_dead(session, self._presence, self._host, max_crashes),
            probe=lambda session: workers.nobody_dead(session, self._presence, self._host),
        )

    async def sweep(self) -> int:
        return await self._write(workers.sweep, probe=workers.nothing_to_mend)

    # Reads

    async def get_run(self, run_id: str, /) -> Run | None:
        return await self._read(lambda session: reads.get_run(session, run_id))

    async def list_runs(
        self, filter: RunFilter, /, *, limit: int | None, offset: int, before: int | None
    ) -> Sequence[Run]:
        return await self._read(lambda session: reads.list_runs(session, filter, limit, offset, before))

    async def list_changes(self, *, after: int, limit: int) -> Sequence[Run]:
        return await self._read(lambda session: reads.list_changes(session, after, limit))

    async def count_runs(self, filter: RunFilter, /, *, cap: int) -> int:
        return await self._read(lambda session: reads.count_runs(session, filter, cap))

    async def settled(self, run_ids: Sequence[str], /) -> Sequence[str]:
        return await self._read(lambda session: reads.settled(session, run_ids))

    async def list_steps(self, run_id: str, /, *, after: int) -> Sequence[Step]:
        return await self._read(lambda session: reads.list_steps(session, run_id, after))

    async def list_logs(self, run_id: str, /, *, after: int, limit: int | None) -> Sequence[LogEntry]:
        return await self._read(lambda session: reads.list_logs(session, run_id, after, limit))

    async def list_workers(self) -> Sequence[WorkerInfo]:
        return await self._read(reads.list_workers)

    # The way to the threads

    def _write(
        self, work: Callable[[Session], T], *, probe: Callable[[Session], T | None] | None = None
    ) -> "asyncio.Future[T]":
        return self._open_desk(self._writer).submit(work, probe=probe)

    def _read(self, work: Callable[[Session], T]) -> "asyncio.Future[T]":
        return self._open_desk(self._reader or self._writer).submit(work, reads=True)

    def _open_desk(self, desk: Desk | None) -> Desk:
        if desk is None:
            raise NotRunningError(f"the store of {self._path} is not open")
        if self._environment.process_id() != self._process:
            raise NotRunningError(
                f"the store of {self._path} was opened in the process this one was forked from; "
                "a child must open a store of its own"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise NotRunningError(
                f"the store of {self._path} was opened on another event loop; close it there, or open another"
            )
        return desk

    async def _open(self) -> None:
        connection = await self._connected(self._connect)
        session = Session(connection, self._environment.now)
        idle: Callable[[], None] | None = None
        if not self._in_memory:
            reading = await self._connected(
                lambda: connect_reader(self._path, busy_timeout=self._busy_timeout)
            )
            self._reader = Desk(
                self._environment, "durably-reader", Session(reading, self._environment.now), self._path
            )
            idle = Upkeep(
                self._environment, session, self._path, changed=self._tell_watchers, replaced=self._give_up
            )
        self._writer = Desk(self._environment, "durably-writer", session, self._path, idle=idle)
        self._host = self._environment.host()
        self._loop = asyncio.get_running_loop()
        self._process = self._environment.process_id()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path, durability=self._durability, busy_timeout=self._busy_timeout)
        try:
            schema.check_not_newer(Session(connection, self._environment.now))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _connected(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """Open a connection away from the loop.

        Turning a new file into WAL mode does not wait for other starters, whatever the busy timeout:
        so it is tried again for a moment.
        """
        for _ in range(OPENING_TRIES):
            try:
                return await self._away(connect)
            except StoreBusyError:
                await self._environment.sleep(OPENING_PAUSE)
        return await self._away(connect)

    async def _away(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        threads = self._environment.threads(1)
        future = threads.submit(connect)
        threads.close()
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_close_result)
            raise

    def _tell_watchers(self) -> None:
        if self._writer is not None:
            for changed in self._watchers:
                self._writer.tell(changed)

    def _give_up(self, error: StoreUnavailableError) -> None:
        for desk in (self._writer, self._reader):
            if desk is not None:
                desk.broken = error


def _close_result(future: "Future[sqlite3.Connection]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()
