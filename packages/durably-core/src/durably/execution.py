"""One execution of one run: its lease, its checkpoints, and the step context of its job."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, replace

from typing_extensions import override

from durably.errors import (
    DuplicateStepError,
    NestedStepError,
    SignalTimeout,
    StepChangedError,
    StepFailed,
    StepOutsideRunError,
    StoreError,
)
from durably.events import StepReplayed
from durably.journal import Page
from durably.models import RunError, StepKind, StepStatus
from durably.stores.values import Answer, Claim, Notes, StepRecord, Wait
from durably.tenure import Engine, Tenure


@dataclass(slots=True)
class CurrentStep:
    """The step whose body this task or thread is in."""

    execution: "Execution"
    started: StepRecord
    cursor_json: str | None
    """How far its body has come, in this attempt or an earlier one, as that last said."""
    is_over: bool = False
    """Its time was up: nobody waits for this body any more."""

    @property
    def name(self) -> str:
        """The step's full name."""
        return self.started.name

    @property
    def attempt(self) -> int:
        """Which attempt at it this is."""
        return self.started.attempt


current_execution: ContextVar["Execution | None"] = ContextVar("durably_execution", default=None)
current_step: ContextVar[CurrentStep | None] = ContextVar("durably_step", default=None)


class Execution(Tenure):
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
        super().__init__(claim, engine, deadline=deadline, journal_filled=journal_filled)
        self.working: set[Future[object]] = set()
        """Plain functions of this run that have not returned."""
        self.is_suspect: bool = claim.suspect
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
        self.next_input: str = ""
        """What the next link of a continued one begins with."""
        self._branches: set[asyncio.Task[object]] = set()

    @property
    def resumes(self) -> bool:
        """Whether an earlier execution left checkpoints."""
        return bool(self._steps)

    @property
    def origin(self) -> str:
        """What everything is made of that belongs to a name in this run.

        The run's id, and from the second link on the link: there the names begin anew.
        """
        return self.run.id if self.run.link == 1 else f"{self.run.id}@{self.run.link}"

    # Ending it

    def suspend(self, waits: Sequence[Wait]) -> None:
        """End the execution until one of these waits has ended."""
        if self.interruption is None and not self.has_ended:
            self.parked_on = waits
            self.interrupt("suspended")

    def continue_with(self, input_json: str) -> None:
        """End the execution, and this link with it; the next one begins with this input."""
        if self.interruption is None and not self.has_ended:
            self.next_input = input_json
            self.interrupt("continued")

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
            NestedStepError, DuplicateStepError: As `StepContext.run`.
        """
        self.refuse_in_step(name)
        if name in self._called:
            raise DuplicateStepError(name, self._called[name], call_site)
        self._called[name] = call_site

    def refuse_in_step(self, name: str) -> None:
        """Refuse what only a job's own code may call.

        Raises:
            NestedStepError: The caller is in the body of a step.
        """
        step = current_step.get()
        if step is not None and step.execution is self:
            raise NestedStepError(name, step.name)

    async def recall(self, name: str, kind: StepKind = "run") -> StepRecord | None:
        """The step's checkpoint, if it has one.

        Raises:
            StepFailed: The checkpoint is a failure.
            StepChangedError: What is stored under the name is of another kind.
        """
        known = self._steps.get(name)
        if known is None:
            return None
        if known.kind != kind:
            self._supersede(known, kind)
            return None
        if known.status == "running":
            return None
        self._unused.discard(name)
        if self._engine.bus.wants("step:replay"):
            self._engine.bus.publish(StepReplayed(**self.about(known)))
        if known.error is None:
            return known
        raise await self.told(known)

    def _supersede(self, known: StepRecord, kind: StepKind) -> None:
        """Forget a body that was begun, and came to nothing, under a name that is something else now.

        Raises:
            StepChangedError: It is a checkpoint, or a wait: with a deadline or a child of its own.
        """
        if known.status != "running" or known.kind not in {"run", "map"}:
            raise StepChangedError(known.name, stored=known.kind, called=kind)
        del self._steps[known.name]

    async def told(self, failed: StepRecord) -> StepFailed:
        """What the job is told of a failed step that it meets again."""
        error = failed.error or RunError(type="Unknown", message="")
        begun = self.journal.number()
        # One turn of the loop, in which steps called in parallel with this one begin too.
        await self._engine.environment.sleep(0)
        self._failures[failed.name] = (begun, self.journal.number())
        kind = SignalTimeout if failed.kind == "signal" else StepFailed
        return kind(failed.name, error.type, error.message, failed.attempt, traceback=error.traceback)

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

    def leave_replay(self) -> None:
        """The job comes to a step that has no checkpoint: from here on it lives."""
        self._unused.clear()

    def left_running(self, name: str) -> StepRecord | None:
        """The step as its last attempt left it, in this execution or an earlier one."""
        return self._steps.get(name)

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

    def body_begins(self, task: "asyncio.Task[object] | None") -> None:
        """A step's body is about to be called, in this task."""
        self._executing += 1
        self._touched_at = self._engine.environment.monotonic()
        if task is not None and task is not self.root:
            self._branches.add(task)

    def body_ends(self, task: "asyncio.Task[object] | None") -> None:
        """It has ended, or was left to its thread."""
        self._executing -= 1
        self._touched_at = self._engine.environment.monotonic()
        if task is not None:
            self._branches.discard(task)

    @override
    def publish_page(self, page: Page) -> None:
        super().publish_page(page)
        if self.is_suspect and page.notes.cursors:
            self.clear_suspicion()

    def clear_suspicion(self) -> None:
        """A new checkpoint or cursor is committed: what killed the workers is not what came before."""
        self.is_suspect = False
        self._cleared()

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

    def has_ended_well(self, name: str) -> bool | None:
        """Whether an earlier execution left a result of this step, not a failure; None: neither."""
        known = self._steps.get(name)
        return None if known is None or known.status == "running" else known.error is None

    def began_before(self, name: str) -> bool:
        """Whether an earlier execution left this step running."""
        return name in self._steps

    async def settle(self, waits: Sequence[Wait]) -> Sequence[StepRecord]:
        """Begin these waits, end those whose time has come; answers them as they stand.

        Raises:
            asyncio.CancelledError: The run is no longer ours, or could not be written in time.
        """
        steps: Sequence[StepRecord] = ()

        async def write(first: int, notes: Notes) -> Answer:
            nonlocal steps
            settled = await self._engine.store.settle(self.lease, numbered(waits, first), notes)
            steps = settled.steps
            return settled.answer

        await self.write("wait", write, numbers=len(waits))
        return steps

    async def ripe(self) -> Sequence[str]:
        """The names of the run's waits that may have ended.

        Raises:
            asyncio.CancelledError: The run is no longer ours, or could not be read in time.
        """
        try:
            return await self.insist("wait", lambda: self._engine.store.ripe_waits(self.run.id))
        except StoreError:
            self.interrupt("lost")
            raise asyncio.CancelledError(f"run {self.run.id}: lost") from None

    # Writing

    async def save(
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
        completed_at = self._engine.environment.now()

        def write(number: int, notes: Notes) -> Coroutine[object, object, Answer]:
            record = StepRecord(
                name=started.name,
                status=status,
                position=started.position,
                attempt=started.attempt,
                sequence=number,
                started_at=started.started_at,
                completed_at=completed_at,
                result_json=result_json,
                error=error,
                kind=started.kind,
            )
            return self._engine.store.save_step(self.lease, record, notes)

        await self.write("checkpoint", write)
        return max(0.0, completed_at - started.started_at)

    async def save_failure(self, started: StepRecord, failure: RunError) -> float:
        """Commit the step's failure, of which the job is told next; answers how long it took.

        Raises:
            asyncio.CancelledError: As `save`.
        """
        self._failures[started.name] = (started.sequence, math.inf)
        duration = await self.save(started, "failed", error=failure)
        self._failures[started.name] = (started.sequence, self.journal.number())
        return duration

    async def save_attempt(self, attempt: StepRecord) -> None:
        """Commit an attempt that failed and is not the last.

        Raises:
            asyncio.CancelledError: As `save`.
        """
        # One number for all tries: by it the store knows an attempt that is told again.
        record = replace(attempt, sequence=self.journal.number())

        def write(_: int, notes: Notes) -> Coroutine[object, object, Answer]:
            return self._engine.store.save_attempt(self.lease, record, notes)

        await self.write("checkpoint", write, numbers=0)
        self._steps[attempt.name] = record


def numbered(waits: Sequence[Wait], first: int) -> Sequence[Wait]:
    """The waits with the numbers under which they are written."""
    return [
        replace(wait, step=replace(wait.step, sequence=number)) for number, wait in enumerate(waits, first)
    ]
