"""What the engine tells while it works, as typed frozen values.

An event about a stored state is published after the commit that made it so. `sequence` counts the
events of this process; `created_at` is the moment of publication.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Literal, TypeAlias, TypedDict, TypeGuard

from durably.models import LogLevel, Progress, Run, RunError

EventType: TypeAlias = Literal[
    "run:trigger",
    "run:coalesced",
    "run:start",
    "run:progress",
    "run:complete",
    "run:fail",
    "run:cancel",
    "run:retry",
    "run:reattempt",
    "run:continue",
    "run:wait",
    "run:release",
    "run:delete",
    "step:start",
    "step:replay",
    "step:complete",
    "step:fail",
    "step:cancel",
    "step:retry",
    "log:write",
    "worker:error",
]

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have."""

    type: ClassVar[EventType]
    sequence: int = 0
    created_at: datetime = _EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(Event):
    """An event about one run."""

    run_id: str
    job_name: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Subject(TypedDict):
    """The run that an event is about, as its fields."""

    run_id: str
    job_name: str
    labels: Mapping[str, str]


def subject(run: Run) -> Subject:
    """What every event about this run says of it."""
    return {"run_id": run.id, "job_name": run.job_name, "labels": run.labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTriggered(RunEvent):
    """A run was created."""

    type: ClassVar[Literal["run:trigger"]] = "run:trigger"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCoalesced(RunEvent):
    """A trigger with `coalesce="skip"` was answered by a run that waited already: this one."""

    type: ClassVar[Literal["run:coalesced"]] = "run:coalesced"
    skipped_input: object = field(repr=False)
    """What the trigger brought, and what is executed nowhere."""
    skipped_labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(RunEvent):
    """A worker of this process claimed the run and begins or resumes it."""

    type: ClassVar[Literal["run:start"]] = "run:start"
    generation: int
    resumed: bool
    """Whether an earlier execution left checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgressed(RunEvent):
    """The job said how far it has come."""

    type: ClassVar[Literal["run:progress"]] = "run:progress"
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(RunEvent):
    """The job returned."""

    type: ClassVar[Literal["run:complete"]] = "run:complete"
    output: object = field(repr=False)
    duration: float
    """Seconds of this execution, not of earlier ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(RunEvent):
    """The job raised, or the run was parked because it kept killing its workers."""

    type: ClassVar[Literal["run:fail"]] = "run:fail"
    error: RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(RunEvent):
    """A person cancelled the run, or a newer run of its key replaced it (`coalesce="replace"`)."""

    type: ClassVar[Literal["run:cancel"]] = "run:cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetried(RunEvent):
    """A person sent the run back to work, its checkpoints kept."""

    type: ClassVar[Literal["run:retry"]] = "run:retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReattempted(RunEvent):
    """The job raised, and begins again after a delay, because it has `retry`; its checkpoints are kept."""

    type: ClassVar[Literal["run:reattempt"]] = "run:reattempt"
    attempt: int
    """Which attempt at the job failed, from 1."""
    error: RunError
    delay: float
    """Seconds until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinued(RunEvent):
    """The job called `step.continue_as_new`: the run goes on with its next link, without checkpoints."""

    type: ClassVar[Literal["run:continue"]] = "run:continue"
    link: int
    """The one that begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWaiting(RunEvent):
    """The run needs no worker until something happens: an instant, a signal, the end of a child."""

    type: ClassVar[Literal["run:wait"]] = "run:wait"
    steps: tuple[str, ...]
    """The waits it is parked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReleased(RunEvent):
    """The worker handed the unfinished run back, because it is being stopped."""

    type: ClassVar[Literal["run:release"]] = "run:release"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeleted(RunEvent):
    """The run and all it had are gone."""

    type: ClassVar[Literal["run:delete"]] = "run:delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(RunEvent):
    """An event about one step."""

    step_name: str
    attempt: int


class StepSubject(Subject):
    """The step that an event is about, as its fields."""

    step_name: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(StepEvent):
    """A step's body is about to be called; replayed steps do not start."""

    type: ClassVar[Literal["step:start"]] = "step:start"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReplayed(StepEvent):
    """The job came to a step or wait that has ended already, and is answered from its checkpoint."""

    type: ClassVar[Literal["step:replay"]] = "step:replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted(StepEvent):
    """The step's checkpoint is committed."""

    type: ClassVar[Literal["step:complete"]] = "step:complete"
    output: object = field(repr=False)
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailedEvent(StepEvent):
    """The step's failure is committed."""

    type: ClassVar[Literal["step:fail"]] = "step:fail"
    error: RunError
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRetried(StepEvent):
    """An attempt at the step failed; that is committed, and the next one comes after a delay."""

    type: ClassVar[Literal["step:retry"]] = "step:retry"
    error: RunError
    delay: float
    """Seconds until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCancelled(StepEvent):
    """The step's body was cut off; nothing was stored."""

    type: ClassVar[Literal["step:cancel"]] = "step:cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWritten(RunEvent):
    """A log line of the job is committed."""

    type: ClassVar[Literal["log:write"]] = "log:write"
    level: LogLevel
    message: str = field(repr=False)
    fields: Mapping[str, object] = field(repr=False)
    step_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerError(Event):
    """The worker met trouble that is no job's fault, and goes on."""

    type: ClassVar[Literal["worker:error"]] = "worker:error"
    context: str
    """What it was doing, e.g. `claim`, `heartbeat`, `checkpoint`."""
    error: BaseException
    run_id: str | None = None


DomainEvent: TypeAlias = (
    RunTriggered | RunCoalesced | RunCompleted | RunFailed | RunCancelled | RunRetried | RunDeleted
)
"""What happened to the work itself; the others tell how the engine goes about it."""


def is_domain_event(event: Event) -> TypeGuard[DomainEvent]:
    """Whether the event tells of a run's fate rather than of the engine's work on it."""
    return isinstance(event, DomainEvent)
