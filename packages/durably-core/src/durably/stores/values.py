"""What goes to a store and comes from it: plain values, frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from durably.models import (
    Coalesce,
    LogEntry,
    Progress,
    Run,
    RunError,
    StepKind,
    StepStatus,
)

Receipt: TypeAlias = Literal["sent", "missing", "ended"]
"""What became of a signal: stored, or refused because its run does not exist or has ended."""

LINKS_KEPT = 100
"""Ended links of a run's chain that are kept, each with its input."""

Answer: TypeAlias = Literal["applied", "cancelled", "lost"]
"""`cancelled`: a person ended the run. `lost`: another owner has it, or nobody, or it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be stored; its id is made by the caller, so that storing it is repeatable."""

    id: str
    job_name: str
    input_json: str = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    key_scope: str | None = None
    """Whose key it is: the job's name, or `*` for a key shared by all jobs."""
    coalesce: Coalesce | None = None
    """What to do about a run of the same job and key that waits for its first start; None: queue."""
    priority: int = 0
    delay: float | None = None
    """Seconds from the store's present until it falls due."""
    run_at: float | None = None
    """The instant it falls due, in seconds since the epoch; at most one of the two is given."""
    parent_id: str | None = None
    is_detached: bool = False
    on_failure: tuple[str, ...] = ()
    """The jobs that follow a failure, one after the other; see `durably.stores.follow_ups`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """The answer to new runs."""

    runs: Sequence[Run] = ()
    """As they stand now, in order, each with its disposition; none if the call was refused."""
    replaced: Sequence[Run] = ()
    """Runs that this call cancelled because newer ones took their places."""
    conflict: Run | None = None
    """The waiting run for whose sake the call was refused and nothing stored."""


@dataclass(frozen=True, slots=True)
class Lease:
    """An owner's right to a run: every write carries it."""

    run_id: str
    generation: int
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step as its owner writes it, and as a claim hands it to the next owner.

    Times are seconds since the epoch by the owner's clock.
    """

    name: str
    status: StepStatus
    position: int
    attempt: int
    sequence: int
    started_at: float
    completed_at: float | None = None
    result_json: str | None = field(default=None, repr=False)
    error: RunError | None = None
    kind: StepKind = "run"
    wake_at: float | None = None
    signal_key: str | None = None
    child_id: str | None = None
    failures: int = 0
    """Attempts that failed since it first started, or since the run was last sent back."""
    cursor_json: str | None = field(default=None, repr=False)
    """How far its body had come, as that last said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a run wants to wait for: a step that is `running` until then."""

    step: StepRecord
    child: NewRun | None = None
    """The run to be stored with it, where it waits for a child; its id makes that repeatable."""
    joins: str | None = None
    """Or the job of the child that it waits for, which is there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Waits as they stand after a look."""

    answer: Answer
    steps: Sequence[StepRecord] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignal:
    """A signal to be stored; its id is made by the caller, so that sending it is repeatable."""

    id: str
    name: str
    payload_json: str = field(repr=False)
    run_id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What an owner tells beside its checkpoints; it rides along with them or with a timer."""

    logs: Sequence[LogEntry] = ()
    progress: Progress | None = None
    started: Sequence[StepRecord] = ()
    cursors: Sequence[StepRecord] = ()
    """Steps that have not completed, with new cursors. One that its store does not know yet begins so."""

    def __bool__(self) -> bool:
        return bool(self.logs or self.progress or self.started or self.cursors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The job returned."""

    output_json: str = field(repr=False)
    keep_results: bool = True
    """Whether the results of its steps are kept; the steps themselves are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job raised."""

    error: RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reattempt:
    """The job raised, and is to be tried again."""

    error: RunError
    attempt: int
    """The one that failed."""
    delay: float
    """Seconds from the store's present until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """The job goes on with its next link."""

    input_json: str = field(repr=False)
    """What the job is called with there."""
    link: int
    """The one that ends."""


Outcome: TypeAlias = Completed | Failed | Reattempt | Continued


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A worker's wish for work."""

    worker_id: str
    jobs: Sequence[str]
    """The names it knows; runs of other jobs are left alone."""
    limit: int
    lease_seconds: float
    max_crashes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that is now ours, with everything needed to go on."""

    run: Run
    lease: Lease
    steps: Sequence[StepRecord]
    """All its steps in the order of their positions, `running` ones of dead owners included."""
    last_sequence: int
    """The highest sequence number that any step or log line of the run carries; 0 at first."""
    suspect: bool
    """It was running at two or more worker deaths since its last new checkpoint (S26)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The answer to a claim."""

    claims: Sequence[Claim] = ()
    parked: Sequence[Run] = ()
    """Runs that this call failed because they kept killing their workers."""
    wake_in: float | None = None
    """Seconds until the next run of any job falls due; 0 if more is due now; None: none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The answer to a person's verb."""

    applied: bool
    run: Run | None
    """The run as it stands now; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorker:
    """A worker that presents itself."""

    id: str
    host: str
    """Machine and boot; presence is trusted only between workers whose hosts are equal."""
    pid: int
    slots: int
    jobs: Sequence[str]
