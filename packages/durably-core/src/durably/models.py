"""The values everything else is made of: runs, steps, logs, workers.

All of them are frozen. Payloads (input, output, results, errors) stay out of `repr`,
because a repr ends up in logs and payloads are private.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Generic, Literal, TypeAlias

from pydantic import JsonValue, TypeAdapter
from typing_extensions import TypeVar

RunStatus: TypeAlias = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]
StepKind: TypeAlias = Literal["run", "map", "sleep", "signal", "child", "spawn"]
"""A body that is executed, the list of a map's keys, or what a run waits for."""
StepStatus: TypeAlias = Literal["running", "completed", "failed", "cancelled"]
Disposition: TypeAlias = Literal["created", "idempotent", "coalesced"]
Coalesce: TypeAlias = Literal["skip", "replace", "reject"]
LogLevel: TypeAlias = Literal["info", "warning", "error"]
WorkerState: TypeAlias = Literal["active", "draining", "lost"]
SearchBy: TypeAlias = Literal["id", "error"]
"""What of a run is searched: its id, or the error it failed with."""
Durability: TypeAlias = Literal["disk", "process"]

Seconds: TypeAlias = float | timedelta
"""A duration: seconds as a number, or a timedelta."""

TERMINAL_STATUSES: frozenset[RunStatus] = frozenset({"completed", "failed", "cancelled"})

InputT = TypeVar("InputT", covariant=True, default=object)
OutputT = TypeVar("OutputT", covariant=True, default=object)
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come, as its job last said with `step.progress`."""

    current: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """Why a run or a step failed, as text: exceptions are never rebuilt from storage."""

    type: str
    """The exception's class name, qualified by its module unless it is a builtin."""
    message: str = field(repr=False)
    traceback: str | None = field(default=None, repr=False)
    """The traceback's text, without local variables."""
    steps: tuple[str, ...] = ()
    """The steps whose failure ended the run, parallel ones included; `retry` clears exactly these."""


@dataclass(frozen=True, slots=True)
class ConcurrencyKey:
    """A concurrency key with a scope.

    Of the runs that share a key at most one executes at a time, in order. A key belongs to its
    job, unless `shared` lets it span every job that uses the same name.
    """

    name: str
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[InputT, OutputT]):
    """One execution of a job: a snapshot of its row at the moment it was read."""

    id: str
    job_name: str
    status: RunStatus
    labels: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    """When its state or progress last changed; a checkpoint alone does not move it."""
    position: int
    """The run's place in the order of creation; a cursor for `get_runs(before=…)`."""
    change: int
    """Rises with each change of any run in the store; a cursor for `get_changes(after=…)`."""
    input_json: str = field(repr=False)
    output_json: str | None = field(default=None, repr=False)
    error: RunError | None = None
    """Why it failed; of a run that goes on: why the last attempt at its job did."""
    progress: Progress | None = None
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    is_key_shared: bool = False
    """Whether the concurrency key spans jobs."""
    priority: int = 0
    due_at: datetime | None = None
    """The instant before which it does not start: its `run_at`, creation plus `delay`, or the one of
    the job's next attempt."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    """When it became completed, failed or cancelled."""
    completed_step_count: int = 0
    """Of the present link."""
    link: int = 1
    """Which link of its chain it is in: `step.continue_as_new` ends one and begins the next."""
    attempt: int = 1
    """Which attempt at the job this is, or was, since it was triggered or last retried by a person;
    counted anew in each link."""
    timed_from: datetime | None = None
    """The instant from which the job's timeout counts: the first start, or the first after a retry,
    of the present link."""
    crashes: int = 0
    """Worker deaths in a row without a new checkpoint, or a new cursor of a step."""
    lease_owner: str | None = None
    lease_expires_at: datetime | None = None
    lease_generation: int = 0
    """The fencing token: raised at every claim, over the run's whole life."""
    parent_id: str | None = None
    """The run whose job invoked or spawned this one, or whose failure this one follows."""
    is_detached: bool = False
    """Whether it goes on when its parent is cancelled."""
    on_failure: tuple[str, ...] = ()
    """The jobs that follow its failure: a run of the first follows it, of the next that run's failure."""
    disposition: Disposition | None = None
    """What `trigger` did to get this run; None on a run that was merely read."""
    _read_input: Callable[[str], InputT] = field(default=json.loads, repr=False, compare=False)
    _read_output: Callable[[str], OutputT] = field(default=json.loads, repr=False, compare=False)

    @property
    def input(self) -> InputT:
        """The input of the present link, validated by the job's input type where the job is known.

        Raises:
            StoredValueError: The stored input does not fit the job's present type.
        """
        return self._read_input(self.input_json)

    @property
    def output(self) -> OutputT | None:
        """The output, validated by the job's output type where the job is known.

        None until the run is completed.

        Raises:
            StoredValueError: The stored output does not fit the job's present type.
        """
        return None if self.output_json is None else self._read_output(self.output_json)

    def output_as(self, type_: type[T]) -> T:
        """Validate the stored output as `type_`, whatever the job says it is.

        Raises:
            pydantic.ValidationError: It does not fit, or there is no output yet.
        """
        return TypeAdapter(type_).validate_json(self.output_json or "null", by_alias=False, by_name=True)

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended: completed, failed or cancelled."""
        return self.status in TERMINAL_STATUSES

    def typed(self, read_input: Callable[[str], In], read_output: Callable[[str], Out]) -> "Run[In, Out]":
        """The same run, its payloads read by these functions."""
        values = dict(zip(_FIELDS, _values_of(self), strict=True))
        values |= {"_read_input": read_input, "_read_output": read_output}
        # Not `Run[In, Out](…)`: a frozen class with slots refuses the attribute that would set.
        run: Run[In, Out] = Run(**values)
        return run


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """The input of a job that is another one's `on_failure`: a run that failed, as it was then."""

    run_id: str
    job_name: str
    input: JsonValue = field(repr=False)
    """As it is stored, e.g. a dict for a model: `Order.model_validate(failed.input)`."""
    labels: Mapping[str, str]
    error: RunError
    failed_at: datetime


