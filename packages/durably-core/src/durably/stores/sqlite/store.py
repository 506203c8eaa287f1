"""The SQLite store: the verbs of `Store`, each handed to the thread that owns the connection."""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from typing_extensions import override

from durably.environment import Environment
from durably.filters import RunFilter
from durably.models import (
    Durability,
    Link,
    LogEntry,
    Run,
    RunsFound,
    RunStatus,
    SearchBy,
    Step,
    WorkerInfo,
)
from durably.statistics import Count, JobStatistics
from durably.stores.base import Store
from durably.stores.sqlite import (
    attempts,
    checkpoints,
    claims,
    leases,
    links,
    reads,
    schema,
    searching,
    suspension,
    transitions,
    triggering,
    waits,
    watching,
    workers,
)
from durably.stores.sqlite.connection import Connector
from durably.stores.sqlite.database import Database
from durably.stores.values import (
    Answer,
    Claimed,
    ClaimRequest,
    Continued,
    Enqueued,
    Lease,
    NewRun,
    NewSignal,
    NewWorker,
    Notes,
    Outcome,
    Reattempt,
    Receipt,
    Settled,
    StepRecord,
    Transition,
    Wait,
)
from durably.stores.watching import Facts, Seen, Survey, Tail


class SqliteStore(Store):
    """Runs in a SQLite database; the verbs are described in `durably.stores.base.Store`.

    Args:
        path: The database's file, or `:memory:`.
        environment: Clock, ids and threads.
        durability: `disk`: what was acknowledged survives a power cut. `process`: it survives the
            death of the process, and is several times faster.
        busy_timeout: Seconds to wait for another process's write transaction.
        connector: How connections are made; called as `sqlite3.connect`. For tests that put another
            kind of connection, or one shared by several stores, in place of an ordinary one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        environment: Environment,
        durability: Durability = "disk",
        busy_timeout: float = 5.0,
        connector: Connector = sqlite3.connect,
    ) -> None:
        self.database: Database = Database(
            path,
            environment=environment,
            durability=durability,
            busy_timeout=busy_timeout,
            connector=connector,
        )

    @override
    def watch(self, changed: Callable[[], None], /) -> None:
        self.database.watchers.append(changed)

    @override
    async def open(self) -> None:
        await self.database.open()

    @override
    async def migrate(self) -> None:
        await self.database.write(schema.migrate, probe=schema.is_current)

    @override
    async def close(self) -> None:
        await self.database.close()

    # Triggering

    @override
    async def enqueue(self, runs: Sequence[NewRun], /) -> Enqueued:
        return await self.database.write(lambda session: triggering.enqueue(session, runs))

    # An owner's verbs

    @override
    async def claim(self, request: ClaimRequest, /) -> Claimed:
        return await self.database.write(
            lambda session: claims.claim(session, request),
            probe=lambda session: claims.nothing_to_claim(session, request),
        )

    @override
    async def save_step(self, lease: Lease, step: StepRecord, notes: Notes, /) -> Answer:
        return await self.database.write(lambda session: checkpoints.save_step(session, lease, step, notes))

    @override
    async def save_attempt(self, lease: Lease, step: StepRecord, notes: Notes, /) -> Answer:
        return await self.database.write(lambda session: attempts.save_attempt(session, lease, step, notes))

    @override
    async def note(self, lease: Lease, notes: Notes, /) -> Answer:
        return await self.database.write(lambda session: checkpoints.note(session, lease, notes))

    @override
    async def finish(self, lease: Lease, outcome: Outcome, notes: Notes, /) -> Answer:
        if isinstance(outcome, Reattempt):
            return await self.database.write(
                lambda session: attempts.reattempt(session, lease, outcome, notes)
            )
        if isinstance(outcome, Continued):
            return await self.database.write(
                lambda session: links.continue_as_new(session, lease, outcome, notes)
            )
        return await self.database.write(lambda session: checkpoints.finish(session, lease, outcome, notes))

    @override
    async def settle(self, lease: Lease, waits_: Sequence[Wait], notes: Notes, /) -> Settled:
        return await self.database.write(
            lambda session: suspension.settle(session, lease, waits_, notes),
            probe=lambda session: suspension.nothing_to_settle(session, lease, waits_, notes),
        )

    @override
    async def ripe_waits(self, run_id: str, /) -> Sequence[str]:
        return await self.database.read(lambda session: waits.ripe_waits(session, run_id))

    @override
    async def suspend(
        self, lease: Lease, waits_: Sequence[Wait], notes: Notes, /, *, until: float | None = None
    ) -> Answer:
        return await self.database.write(
            lambda session: suspension.suspend(session, lease, waits_, notes, until=until)
        )

    @override
    async def release(self, leases_: Sequence[Lease], /) -> None:
        await self.database.write(lambda session: leases.release(session, leases_))

    @override
    async def hold(self, leases_: Sequence[Lease], /, *, seconds: float) -> None:
        for worker_id in {lease.worker_id for lease in leases_}:
            self.database.presence.keep(worker_id)
        await self.database.write(lambda session: leases.hold(session, leases_, seconds))

    @override
    async def renew(
        self, worker_id: str, leases_: Sequence[Lease], /, *, lease_seconds: float
    ) -> Mapping[str, Answer]:
        return await self.database.write(
            lambda session: leases.renew(session, worker_id, leases_, lease_seconds)
        )

    @override
    def renew_aside(
        self, worker_id: str, leases_: Sequence[Lease], /, *, lease_seconds: float
    ) -> "Future[Mapping[str, Answer]]":
        return self.database.write_aside(
            lambda session: leases.renew(session, worker_id, leases_, lease_seconds)
        )

    @override
    async def check(self, leases_: Sequence[Lease], /) -> Mapping[str, Answer]:
        return await self.database.read(lambda session: leases.check(session, leases_))

    @override
    async def disown(self, worker_id: str, keep: Sequence[Lease], /) -> None:
        await self.database.write(lambda session: leases.disown(session, worker_id, keep))

    # A person's verbs

    @override
    async def cancel(self, run_id: str, /, *, token: str) -> Transition:
        return await self.database.write(lambda session: transitions.cancel(session, run_id, token))

    @override
    async def retry(self, run_id: str, /, *, token: str) -> Transition:
        return await self.database.write(lambda session: transitions.retry(session, run_id, token))

    @override
    async def delete(self, run_id: str, /, *, token: str) -> Transition:
        # The row that could remember the token is gone: a repetition finds no run.
        del token
        return await self.database.write(lambda session: transitions.delete(session, run_id))

    @override
    async def purge(self, *, older_than: float, limit: int) -> int:
        return await self.database.write(
            lambda session: transitions.purge(session, older_than, limit),
            probe=lambda session: transitions.nothing_to_purge(session, older_than),
        )

    @override
    async def send_signal(self, signal: NewSignal, /) -> Receipt:
        return await self.database.write(lambda session: waits.send_signal(session, signal))

    @override
    async def unfinished_children(self, run_id: str, /, *, limit: int) -> Sequence[str]:
        return await self.database.read(lambda session: waits.unfinished_children(session, run_id, limit))

    @override
    async def orphans(self, *, limit: int) -> Sequence[str]:
        return await self.database.read(lambda session: waits.orphans(session, limit))

    @override
    async def forget_signals(self, *, older_than: float, limit: int) -> int:
        return await self.database.write(
            lambda session: waits.forget_signals(session, older_than, limit),
            probe=lambda session: waits.nothing_to_forget(session, older_than),
        )

    # Workers

    @override
    async def add_worker(self, worker: NewWorker, /) -> None:
        await self.database.write(lambda session: workers.add_worker(session, self.database.presence, worker))

    @override
    async def remove_worker(self, worker_id: str, /) -> None:
        await self.database.write(
            lambda session: workers.remove_worker(session, self.database.presence, worker_id)
        )

    @override
    async def bury_dead(self, *, max_crashes: int) -> Claimed:
        return await self.database.write(
            lambda session: workers.bury_dead(
                session, self.database.presence, self.database.host, max_crashes
            ),
            probe=lambda session: workers.nobody_dead(session, self.database.presence, self.database.host),
        )

    @override
    async def sweep(self) -> int:
        return await self.database.write(workers.sweep, probe=workers.nothing_to_mend)

    # Reads

    @override
    async def get_run(self, run_id: str, /) -> Run | None:
        return await self.database.read(lambda session: reads.get_run(session, run_id))

    @override
    async def list_runs(
        self,
        filter: RunFilter,
        /,
        *,
        limit: int | None,
        offset: int = 0,
        before: int | None = None,
        after: int | None = None,
    ) -> Sequence[Run]:
        return await self.database.read(
            lambda session: reads.list_runs(
                session, filter, limit=limit, offset=offset, before=before, after=after
            )
        )

    @override
    async def list_changes(self, *, after: int, limit: int) -> Sequence[Run]:
        return await self.database.read(lambda session: reads.list_changes(session, after, limit))

    @override
    async def count_runs(self, filter: RunFilter, /, *, cap: int) -> int:
        return await self.database.read(lambda session: reads.count_runs(session, filter, cap))

    @override
    async def count_by_status(self, filter: RunFilter, /, *, cap: int) -> Mapping[RunStatus, Count]:
        return await self.database.read(lambda session: reads.count_by_status(session, filter, cap))

    @override
    async def search_runs(
        self,
        filter: RunFilter,
        text: str,
        /,
        *,
        by: SearchBy,
        limit: int,
        among: int,
        cursor: str | None = None,
    ) -> RunsFound:
        return await self.database.read(
            lambda session: searching.search_runs(
                session, filter, text, by=by, limit=limit, among=among, cursor=cursor
            )
        )

    @override
    async def list_steps(self, run_id: str, /, *, after: int, results: bool = True) -> Sequence[Step]:
        return await self.database.read(lambda session: reads.list_steps(session, run_id, after, results))

    @override
    async def list_logs(self, run_id: str, /, *, after: int, limit: int | None) -> Sequence[LogEntry]:
        return await self.database.read(lambda session: reads.list_logs(session, run_id, after, limit))

    @override
    async def last_logs(self, run_id: str, /, *, before: int | None, limit: int) -> Sequence[LogEntry]:
        return await self.database.read(lambda session: reads.last_logs(session, run_id, before, limit))

    @override
    async def list_links(self, run_id: str, /) -> Sequence[Link]:
        return await self.database.read(lambda session: links.list_links(session, run_id))

    @override
    async def list_workers(self) -> Sequence[WorkerInfo]:
        return await self.database.read(reads.list_workers)

    # For those who watch

    @override
    async def news(self, seen: Sequence[Seen], /) -> Sequence[Seen]:
        return await self.database.follow(lambda session: watching.news(session, seen))

    @override
    async def follow(self, run_id: str, /, *, change: int, after: int | None, limit: int) -> Tail | None:
        return await self.database.follow(
            lambda session: watching.follow(session, run_id, change, after, limit)
        )

    @override
    async def survey(self, filter: RunFilter, /, *, after: int | None, limit: int) -> Survey:
        return await self.database.follow(lambda session: watching.survey(session, filter, after, limit))

    @override
    async def endings(
        self, filter: RunFilter, /, *, since: float, parts: int, cap: int
    ) -> tuple[float, Sequence[JobStatistics], bool]:
        return await self.database.read(lambda session: watching.endings(session, filter, since, parts, cap))

    @override
    async def facts(self, run_id: str, /) -> Facts | None:
        return await self.database.read(lambda session: watching.facts(session, run_id))
