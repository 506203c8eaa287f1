"""Why is this run not running?

`explain` turns what the store knows into one answer: a frozen value with the facts as attributes,
whose `str` is a sentence for people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TypeAlias, assert_never

from typing_extensions import override

from durably.models import RunError, RunStatus, Step, WorkerInfo
from durably.stores.watching import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A worker executes it."""

    worker_id: str
    worker: WorkerInfo | None
    """None if the worker is not listed any more."""
    until: datetime
    """When its lease runs out unless the worker renews it."""
    steps: tuple[str, ...]
    """The steps that are executing; a step shows here some 100 ms after it began."""

    @override
    def __str__(self) -> str:
        steps = f", in {_steps(self.steps)}" if self.steps else ""
        worker = self.worker_id if self.worker is None else _one(self.worker)
        return f"running on worker {worker}{steps}; its lease lasts until {_at(self.until)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutToStart:
    """Nothing keeps it: one of these workers takes it at its next look."""

    workers: tuple[WorkerInfo, ...]

    @override
    def __str__(self) -> str:
        return f"about to start: {_all(self.workers)} can take it at the next look"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFreeSlot:
    """Every live worker that knows its job is full, or must execute a suspect alone."""

    workers: tuple[WorkerInfo, ...]

    @override
    def __str__(self) -> str:
        slots = sum(worker.slots for worker in self.workers)
        taken = sum(min(worker.slots, worker.running) for worker in self.workers)
        return f"no free slot: {taken} of {slots} taken on {_all(self.workers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideSuspect:
    """Its workers each execute a run that has been there when workers died, and nothing new beside it."""

    workers: tuple[WorkerInfo, ...]
    runs: tuple[str, ...]
    """The suspects."""

    @override
    def __str__(self) -> str:
        return (
            f"waiting for {_runs(self.runs)}, which {_all(self.workers)} must execute alone, because "
            "workers died with it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BehindKey:
    """Another run holds its concurrency key, or is to take it first."""

    key: str
    holder_id: str
    holder_status: RunStatus
    """`pending`: it does not execute yet. A terminal one: its body has not ended yet."""
    since: datetime
    """When the holder first began; while it has not begun: when it was triggered."""
    position: int
    """Its place in the queue behind the holder, from 1."""

    @override
    def __str__(self) -> str:
        return (
            f"behind concurrency key {self.key!r}, held by run {self.holder_id} ({self.holder_status}) since "
            f"{_at(self.since)}; place {self.position} in the queue"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledFor:
    """Its time has not come."""

    instant: datetime

    @override
    def __str__(self) -> str:
        return f"scheduled for {_at(self.instant)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyEnding:
    """It was sent back to work while its cancelled body had not ended."""

    worker_id: str
    until: datetime
    """When it is free at the latest, unless the worker renews the lease."""

    @override
    def __str__(self) -> str:
        return (
            f"waiting for its cancelled body to end on worker {self.worker_id}, "
            f"whose lease lasts until {_at(self.until)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorkerKnowsJob:
    """There are live workers, and none has registered its job."""

    job_name: str
    workers: tuple[WorkerInfo, ...]
    """The live ones; `jobs` says what each of them knows."""

    @override
    def __str__(self) -> str:
        known = sorted({name for worker in self.workers for name in worker.jobs})
        return (
            f"no live worker knows the job {self.job_name!r}; {_all(self.workers)} know "
            f"{', '.join(known) or 'no job'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorkerAlive:
    """No worker has been heard from for the length of a lease."""

    last_heard_at: datetime | None
    """When the last of those still listed was heard from."""

    @override
    def __str__(self) -> str:
        last = "" if self.last_heard_at is None else f"; the last was heard from at {_at(self.last_heard_at)}"
        return f"no worker is alive{last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepingUntil:
    """Its job sleeps."""

    instant: datetime
    step_name: str
    others: tuple[str, ...] = ()
    """Further steps that it waits in, in parallel."""

    @override
    def __str__(self) -> str:
        return f"sleeping until {_at(self.instant)}, in step {self.step_name!r}{_beside(self.others)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForSignal:
    """Its job waits for a signal."""

    name: str
    key: str | None
    until: datetime | None
    """When it stops waiting; None: never."""
    others: tuple[str, ...] = ()
    """Further steps that it waits in, in parallel."""

    @override
    def __str__(self) -> str:
        key = "" if self.key is None else f" with key {self.key!r}"
        until = "" if self.until is None else f", until {_at(self.until)}"
        return f"waiting for signal {self.name!r}{key}{until}{_beside(self.others)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForChild:
    """Its job waits for the end of a run that it invoked."""

    run_id: str
    step_name: str
    others: tuple[str, ...] = ()
    """Further steps that it waits in, in parallel."""

    @override
    def __str__(self) -> str:
        return f"waiting for child run {self.run_id}, in step {self.step_name!r}{_beside(self.others)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryingAt:
    """An attempt failed; the next one begins at this instant."""

    instant: datetime
    attempt: int
    """The number of the next attempt."""
    step_name: str | None
    """None: the whole job is tried again."""

    @override
    def __str__(self) -> str:
        what = "the job" if self.step_name is None else f"step {self.step_name!r}"
        return f"retrying {what} at {_at(self.instant)} (attempt {self.attempt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """It has ended: nothing will happen unless somebody retries it."""

    status: RunStatus
    ended_at: datetime | None
    error: RunError | None = None

    @override
    def __str__(self) -> str:
        ended = "" if self.ended_at is None else f" at {_at(self.ended_at)}"
        error = "" if self.error is None else f": {self.error.type}: {self.error.message}"
        return f"{self.status}{ended}{error}"


Explanation: TypeAlias = (
    Running
    | AboutToStart
    | NoFreeSlot
    | BesideSuspect
    | BehindKey
    | ScheduledFor
    | BodyEnding
    | NoWorkerKnowsJob
    | NoWorkerAlive
    | SleepingUntil
    | WaitingForSignal
    | WaitingForChild
    | RetryingAt
    | Ended
)


def explain(facts: Facts, *, lease_seconds: float) -> Explanation:
    """The answer.

    Args:
        facts: What the store knows.
        lease_seconds: A worker is alive if it was heard from within this time.
    """
    run = facts.run
    match run.status:
        case "completed" | "failed" | "cancelled":
            return Ended(status=run.status, ended_at=run.completed_at, error=run.error)
        case "running":
            return _running(facts) or _unclaimed(facts, lease_seconds)
        case "waiting":
            return _waiting(facts) or _unclaimed(facts, lease_seconds)
        case "pending":
            return _pending(facts) or _unclaimed(facts, lease_seconds)
        case _:
            assert_never(run.status)


def _running(facts: Facts) -> Running | None:
    run = facts.run
    if run.lease_owner is None or run.lease_expires_at is None or run.lease_expires_at <= facts.now:
        # Its worker is silent: it waits for another one.
        return None
    workers = [worker for worker in facts.workers if worker.id == run.lease_owner]
    return Running(
        worker_id=run.lease_owner,
        worker=workers[0] if workers else None,
        until=run.lease_expires_at,
        steps=tuple(step.name for step in facts.steps),
    )


def _waiting(
    facts: Facts,
) -> SleepingUntil | WaitingForSignal | WaitingForChild | RetryingAt | ScheduledFor | None:
    if facts.timer_at is not None and facts.timer_at <= facts.now:
        return None
    for step in sorted(facts.steps, key=_ends_first):
        others = tuple(one.name for one in facts.steps if one is not step)
        if step.kind == "signal":
            return WaitingForSignal(name=step.name, key=step.signal_key, until=step.wake_at, others=others)
        if step.child_id is not None:
            return WaitingForChild(run_id=step.child_id, step_name=step.name, others=others)
        if step.kind == "run" and step.wake_at is not None:
            return RetryingAt(instant=step.wake_at, attempt=step.attempt + 1, step_name=step.name)
        if step.wake_at is not None:
            return SleepingUntil(instant=step.wake_at, step_name=step.name, others=others)
    return _scheduled(facts)


def _ends_first(step: Step) -> tuple[float, int]:
    return inf if step.wake_at is None else step.wake_at.timestamp(), step.position


def _pending(facts: Facts) -> BodyEnding | RetryingAt | ScheduledFor | BehindKey | None:
    run, holder = facts.run, facts.holder
    if run.lease_owner is not None and run.lease_expires_at is not None and run.lease_expires_at > facts.now:
        return BodyEnding(worker_id=run.lease_owner, until=run.lease_expires_at)
    if (scheduled := _scheduled(facts)) is not None:
        if run.attempt > 1:
            return RetryingAt(instant=scheduled.instant, attempt=run.attempt, step_name=None)
        return scheduled
    if holder is None or run.concurrency_key is None:
        return None
    return BehindKey(
        key=run.concurrency_key,
        holder_id=holder.id,
        holder_status=holder.status,
        since=holder.started_at or holder.created_at,
        position=facts.ahead + 1,
    )


def _scheduled(facts: Facts) -> ScheduledFor | None:
    is_due = facts.timer_at is None or facts.timer_at <= facts.now
    return None if facts.timer_at is None or is_due else ScheduledFor(instant=facts.timer_at)


def _unclaimed(
    facts: Facts, lease_seconds: float
) -> NoWorkerAlive | NoWorkerKnowsJob | BesideSuspect | NoFreeSlot | AboutToStart:
    """Why a run that nothing keeps has not been taken by a worker."""
    since = facts.now - timedelta(seconds=lease_seconds)
    alive = tuple(
        worker for worker in facts.workers if worker.state == "active" and worker.heartbeat_at > since
    )
    if not alive:
        heard = max((worker.heartbeat_at for worker in facts.workers), default=None)
        return NoWorkerAlive(last_heard_at=heard)
    knowing = tuple(worker for worker in alive if facts.run.job_name in worker.jobs)
    if not knowing:
        return NoWorkerKnowsJob(job_name=facts.run.job_name, workers=alive)
    suspects = {worker.id: facts.suspects[worker.id] for worker in knowing if worker.id in facts.suspects}
    free = tuple(worker for worker in knowing if worker.running < worker.slots and worker.id not in suspects)
    if free:
        return AboutToStart(workers=free)
    if len(suspects) == len(knowing):
        return BesideSuspect(workers=knowing, runs=tuple(suspects.values()))
    return NoFreeSlot(workers=knowing)


def _at(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _one(worker: WorkerInfo) -> str:
    host = worker.host.partition("/")[0]
    return f"{worker.id} (process {worker.pid}{f' on {host}' if host else ''})"


def _all(workers: Sequence[WorkerInfo]) -> str:
    noun = "worker" if len(workers) == 1 else "workers"
    return f"{noun} {', '.join(map(_one, workers))}"


def _steps(names: Sequence[str]) -> str:
    return f"{'step' if len(names) == 1 else 'steps'} {', '.join(map(repr, names))}"


def _beside(names: Sequence[str]) -> str:
    return f", and in {_steps(names)}" if names else ""


def _runs(ids: Sequence[str]) -> str:
    return f"{'run' if len(ids) == 1 else 'runs'} {', '.join(ids)}"
