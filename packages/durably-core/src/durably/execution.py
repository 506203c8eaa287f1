"""One execution of one run: its lease, its checkpoints, and the step context of its job."""

import asyncio
import inspect
import math
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from durably.bus import Bus
from durably.codec import Codec
from durably.doorbell import Doorbell
from durably.environment import Environment, ThreadPool
from durably.errors import (
    DuplicateStepError,
    NestedStepError,
    SignalTimeout,
    StepFailed,
    StepOutsideRunError,
    StoreError,
    ValidationError,
)
from durably.events import (
    LogWritten,
    RunProgressed,
    StepCancelled,
    StepCompleted,
    StepFailedEvent,
    StepStarted,
    StepSubject,
    WorkerError,
    subject,
)
from durably.failures import describe
from durably.insistence import insist
from durably.journal import Journal, Page
from durably.lifecycle import Interruption
from durably.models import Progress, Run, RunError, StepKind, StepStatus
from durably.options import Limits, is_text
from durably.stores.base import Answer, Claim, Lease, StepRecord, Store, Wait

T = TypeVar("T")

LONGEST_NAME = 200
RESERVED: frozenset[str] = frozenset("/[]")


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """The step whose body this task or thread is in."""

    execution: "Execution"
    name: str
    attempt: int


current_execution: ContextVar["Execution | None"] = ContextVar("durably_execution", default=None)
current_step: ContextVar[CurrentStep | None] = ContextVar("durably_step", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What an execution needs around it."""

    store: Store
    bus: Bus
    environment: Environment
    threads: ThreadPool
    limits: Limits
    work: Doorbell
    """Rings when something may have become ready, or a wait may have ended."""
    persist_logs: bool
    keep_results: bool


class Execution:
    """A claimed run in the hands of this worker, from claim to verdict.

    Guarantees that no step's body starts, and nothing is written, past the lease's deadline on the
    monotonic clock; and that once it was interrupted, every further step call raises
    CancelledError, whatever the job did with the first one.
    """

    def __init__(
        self,
        claim: Claim,
        engine: Engine,
        *,
        deadline: float,
        journal_filled: Callable[[], None],
        cleared: Callable[[], None],
    ) -> None:
        self.run: Run = claim.run
        self.lease: Lease = claim.lease
        self.deadline: float = deadline
        """The monotonic instant at which the lease runs out unless it is renewed."""
        self.interruption: Interruption | None = None
        self.has_ended: bool = False
        self.root: asyncio.Task[object] | None = None
        self.working: set[Future[object]] = set()
        """Plain functions of this run that have not returned."""
        self.journal: Journal = Journal(
            claim.last_sequence, filled=journal_filled, keeps_logs=engine.persist_logs
        )
        self.is_suspect: bool = claim.suspect
        self._engine = engine
        self._cleared = cleared
        self._steps = {step.name: step for step in claim.steps}
        self._unused = {step.name for step in claim.steps if step.status != "running"}
        # Of each failure, the numbers at which its step began and the job was told; never: infinity.
        self._failures: dict[str, tuple[float, float]] = {}
        self._positions = max((step.position for step in claim.steps), default=0)
        self._called: dict[str, str] = {}
        self._executing = 0
        self._touched_at = engine.environment.monotonic()
        self.parked_on: Sequence[Wait] = ()
        """What a suspended execution waits for."""
        self._branches: set[asyncio.Task[object]] = set()

    @property
    def resumes(self) -> bool:
        """Whether an earlier execution left checkpoints."""
        return bool(self._steps)

    # Ending it

    def interrupt(self, why: Interruption) -> None:
        """End the execution from outside; the first reason stays.

        Only the root task is cancelled: in a child, a TaskGroup would take the cancellation for
        its own and complete normally (S1).
        """
        if self.interruption is None and not self.has_ended:
            self.interruption = why
            if self.root is not None:
                self.root.cancel()

    def suspend(self, waits: Sequence[Wait]) -> None:
        """End the execution until one of these waits has ended."""
        if self.interruption is None and not self.has_ended:
            self.parked_on = waits
            self.interrupt("suspended")

    def end(self) -> int:
        """Refuse every further call and cancel the branches left over; answers how many."""
        self.has_ended = True
        left = [branch for branch in self._branches if not branch.done()]
        for branch in left:
            branch.cancel()
        return len(left)

    def require_live(self) -> None:
        """Refuse if the execution has ended, was interrupted, or has outlived its lease."""
        if self.interruption is None and self._engine.environment.monotonic() >= self.deadline:
            self.interrupt("lost")
        if self.interruption is not None:
            raise asyncio.CancelledError(f"run {self.run.id}: {self.interruption}")
        if self.has_ended or current_execution.get() is not self:
            raise StepOutsideRunError(self.run.id)

    # Steps

    def enter(self, name: str, call_site: str) -> None:
        """Take note of a call of a step.

        Raises:
            ValidationError: The name cannot be used.
            NestedStepError, DuplicateStepError: As `StepContext.run`.
        """
        _check_name(name)
        step = current_step.get()
        if step is not None and step.execution is self:
            raise NestedStepError(name, step.name)
        if name in self._called:
            raise DuplicateStepError(name, self._called[name], call_site)
        self._called[name] = call_site

    async def recall(self, name: str) -> StepRecord | None:
        """The step's checkpoint, if it has one.

        Raises:
            StepFailed: The checkpoint is a failure.
        """
        known = self._steps.get(name)
        if known is None or known.status == "running":
            return None
        self._unused.discard(name)
        if known.error is None:
            return known
        raise await self.told(known)

    async def told(self, failed: StepRecord) -> StepFailed:
        """What the job is told of a failed step that it meets again."""
        error = failed.error or RunError(type="Unknown", message="")
        begun = self.journal.number()
        # One turn of the loop, in which steps called in parallel with this one begin too.
        await self._engine.environment.sleep(0)
        self._failures[failed.name] = (begun, self.journal.number())
        kind = SignalTimeout if failed.kind == "signal" else StepFailed
        return kind(failed.name, error.type, error.message, failed.attempt)

    def failed_beside(self, names: Sequence[str]) -> tuple[str, ...]:
        """These failed steps, and those that failed in parallel with one of them.

        Of several parallel failures only one may reach the job's end (`gather` lets go of the
        others, a TaskGroup cuts them off); to whoever retries the run they are one failure.
        """
        ending = [self._failures[name] for name in names if name in self._failures]
        beside = [
            name
            for name, (begun, told) in self._failures.items()
            if name not in names and any(begun < end and start < told for start, end in ending)
        ]
        return (*names, *beside)

    @property
    def is_replaying(self) -> bool:
        """Whether checkpoints are left that the job has not come to again."""
        return bool(self._unused)

    async def perform(self, name: str, body: Callable[[], object], codec: Codec[object]) -> object:
        """Execute the body and commit what came of it.

        Raises:
            StepFailed: The body raised or its result cannot be stored; that is committed.
        """
        self._unused.clear()
        started = self.begin(name)
        self._executing += 1
        self.touch()
        task = asyncio.current_task()
        if task is not None and task is not self.root:
            self._branches.add(task)
        token = current_step.set(CurrentStep(self, name, started.attempt))
        try:
            self.journal.step_started(started)
            if self.is_suspect:
                # If this body kills the process, the row says which one it was.
                await self.flush(started_before=started.started_at)
            if self._engine.bus.wants("step:start"):
                self._engine.bus.publish(StepStarted(**self._of(started)))
            self.require_live()
            try:
                value = await self._call(body)
                text, value = codec.encode(
                    value, what=f"the result of step {name!r}", limit=self._engine.limits.payload_bytes
                )
            except Exception as error:
                raise await self._fail(started, error) from error
            await self._complete(started, text, value)
            return value
        except asyncio.CancelledError:
            if self.interruption != "lost":
                self._engine.bus.publish(StepCancelled(**self._of(started)))
            raise
        finally:
            self._executing -= 1
            self.touch()
            self.journal.step_ended(name)
            current_step.reset(token)
            if task is not None:
                self._branches.discard(task)

    def begin(
        self,
        name: str,
        kind: StepKind = "run",
        *,
        wake_at: float | None = None,
        signal_key: str | None = None,
        child_id: str | None = None,
    ) -> StepRecord:
        """The record of a step that begins; one that was left running keeps its place."""
        left_running = self._steps.get(name)
        if left_running is None:
            self._positions += 1
        return StepRecord(
            name=name,
            status="running",
            position=self._positions if left_running is None else left_running.position,
            attempt=1 if left_running is None else left_running.attempt + 1,
            sequence=self.journal.number(),
            started_at=self._engine.environment.now(),
            kind=kind,
            wake_at=wake_at,
            signal_key=signal_key,
            child_id=child_id,
        )

    async def _call(self, body: Callable[[], object]) -> object:
        if not _is_async(body):
            future = self._engine.threads.submit(partial(_without_stop_iteration, body))
            self.working.add(future)
            future.add_done_callback(self.working.discard)
            result = await asyncio.wrap_future(future)
        else:
            result = body()
        return await result if inspect.isawaitable(result) else result

    async def _complete(self, started: StepRecord, text: str, value: object) -> None:
        duration = await self._save(started, "completed", result_json=text)
        if self.is_suspect:
            self.is_suspect = False
            self._cleared()
        if self._engine.bus.wants("step:complete"):
            self._engine.bus.publish(StepCompleted(**self._of(started), output=value, duration=duration))

    async def _fail(self, started: StepRecord, error: Exception) -> StepFailed:
        """Commit the failure; answers what the job is told."""
        failure = describe(error)
        self._failures[started.name] = (started.sequence, math.inf)
        duration = await self._save(started, "failed", error=failure)
        self._failures[started.name] = (started.sequence, self.journal.number())
        self._engine.bus.publish(StepFailedEvent(**self._of(started), error=failure, duration=duration))
        return StepFailed(started.name, failure.type, failure.message, started.attempt)

    # Waits

    @property
    def is_executing(self) -> bool:
        """Whether the body of any step is executing."""
        return self._executing > 0

    def touch(self) -> None:
        """A step or a wait begins or ends."""
        self._touched_at = self._engine.environment.monotonic()

    def is_quiet(self, seconds: float) -> bool:
        """Whether no body is executing and no step has begun or ended for so long."""
        return not self._executing and self._engine.environment.monotonic() - self._touched_at >= seconds

    def began_before(self, name: str) -> bool:
        """Whether an earlier execution left this step running."""
        return name in self._steps

    async def settle(self, waits: Sequence[Wait]) -> Sequence[StepRecord]:
        """Begin these waits, end those whose time has come; answers them as they stand.

        Raises:
            asyncio.CancelledError: The run is no longer ours, or could not be written in time.
        """
        page = self.journal.page()
        numbered = [replace(wait, step=replace(wait.step, sequence=self.journal.number())) for wait in waits]
        steps: Sequence[StepRecord] = ()

        async def write() -> Answer:
            nonlocal steps
            settled = await self._engine.store.settle(self.lease, numbered, page.notes)
            steps = settled.steps
            return settled.answer

        await self._write("wait", write, page)
        return steps

    # Writing

    async def _save(
        self,
        started: StepRecord,
        status: StepStatus,
        *,
        result_json: str | None = None,
        error: RunError | None = None,
    ) -> float:
        """Commit the step's end together with the notes of the moment; answers how long it took.

        Raises:
            asyncio.CancelledError: The run is no longer ours, or could not be written in time.
        """
        page = self.journal.page()
        record = StepRecord(
            name=started.name,
            status=status,
            position=started.position,
            attempt=started.attempt,
            sequence=self.journal.number(),
            started_at=started.started_at,
            completed_at=self._engine.environment.now(),
            result_json=result_json,
            error=error,
        )
        await self._write(
            "checkpoint", lambda: self._engine.store.save_step(self.lease, record, page.notes), page
        )
        return max(0.0, (record.completed_at or 0.0) - record.started_at)

    async def flush(self, *, started_before: float) -> None:
        """Write what the journal holds, steps that started after this instant excepted.

        Raises:
            asyncio.CancelledError: As `_save`.
        """
        page = self.journal.full_page(started_before=started_before)
        if page.notes:
            await self._write("notes", lambda: self._engine.store.note(self.lease, page.notes), page)
        else:
            self.publish_page(page)

    async def _write(
        self, context: str, write: Callable[[], Coroutine[object, object, Answer]], page: Page
    ) -> None:
        try:
            answer = await self.insist(context, write)
        except StoreError:
            # Not the job's error: let the run go, so that it resumes once the store is well.
            answer = "lost"
        if answer != "applied":
            self.interrupt(answer)
            raise asyncio.CancelledError(f"run {self.run.id}: {answer}")
        self.publish_page(page)

    async def insist(self, context: str, write: Callable[[], Coroutine[object, object, T]]) -> T:
        """Write, again and again while the store is in trouble, as long as the lease lasts.

        Raises:
            StoreError: The trouble outlasted the lease, or will not pass.
        """
        if self._engine.environment.monotonic() >= self.deadline:
            self.interrupt("lost")
            raise asyncio.CancelledError(f"run {self.run.id}: lost")
        return await insist(
            write,
            until=lambda: self.deadline,
            environment=self._engine.environment,
            report=partial(self.report, context),
        )

    def report(self, context: str, error: BaseException) -> None:
        """Tell of trouble that is not the job's."""
        self._engine.bus.publish(WorkerError(context=context, error=error, run_id=self.run.id))

    # Telling

    def publish_page(self, page: Page) -> None:
        """Tell of notes that are committed now."""
        about = subject(self.run)
        for entry in page.entries:
            if isinstance(entry, Progress):
                self._engine.bus.publish(RunProgressed(**about, progress=entry))
            else:
                self._engine.bus.publish(
                    LogWritten(
                        **about,
                        level=entry.level,
                        message=entry.message,
                        fields=entry.fields,
                        step_name=entry.step_name,
                    )
                )

    def _of(self, step: StepRecord) -> StepSubject:
        return {**subject(self.run), "step_name": step.name, "attempt": step.attempt}


def _check_name(name: object) -> None:
    fits = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and RESERVED.isdisjoint(name)
    if not fits or not is_text(str(name)):
        raise ValidationError(
            f"{name!r} is no step name: use 1 to {LONGEST_NAME} characters without / [ ] and NUL"
        )


def _is_async(fn: Callable[..., object]) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def _without_stop_iteration(body: Callable[[], object]) -> object:
    # A future refuses StopIteration as an exception and would never be done.
    try:
        return body()
    except StopIteration as error:
        raise RuntimeError("the step's function raised StopIteration") from error
