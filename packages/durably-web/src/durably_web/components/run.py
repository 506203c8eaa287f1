"""The parts of a run's page."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, TypeAlias

from starlette.exceptions import HTTPException
from typing_extensions import override

from durably import (
    BehindKey,
    Explanation,
    Run,
    RunError,
    Step,
    WaitingForChild,
    WaitingForSignal,
    WorkerInfo,
)
from durably_web import payloads, wording
from durably_web.auth import RunOperation
from durably_web.bells import RunPart
from durably_web.components.base import RunComponent
from durably_web.explaining import in_private
from durably_web.notices import QUESTIONS, Notice, Question, notice
from durably_web.timeline import Timeline, timeline
from durably_web.visits import Visit

Which: TypeAlias = Literal["input", "output"]

UNFINISHED: tuple[RunOperation, ...] = ("cancel",)
SENSIBLE: Mapping[str, tuple[RunOperation, ...]] = {
    "pending": UNFINISHED,
    "running": UNFINISHED,
    "waiting": UNFINISHED,
    "completed": ("retrigger", "delete"),
    "failed": ("retry", "retrigger", "delete"),
    "cancelled": ("retry", "retrigger", "delete"),
}
"""What one may want to do with a run in this state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunShown:
    """A run, and how it is shown."""

    run: Run
    big: bool = False
    message: bool = True


@dataclass(frozen=True)
class RunStatusBadge(RunComponent):
    """The run's status: an icon and a word."""

    name: ClassVar[str] = "run_status"
    is_inline: ClassVar[bool] = True

    @override
    async def load(self, visit: Visit) -> RunShown:
        return RunShown(run=await visit.run(self.run_id))


