"""A store with a clock in the test's hand, and short words for what the contract's tests do with it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias, TypedDict

from typing_extensions import Unpack, override

from durably import Coalesce, LogEntry, Run, RunError, RunStatus, StepStatus
from durably.spi import (
    Answer,
    Claim,
    Claimed,
    ClaimRequest,
    Completed,
    Failed,
    Lease,
    NewRun,
    NewWorker,
    Notes,
    Outcome,
    RealEnvironment,
    RunFilter,
    StepRecord,
    Store,
)

LEASE = 30.0
DONE = Completed(output_json='"done"')
BROKEN = Failed(error=RunError(type="ValueError", message="no", traceback="…", steps=("bad",)))
HOST = "here/boot-1"
FAR = 1_000_000.0
"""Seconds that no test waits."""
NO_NOTES = Notes()


class HandClock(RealEnvironment):
    """Time stands still until the test moves it."""

    def __init__(self) -> None:
        self.wall: float = 1_700_000_000.0
        self.ticks: float = 1000.0
        self.host_name: str = HOST
        self.process: int | None = None

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds

    @override
    def now(self) -> float:
        return self.wall

    @override
    def monotonic(self) -> float:
        return self.ticks

    @override
    def host(self) -> str:
        return self.host_name

    @override
    def process_id(self) -> int:
        return super().process_id() if self.process is None else self.process


OpenStore: TypeAlias = Callable[[], Awaitable[Store]]
"""Opens one more store on the same database, migrated."""


class RunFields(TypedDict, total=False):
    job_name: str
    input_json: str
    labels: Mapping[str, str]
    idempotency_key: str | None
    concurrency_key: str | None
    key_scope: str | None
    coalesce: Coalesce | None
    priority: int
    delay: float | None
    run_at: float | None
    on_failure: tuple[str, ...]


class Stage:
    """One store, and what workers and people do to it."""

    def __init__(self, store: Store, clock: HandClock) -> None:
        self.store = store
        self.clock = clock
        self._made = 0

    # Runs

    def new(self, id: str | None = None, **fields: Unpack[RunFields]) -> NewRun:
        self._made += 1
        fields.setdefault("job_name", "job")
        fields.setdefault("input_json", "{}")
        return NewRun(id=id or f"run-{self._made}", **fields)

    async def trigger(self, id: str | None = None, **fields: Unpack[RunFields]) -> Run:
        [run] = (await self.store.enqueue([self.new(id, **fields)])).runs
        return run

    async def trigger_keyed(self, *ids: str, key: str = "k") -> None:
        """One after the other into one queue, a second apart."""
        for id in ids:
            await self.trigger(id, concurrency_key=key)
            self.clock.advance(1)

    async def run(self, id: str) -> Run:
        run = await self.store.get_run(id)
        assert run is not None
        return run

    async def status(self, id: str) -> RunStatus:
        return (await self.run(id)).status

    async def ids(self, filter: RunFilter | None = None) -> list[str]:
        runs = await self.store.list_runs(filter or RunFilter(), limit=None, offset=0, before=None)
        return [run.id for run in runs]

    # Workers

    async def ask(
        self,
        worker: str = "w1",
        *,
        limit: int = 10,
        jobs: Sequence[str] = ("job",),
        max_crashes: int = 5,
        lease: float = LEASE,
    ) -> Claimed:
        return await self.store.claim(
            ClaimRequest(
                worker_id=worker, jobs=jobs, limit=limit, lease_seconds=lease, max_crashes=max_crashes
            )
        )

    async def claim(
        self, worker: str = "w1", *, limit: int = 10, jobs: Sequence[str] = ("job",)
    ) -> list[str]:
        """The ids of the runs it gets."""
        claimed = await self.ask(worker, limit=limit, jobs=jobs)
        return [claim.run.id for claim in claimed.claims]

    async def take(self, worker: str = "w1") -> Claim:
        """The one run it gets."""
        [claim] = (await self.ask(worker, limit=1)).claims
        return claim

    async def take_all(self, worker: str = "w1") -> dict[str, Lease]:
        return {claim.run.id: claim.lease for claim in (await self.ask(worker)).claims}

    async def introduce(self, id: str = "w1", *, host: str = HOST, slots: int = 10) -> None:
        await self.store.add_worker(NewWorker(id=id, host=host, pid=1, slots=slots, jobs=["job"]))

    # An owner

    def step(
        self,
        name: str = "one",
        status: StepStatus = "completed",
        *,
        sequence: int = 1,
        position: int = 1,
        result: str | None = "1",
        error: RunError | None = None,
        attempt: int = 1,
    ) -> StepRecord:
        ended = None if status == "running" else self.clock.now()
        return StepRecord(
            name=name,
            status=status,
            position=position,
            attempt=attempt,
            sequence=sequence,
            started_at=self.clock.now(),
            completed_at=ended,
            result_json=result if status == "completed" else None,
            error=error,
        )

    def line(self, message: str = "hello", *, sequence: int = 1) -> LogEntry:
        return LogEntry(
            sequence=sequence,
            level="info",
            message=message,
            fields={"a": 1},
            step_name=None,
            created_at=datetime.fromtimestamp(self.clock.now(), UTC),
        )

    async def save(self, lease: Lease, step: StepRecord | None = None, notes: Notes = NO_NOTES) -> Answer:
        return await self.store.save_step(lease, step or self.step(), notes)

    async def finish(self, lease: Lease, outcome: Outcome = DONE, notes: Notes = NO_NOTES) -> Answer:
        return await self.store.finish(lease, outcome, notes)

    async def crash(self, worker: str = "w1") -> None:
        """Nobody renews for the length of a lease."""
        del worker
        self.clock.advance(LEASE + 1)


OpenAnother: TypeAlias = Callable[[], Awaitable[Stage]]


async def bring_to(stage: Stage, state: str, id: str = "it") -> Lease:
    """A run in this state, and the lease of the last owner it had (or might have had)."""
    never = Lease(id, 0, "w1")
    if state == "missing":
        return never
    if state == "delayed":
        await stage.trigger(id, delay=1000)
        return never
    await stage.trigger(id)
    if state == "pending":
        return never
    claim = await stage.take()
    lease = claim.lease
    match state:
        case "running":
            pass
        case "running elsewhere":
            stage.clock.advance(LEASE + 1)
            await stage.take("w2")
        case "handed back":
            await stage.store.release([lease])
        case "waiting":
            await stage.store.suspend(lease, [], NO_NOTES, until=stage.clock.now() + FAR)
        case "completed":
            await stage.finish(lease)
        case "failed":
            await stage.finish(lease, BROKEN)
        case "cancelled, body alive":
            await stage.store.cancel(id, token="before")
        case "cancelled":
            await stage.store.cancel(id, token="before")
            await stage.store.release([lease])
        case _:
            raise AssertionError(state)
    return lease


STATES = (
    "missing",
    "delayed",
    "pending",
    "handed back",
    "running",
    "running elsewhere",
    "waiting",
    "completed",
    "failed",
    "cancelled, body alive",
    "cancelled",
)
