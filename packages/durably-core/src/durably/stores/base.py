"""What the engine asks of a database: a short list of domain verbs.

Each verb is one transaction, takes and gives plain values, and may be repeated with the same
arguments after an error of unknown outcome: the repetition finds its own first success. Every
write of an owner is guarded in the same statement by the run's id, `status = 'running'` and the
lease's generation, and answers whether it was applied. A store raises `StoreError`s for trouble of
its own, never for a refusal.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from durably.filters import RunFilter
from durably.models import (
    Coalesce,
    Link,
    LogEntry,
    Progress,
    Run,
    RunError,
    Step,
    StepKind,
    StepStatus,
    WorkerInfo,
)
from durably.stores.watching import Watched

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


class Store(Watched, Protocol):
    """The verbs. All are coroutines on one event loop; each states its transaction."""

    def watch(self, changed: Callable[[], None], /) -> None:
        """Have `changed` called on the loop soon after another process committed something."""
        ...

    async def open(self) -> None:
        """Connect and check that the database can serve. Repeatable. No transaction."""
        ...

    async def migrate(self) -> None:
        """Bring the schema up to date. Safe beside other starters; repeatable."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of everything. Repeatable."""
        ...

    # Triggering

    async def enqueue(self, runs: Sequence[NewRun], /) -> Enqueued:
        """Store runs, all or none; one transaction.

        Answers in order, each with its disposition: `created`; `idempotent` with the run that holds
        the same job's idempotency key; `coalesced` with the run that waits. A repeated id is its own
        earlier success: `created`.

        Only runs of the same job and key that have never begun are coalesced with: of those in the
        queue the last one, else, of those that wait for the clock, the one that falls due first
        (for `skip` only if it falls due no later than the new run). A run that replaces another
        stands where that one stood, or where its own priority puts it if that is earlier.
        """
        ...

    # An owner's verbs

    async def claim(self, request: ClaimRequest, /) -> Claimed:
        """Promote what has fallen due, then take up to `limit` ready runs by rank; one transaction.

        Reads only, and opens no transaction, when nothing is due and nothing is ready.
        A suspect run is claimed alone (S26). Runs whose lease has run out are taken from their
        owner first; the ones past `max_crashes` are parked as failed, each with its follow-up.
        """
        ...

    async def save_step(self, lease: Lease, step: StepRecord, notes: Notes, /) -> Answer:
        """Write a completed or failed step and the notes; one transaction.

        Its cursor is dropped once it is completed, and by nothing else.
        A completed or failed step is never overwritten; the same record again is `applied`.
        """
        ...

    async def save_attempt(self, lease: Lease, step: StepRecord, notes: Notes, /) -> Answer:
        """Write a failed attempt that is not the last, and the notes; one transaction.

        The step stays `running`, its next attempt due at `wake_at`; the attempt, with its error, goes
        to the step's history. The same record again is `applied`.
        """
        ...

    async def note(self, lease: Lease, notes: Notes, /) -> Answer:
        """Write logs, progress, cursors and started steps; one transaction."""
        ...

    async def finish(self, lease: Lease, outcome: Outcome, notes: Notes, /) -> Answer:
        """End the run and write the notes; frees its key; one transaction.

        Of one that failed the follow-up is stored with it, if it has any.

        A `Reattempt` does not end it: running → pending, due after the delay, its key kept. The steps
        named in the error are dropped as by `retry`, and every step's count of failures begins anew.

        `Continued` does not end it either: running → pending, ready at once, its key and rank kept. The
        input is replaced; steps, attempts and what was counted of crashes and attempts are dropped. Of the
        link that ended a `Link` is kept, of all links the newest `LINKS_KEPT`.
        """
        ...

    async def settle(self, lease: Lease, waits: Sequence[Wait], notes: Notes, /) -> Settled:
        """Begin waits that have not begun, end those whose time has come; one transaction.

        A wait that began before keeps its first deadline; a body that began under its name gives way
        to it. Ending one is a checkpoint. Opens no transaction when there is nothing to begin, to end
        or to note.

        Raises:
            ConflictError: A child asks for a concurrency key that one of its ancestors keeps.
            ValidationError: A run that is to be joined is no child of this one, or of another job. One
                that does not exist is no error here: it may have been deleted.
        """
        ...

    async def ripe_waits(self, run_id: str, /) -> Sequence[str]:
        """Names of the run's waits that may have ended: those that `settle` is worth asking about; a read."""
        ...

    async def suspend(
        self, lease: Lease, waits: Sequence[Wait], notes: Notes, /, *, until: float | None = None
    ) -> Answer:
        """Park the run on these waits, as `settle`: running → waiting; one transaction.

        At `until` it is claimable again, whatever it waits for. A `run` step waits for its next attempt.

        It keeps its key. If one of the waits can end at once, the run is handed back instead.
        """
        ...

    async def release(self, leases: Sequence[Lease], /) -> None:
        """Hand runs back: pending and ready at once, nothing charged; one transaction.

        A lease whose run was cancelled lets go of its key instead. Leases not held any more are
        passed over.
        """
        ...

    async def hold(self, leases: Sequence[Lease], /, *, seconds: float) -> None:
        """Keep runs whose threads outlive their worker's stop for up to `seconds`; one transaction.

        Marks the worker draining: its end is then not a crash of these runs (S25).
        """
        ...

    async def renew(
        self, worker_id: str, leases: Sequence[Lease], /, *, lease_seconds: float
    ) -> Mapping[str, Answer]:
        """The worker's heartbeat: extend the leases; one transaction.

        Answers the refused ones by run id. A worker thought lost that renews again takes back the
        crashes it was charged (S26).
        """
        ...

    def renew_aside(
        self, worker_id: str, leases: Sequence[Lease], /, *, lease_seconds: float
    ) -> "Future[Mapping[str, Answer]]":
        """As `renew`, from any thread, and while the event loop is blocked; never blocks.

        The future is done on a thread of the store's own.
        """
        ...

    async def check(self, leases: Sequence[Lease], /) -> Mapping[str, Answer]:
        """Which of these leases are no longer good, by run id; a read."""
        ...

    async def disown(self, worker_id: str, keep: Sequence[Lease], /) -> None:
        """Hand back every run this worker owns in the store but not in `keep`; one transaction.

        For the claims whose answer never arrived.
        """
        ...

    # A person's verbs. `token` makes the same call repeatable: again with the same token it
    # answers as the first time; with another token it meets the run as it then stands.

    async def cancel(self, run_id: str, /, *, token: str) -> Transition:
        """pending, running or waiting → cancelled; one transaction.

        A running body keeps slot and key until its owner releases or its lease runs out (S24).
        """
        ...

    async def retry(self, run_id: str, /, *, token: str) -> Transition:
        """failed or cancelled → pending, checkpoints kept; one transaction.

        Drops exactly the steps named in the run's error (those with a cursor become `running`, attempt
        0); clears error, crashes, completed_at; takes its turn in its key's queue by its old rank.
        """
        ...

    async def delete(self, run_id: str, /, *, token: str) -> Transition:
        """Remove a terminal run with its steps, logs and labels; one transaction.

        Answers the run as it was.
        """
        ...

    async def purge(self, *, older_than: float, limit: int) -> int:
        """Remove up to `limit` runs that ended more than `older_than` seconds ago; one transaction.

        Answers how many.
        """
        ...

    async def send_signal(self, signal: NewSignal, /) -> Receipt:
        """Store a signal, and end the oldest suspended wait that it fits; one transaction."""
        ...

    async def unfinished_children(self, run_id: str, /, *, limit: int) -> Sequence[str]:
        """Attached children of this run that have not ended; a read."""
        ...

    async def orphans(self, *, limit: int) -> Sequence[str]:
        """Attached, unfinished children of cancelled runs: a cascade was cut off; a read."""
        ...

    async def forget_signals(self, *, older_than: float, limit: int) -> int:
        """Remove up to `limit` signals by key that were sent so many seconds ago; one transaction."""
        ...

    # Workers

    async def add_worker(self, worker: NewWorker, /) -> None:
        """Present a worker and take its presence lock where there is one; one transaction."""
        ...

    async def remove_worker(self, worker_id: str, /) -> None:
        """Take a worker that has handed everything back off the list; one transaction.

        A draining worker stays listed, and its presence lock taken, until its process ends.
        """
        ...

    async def bury_dead(self, *, max_crashes: int) -> Claimed:
        """Take the runs of workers whose presence lock is free; one transaction if there are any.

        Answers `parked` and, if runs were freed, `wake_in=0`. Only workers of this very host and
        boot are judged (S27).
        """
        ...

    async def sweep(self) -> int:
        """Mend what slipped: give every queue without a head one; answers how many. A net."""
        ...

    # Reads

    async def get_run(self, run_id: str, /) -> Run | None:
        """One run."""
        ...

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
        """Newest first by `position`; `before` keeps to smaller positions (keyset paging).

        With `after` the page is made of the smallest positions above it, and is still newest first.
        """
        ...

    async def list_changes(self, *, after: int, limit: int) -> Sequence[Run]:
        """Runs whose `change` is above `after`, in the order of their changes."""
        ...

    async def count_runs(self, filter: RunFilter, /, *, cap: int) -> int:
        """How many match; stops counting at `cap`."""
        ...

    async def list_steps(self, run_id: str, /, *, after: int, results: bool = True) -> Sequence[Step]:
        """The run's steps whose `sequence` is above `after`, in the order of their positions.

        Without `results` what they returned is not read.
        """
        ...

    async def list_logs(self, run_id: str, /, *, after: int, limit: int | None) -> Sequence[LogEntry]:
        """The run's log lines whose `sequence` is above `after`, in order."""
        ...

    async def last_logs(self, run_id: str, /, *, before: int | None, limit: int) -> Sequence[LogEntry]:
        """The last `limit` of the run's log lines, of those whose `sequence` is below `before`; in order."""
        ...

    async def list_links(self, run_id: str, /) -> Sequence[Link]:
        """The newest links of the run's chain that have ended, the oldest of them first."""
        ...

    async def list_workers(self) -> Sequence[WorkerInfo]:
        """Every listed worker, the oldest first."""
        ...