@dataclass(frozen=True)
class RunProgress(RunComponent):
    """How far the run has come."""

    _: KW_ONLY
    big: bool = False
    """A bar of its own width instead of one in a line."""
    message: bool = True

    name: ClassVar[str] = "run_progress"
    is_inline: ClassVar[bool] = True
    rings: ClassVar[Sequence[RunPart]] = ("progress", "status")

    @override
    async def load(self, visit: Visit) -> RunShown:
        return RunShown(run=await visit.run(self.run_id), big=self.big, message=self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionsShown:
    """What may be done with a run."""

    run: Run
    actions: tuple[RunOperation, ...]
    edits: bool
    """Whether its input may be edited and sent again."""
    notice: Notice | None = None

    def question(self, action: RunOperation) -> Question | None:
        """What is asked before this is done."""
        return QUESTIONS.get(action)


@dataclass(frozen=True)
class RunActions(RunComponent):
    """Buttons for what this visitor may sensibly do with the run."""

    _: KW_ONLY
    actions: tuple[RunOperation, ...] = ("cancel", "retry", "retrigger", "delete")

    name: ClassVar[str] = "run_actions"
    is_inline: ClassVar[bool] = True

    @override
    async def load(self, visit: Visit) -> ActionsShown:
        run = await visit.run(self.run_id)
        return await self.show(visit, run)

    async def show(self, visit: Visit, run: Run, *, code: str | None = None) -> ActionsShown:
        """The buttons, after one of them was pressed."""
        allowed = await visit.caller.allowed(run)
        # Without its job nobody can read the input that a new run would have.
        hidden = frozenset[RunOperation]() if run.job_name in visit.durably.jobs else {"retrigger"}
        offered = (allowed & set(self.actions)) - hidden
        could_edit = "retrigger" in offered and run.is_terminal and visit.is_ours
        return ActionsShown(
            run=run,
            actions=tuple(one for one in SENSIBLE[run.status] if one in offered),
            edits=could_edit and await visit.caller.shows_input(run),
            notice=notice(code),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorShown:
    """Why a run failed."""

    run: Run
    error: RunError | None
    message: str
    """Of the error; the beginning, if it is long."""
    lines: tuple[str, ...]
    """Of the traceback, the last ones."""
    omitted: int


@dataclass(frozen=True)
class RunFailure(RunComponent):
    """Which step failed, and its traceback."""

    _: KW_ONLY
    lines: int = 40

    name: ClassVar[str] = "run_error"

    @override
    async def load(self, visit: Visit) -> ErrorShown:
        run = await visit.run(self.run_id)
        error = run.error if run.status == "failed" else None
        lines = [] if error is None else wording.whole_error(error).splitlines()
        shown = lines[-max(1, self.lines) :]
        return ErrorShown(
            run=run,
            error=error,
            message="" if error is None else wording.beginning(error.message),
            lines=tuple(shown),
            omitted=len(lines) - len(shown),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationShown:
    """Why a run is not running."""

    run: Run
    text: str
    signal: WaitingForSignal | None
    """The signal it waits for, if this visitor may send it."""
    other_id: str | None
    """The run that it waits for, if this visitor may see that."""


@dataclass(frozen=True)
class RunExplanation(RunComponent):
    """Why the run is not running, and the signal it waits for to send."""

    name: ClassVar[str] = "run_explanation"
    rings: ClassVar[Sequence[RunPart]] = ("status", "step")
    is_held: ClassVar[bool] = True

    @override
    async def load(self, visit: Visit) -> ExplanationShown:
        run = await visit.run(self.run_id)
        explanation = await visit.caller.explain(self.run_id)
        allowed = await visit.caller.allowed(run)
        other_id = _other_run(explanation)
        is_private = not await visit.caller.sees_workers()
        return ExplanationShown(
            run=run,
            text=in_private(explanation) if is_private else str(explanation),
            signal=explanation if isinstance(explanation, WaitingForSignal) and "signal" in allowed else None,
            other_id=other_id if other_id and await visit.caller.find(other_id) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadShown:
    """An input or an output."""

    run: Run
    which: Which
    text: str | None
    """As it is copied: in lines."""
    tree: payloads.Node | None
    """None: there is nothing, or it is too large to be drawn."""
    size: int
    open_depth: int


@dataclass(frozen=True)
class RunPayload(RunComponent):
    """The run's input or output, as a tree."""

    _: KW_ONLY
    which: Which = "input"
    max_bytes: int = 65_536
    """Beyond this it is only offered as a download."""
    open_depth: int = 2

    name: ClassVar[str] = "run_io"

    @override
    async def load(self, visit: Visit) -> PayloadShown:
        run = await visit.run(self.run_id)
        stored = run.input_json if self.which == "input" else run.output_json
        is_small = stored is not None and len(stored) <= self.max_bytes
        return PayloadShown(
            run=run,
            which=self.which,
            text=payloads.pretty(stored) if stored is not None and is_small else None,
            tree=_tree(stored) if stored is not None and is_small else None,
            size=len(stored or ""),
            open_depth=self.open_depth,
        )

    @override
    def about(self) -> Mapping[str, str | None]:
        return {**super().about(), "data-dw-which": self.which}


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsShown:
    """When and where a run was executed."""

    run: Run
    waited: float | None
    duration: float | None
    worker: WorkerInfo | None
    """If this visitor may know."""


@dataclass(frozen=True)
class RunFacts(RunComponent):
    """When and where the run was executed, under which labels and keys."""

    name: ClassVar[str] = "run_facts"
    rings: ClassVar[Sequence[RunPart]] = ("status", "step")

    @override
    async def load(self, visit: Visit) -> FactsShown:
        run = await visit.run(self.run_id)
        ready_at = run.created_at if run.due_at is None or run.attempt > 1 else run.due_at
        end = run.completed_at or (None if run.status == "pending" else visit.now)
        workers = await visit.caller.workers() if run.lease_owner is not None else ()
        return FactsShown(
            run=run,
            waited=((run.started_at or visit.now) - max(ready_at, run.created_at)).total_seconds(),
            duration=None
            if run.started_at is None or end is None
            else (end - run.started_at).total_seconds(),
            worker=next((worker for worker in workers if worker.id == run.lease_owner), None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsShown:
    """A run's steps on a time axis."""

    run: Run
    timeline: Timeline
    errors: tuple[Step, ...]


@dataclass(frozen=True)
class StepsWaterfall(RunComponent):
    """The run's steps under each other, each where it stood in time."""

    _: KW_ONLY
    max_rows: int = 200
    unfold: str = ""
    """Of steps that are alike, the kind that is shown one by one: `sync-item-#`; `*`: all are."""
    at: int = 0
    """From which one on."""

    name: ClassVar[str] = "steps_waterfall"
    rings: ClassVar[Sequence[RunPart]] = ("step", "status")

    @override
    async def load(self, visit: Visit) -> StepsShown:
        run = await visit.run(self.run_id)
        try:
            steps = await visit.steps(self.run_id)
        except HTTPException as error:
            if error.status_code != 403:
                raise
            steps = ()
        rows = min(max(self.max_rows, 10), 1000)
        return StepsShown(
            run=run,
            timeline=timeline(run, steps, now=visit.now, max_rows=rows, unfold=self.unfold, at=self.at),
            errors=tuple(step for step in steps if step.error is not None)[-20:],
        )


def _other_run(explanation: Explanation) -> str | None:
    match explanation:
        case WaitingForChild(run_id=run_id):
            return run_id
        case BehindKey(holder_id=holder_id):
            return holder_id
        case _:
            return None


def _tree(text: str) -> payloads.Node | None:
    try:
        return payloads.tree(text)
    except (ValueError, RecursionError):
        return None
