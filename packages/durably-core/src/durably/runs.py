"""What people and programs do with runs, short of executing them."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeAlias, TypeVar

from durably.bus import Bus
from durably.codec import codec_for
from durably.doorbell import Doorbell
from durably.environment import Environment
from durably.errors import (
    ConflictError,
    NotStorableError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    StoredValueError,
    StoreError,
    ValidationError,
    WaitTimeoutError,
)
from durably.events import (
    Event,
    LogWritten,
    RunCancelled,
    RunCoalesced,
    RunDeleted,
    RunEvent,
    RunProgressed,
    RunRetried,
    RunTriggered,
    WorkerError,
    subject,
)
from durably.filters import STATUSES, RunFilter
from durably.insistence import insist
from durably.jobs import JobDefinition, Registry
from durably.lifecycle import TRANSITIONS
from durably.models import Progress, Run, RunStatus, Seconds
from durably.options import Limits, Trigger, check_signal, seconds
from durably.stores.base import Store
from durably.stores.values import NewRun, NewSignal, Transition
from durably.stores.watching import Seen
from durably.waiters import Waiters
from durably.wishes import Wish, new_run

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

OnProgress: TypeAlias = Callable[[Progress], object]
OnLog: TypeAlias = Callable[[LogWritten], object]

PATIENCE = 10.0
"""Seconds for which a caller's verb is tried again while the store is in passing trouble."""
BATCH = 100