# Looked up once: every run that a caller gets is made twice, as stored and as typed.
_FIELDS = tuple(item.name for item in fields(Run))
_values_of: Callable[[Run], tuple[Any, ...]] = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsFound:
    """What a search found, and how far it came."""

    runs: tuple[Run, ...]
    """The newest first."""
    looked_at: int
    """How many runs were searched."""
    cursor: str | None
    """Where to go on; None: no older run is left to be searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Generic[OutputT]):
    """What `trigger_and_wait` answers: a run that completed, and its output."""

    id: str
    output: OutputT
    disposition: Disposition


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAttempt:
    """An attempt at a step that failed."""

    number: int
    """From 1; begins anew after a retry of the run."""
    started_at: datetime
    ended_at: datetime
    error: RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One named step of a run, as stored."""

    name: str
    status: StepStatus
    """`running` is shown, never relied upon: a crash may leave it behind."""
    position: int
    """Its place in the order in which the run's steps first started."""
    attempt: int
    """From 1; 0 once the run was sent back, until its next one: it will go on from its cursor."""
    sequence: int
    """The per-run sequence number of its latest change (shared with the run's logs)."""
    started_at: datetime
    completed_at: datetime | None = None
    result_json: str | None = field(default=None, repr=False)
    error: RunError | None = None
    kind: StepKind = "run"
    wake_at: datetime | None = None
    """The instant at which a wait ends by itself, or the next attempt is due; None: never."""
    signal_key: str | None = None
    child_id: str | None = None
    """The run that is waited for, or was spawned."""
    attempts: tuple[StepAttempt, ...] = ()
    """The attempts that failed, the oldest first, those before a retry of the run included."""
    cursor_json: str | None = field(default=None, repr=False)

    @property
    def cursor(self) -> object:
        """How far its body had come, as `step.save_cursor` last said, as plain JSON values.

        None once the step has completed. A change of it alone is not told to subscriptions.
        """
        return None if self.cursor_json is None else json.loads(self.cursor_json)

    @property
    def result(self) -> object:
        """The stored result as plain JSON values; None unless completed, and kept (`keep_results`)."""
        return None if self.result_json is None else json.loads(self.result_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link of a run's chain that has ended with `step.continue_as_new`."""

    number: int
    """From 1."""
    started_at: datetime
    """When the run first started, or when the link before this one ended."""
    ended_at: datetime
    input_json: str = field(repr=False)

    @property
    def input(self) -> object:
        """What the job was called with, as plain JSON values."""
        value: object = json.loads(self.input_json)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line that a job wrote with `step.log`."""

    sequence: int
    """Its number in the run, given by the run's owner; rises, may skip."""
    level: LogLevel
    message: str = field(repr=False)
    fields: Mapping[str, object] = field(repr=False)
    step_name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker as its row in the store shows it."""

    id: str
    host: str
    pid: int
    state: WorkerState
    slots: int
    running: int
    """Runs it holds a lease on now."""
    jobs: tuple[str, ...]
    started_at: datetime
    heartbeat_at: datetime