class Runs:
    """The verbs over runs."""

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        environment: Environment,
        jobs: Registry,
        work: Doorbell,
        waiters: Waiters,
        limits: Limits,
    ) -> None:
        self._store = store
        self._bus = bus
        self._environment = environment
        self._jobs = jobs
        self._work = work
        self._waiters = waiters
        self._limits = limits

    # Triggering

    async def enqueue(self, job: JobDefinition[In, Out], wishes: Sequence[Wish]) -> list[Run[In, Out]]:
        """Store runs of one job, all or none; every input is validated first.

        Raises:
            ValidationError: An input does not fit; nothing is stored.
            ConflictError: A run of a key waits already, and `coalesce="reject"` forbids another one;
                nothing is stored.
        """
        new = [new_run(job, wish, id=self._environment.new_id(), limits=self._limits) for wish in wishes]
        if not new:
            return []
        answer = await self._insist("trigger", lambda: self._store.enqueue(new))
        if answer.conflict is not None:
            raise _in_the_way(job, answer.conflict, new)
        for run, wanted in zip(answer.runs, new, strict=True):
            if run.disposition == "created":
                self._publish(RunTriggered, run)
            elif run.disposition == "coalesced":
                self._publish_coalesced(job, run, wanted)
        for run in answer.replaced:
            self._publish(RunCancelled, run)
        self._work.ring()
        return [typed(job, run) for run in answer.runs]

    async def retrigger(self, run_id: str) -> Run:
        """A new run with the input, labels, key and priority of one that has ended.

        Raises:
            RunNotFoundError: There is no such run.
            JobNotFoundError: Its job is not registered here.
            ConflictError: It has not ended.
            ValidationError: Its input no longer fits the job.
        """
        run = await self._require(run_id)
        job = self._jobs.require(run.job_name)
        if not run.is_terminal:
            raise _conflict("retrigger", run)
        try:
            input = job.input_codec.decode(run.input_json, what=f"the input of run {run_id}")
        except StoredValueError as error:
            raise ValidationError(f"cannot retrigger: {error}") from None
        options = Trigger(
            concurrency_key=run.concurrency_key,
            is_key_shared=run.is_key_shared,
            labels=dict(run.labels),
            priority=run.priority,
        )
        return (await self.enqueue(job, [Wish(input, options)]))[0]

    # Ending, sending back, removing

    async def cancel(self, run_id: str) -> Run:
        """End a run that has not ended; once this returns it is cancelled for good.

        Raises:
            RunNotFoundError, ConflictError: There is none, or it has ended already.
        """
        run = await self._transition("cancel", run_id, self._store.cancel)
        self._publish(RunCancelled, run)
        self._work.ring()
        await self._cancel_children(run_id)
        return run

    async def _cancel_children(self, run_id: str) -> None:
        """Cancel the attached children that have not ended, in batches.

        Should this be cut off, a worker's sweep goes on with it.
        """
        while children := await self._store.unfinished_children(run_id, limit=BATCH):
            await asyncio.gather(*(_applied(self.cancel, child) for child in children))

    async def retry(self, run_id: str) -> Run:
        """Send a failed or cancelled run back to work, its checkpoints kept.

        Raises:
            RunNotFoundError, ConflictError: There is none, or it is neither failed nor cancelled.
        """
        run = await self._transition("retry", run_id, self._store.retry)
        self._publish(RunRetried, run)
        self._work.ring()
        return run

    async def delete(self, run_id: str) -> None:
        """Remove a run that has ended, with its steps, logs and labels.

        Raises:
            RunNotFoundError, ConflictError: There is none, or it has not ended.
        """
        run = await self._transition("delete", run_id, self._store.delete)
        self._publish(RunDeleted, run)

    async def purge(self, *, older_than: Seconds, limit: int) -> int:
        """Remove up to `limit` runs that ended longer ago than this; answers how many."""
        age = seconds(older_than, "older_than", problem=ValidationError)
        return await self._insist("purge", lambda: self._store.purge(older_than=age, limit=limit))

    async def cancel_many(self, filter: RunFilter) -> int:
        """Cancel every run that matches and has not ended; answers how many."""
        return await self._each(self.cancel, filter, TRANSITIONS["cancel"].sources)

    async def retry_many(self, filter: RunFilter) -> int:
        """Retry every run that matches and failed or was cancelled; answers how many."""
        return await self._each(self.retry, filter, TRANSITIONS["retry"].sources)

    async def _each(
        self, verb: Callable[[str], Awaitable[Run]], filter: RunFilter, sources: frozenset[RunStatus]
    ) -> int:
        """Apply a verb to every run that matches, in bounded batches; answers to how many.

        Runs that come to match while it works may be missed, runs that changed meanwhile are
        passed over.
        """
        status = [one for one in (filter.status or STATUSES) if one in sources]
        wanted = replace(filter, status=status)
        before: int | None = None
        done = 0
        while status:
            batch = await self._store.list_runs(wanted, limit=BATCH, offset=0, before=before)
            outcomes = await asyncio.gather(*(_applied(verb, run.id) for run in batch))
            done += sum(outcomes)
            if len(batch) < BATCH:
                break
            before = batch[-1].position
        return done

    async def _transition(self, verb: str, run_id: str, apply: Callable[..., Awaitable[Transition]]) -> Run:
        token = self._environment.new_id()
        answer = await self._insist(verb, lambda: apply(run_id, token=token))
        if answer.run is None:
            raise RunNotFoundError(run_id)
        if not answer.applied:
            raise _conflict(verb, answer.run)
        return self.typed(answer.run)

    # Signals

    async def signal(self, name: str, payload: object, *, run_id: str | None, key: str | None) -> None:
        """Send a signal; see `Durably.signal`.

        Raises:
            ValidationError: Neither or both of `run_id` and `key` are given, or the payload is no JSON.
            RunNotFoundError: There is no such run.
            ConflictError: The run has ended.
        """
        check_signal(name, run_id=run_id, key=key)
        what = f"the payload of signal {name!r}"
        try:
            text, _ = codec_for(type(payload)).encode(payload, what=what, limit=self._limits.payload_bytes)
        except NotStorableError as error:
            raise ValidationError(str(error), fields=(error.path,)) from None
        signal = NewSignal(
            id=self._environment.new_id(), name=name, payload_json=text, run_id=run_id, key=key
        )
        receipt = await self._insist("signal", lambda: self._store.send_signal(signal))
        if receipt != "sent" and run_id is not None:
            raise _conflict("signal", await self._require(run_id))
        self._work.ring()

    # Looking

    async def get(self, run_id: str) -> Run | None:
        """One run, or None."""
        run = await self._store.get_run(run_id)
        return None if run is None else self.typed(run)

    async def list(
        self,
        filter: RunFilter,
        *,
        limit: int | None,
        offset: int,
        before: int | None,
        after: int | None = None,
    ) -> list[Run]:
        """Newest first.

        Raises:
            ValidationError: `limit` or `offset` is negative or no number.
        """
        for what, number in (("limit", limit), ("offset", offset)):
            if number is not None and (isinstance(number, bool) or number < 0):
                raise ValidationError(f"{what} must not be negative", fields=(what,))
        runs = await self._store.list_runs(filter, limit=limit, offset=offset, before=before, after=after)
        return [self.typed(run) for run in runs]

    def typed(self, run: Run) -> Run:
        """The run with its payloads read by its job, if that is known here."""
        job = self._jobs.find(run.job_name)
        return run if job is None else typed(job, run)

    # Waiting

    async def wait(
        self,
        run_id: str,
        *,
        timeout: Seconds | None,
        polling_interval: Seconds | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ) -> Run:
        """Wait for a run's end, wherever it is executed; answers it completed.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            RunFailedError, RunCancelledError: It ended so.
            WaitTimeoutError: It has not ended in time; it goes on.
            ValidationError: `timeout` or `polling_interval` is no positive duration.
        """
        limit = _positive(timeout, "timeout")
        interval = _positive(polling_interval, "polling_interval")
        try:
            # Listened from before the first look, so that nothing in between is missed.
            async with asyncio.timeout(limit):
                with (
                    self._listening(run_id, on_progress, on_log),
                    self._waiters.watch(run_id, ends_only=True, polling_interval=interval) as watch,
                ):
                    while not (run := await self._require(run_id)).is_terminal:
                        await watch.wait(Seen(run_id))
        except TimeoutError:
            raise WaitTimeoutError(run_id, limit or 0) from None
        if run.status == "cancelled":
            raise RunCancelledError(run_id)
        if run.error is not None:
            raise RunFailedError(run_id, run.error.type, run.error.message)
        return run

    @contextmanager
    def _listening(
        self, run_id: str, on_progress: OnProgress | None, on_log: OnLog | None
    ) -> Generator[None]:
        def progressed(event: Event) -> object:
            if on_progress is None or not isinstance(event, RunProgressed) or event.run_id != run_id:
                return None
            return on_progress(event.progress)

        def logged(event: Event) -> object:
            if on_log is None or not isinstance(event, LogWritten) or event.run_id != run_id:
                return None
            return on_log(event)

        with ExitStack() as stack:
            if on_progress is not None:
                stack.callback(self._bus.on("run:progress", progressed))
            if on_log is not None:
                stack.callback(self._bus.on("log:write", logged))
            yield

    async def _require(self, run_id: str) -> Run:
        run = await self.get(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    # Trouble and news

    async def _insist(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        deadline = self._environment.monotonic() + PATIENCE

        def report(error: StoreError) -> None:
            self._bus.publish(WorkerError(context=verb, error=error))

        return await insist(call, until=lambda: deadline, environment=self._environment, report=report)

    def _publish(self, event: type[RunEvent], run: Run) -> None:
        if self._bus.wants(event.type):
            self._bus.publish(event(**subject(run)))

    def _publish_coalesced(self, job: JobDefinition[In, Out], run: Run, wanted: NewRun) -> None:
        if self._bus.wants("run:coalesced"):
            self._bus.publish(
                RunCoalesced(
                    **subject(run),
                    skipped_input=job.input_codec.decode(wanted.input_json, what="the skipped input"),
                    skipped_labels=wanted.labels,
                )
            )


def typed(job: JobDefinition[In, Out], run: Run) -> Run[In, Out]:
    """The run with its payloads read as the job's types."""
    return run.typed(
        lambda text: job.input_codec.decode(text, what=f"the input of run {run.id}"),
        lambda text: job.output_codec.decode(text, what=f"the output of run {run.id}"),
    )


async def _applied(verb: Callable[[str], Awaitable[Run]], run_id: str) -> bool:
    try:
        await verb(run_id)
    except (ConflictError, RunNotFoundError):
        return False
    return True


def _positive(value: Seconds | None, what: str) -> float | None:
    return None if value is None else seconds(value, what, problem=ValidationError)


def _in_the_way(job: JobDefinition[In, Out], run: Run, new: Sequence[NewRun]) -> ConflictError:
    other = "another run of this batch" if run.id in {one.id for one in new} else f"run {run.id}"
    return ConflictError(
        f"cannot trigger {job.name!r}: {other} waits with the concurrency key {run.concurrency_key!r}; "
        "coalesce='skip' would answer with it, 'replace' would take its place, None would queue behind it",
        run_id=run.id,
        status=run.status,
    )


def _conflict(verb: str, run: Run) -> ConflictError:
    return ConflictError(f"cannot {verb} {run.status} run: {run.id}", run_id=run.id, status=run.status)
