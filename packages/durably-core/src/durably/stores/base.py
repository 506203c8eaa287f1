"""What the engine asks of a database: a short list of domain verbs.

Each verb is one transaction, takes and gives plain values, and may be repeated with the same
arguments after an error of unknown outcome: the repetition finds its own first success. Every
write of an owner is guarded in the same statement by the run's id, `status = 'running'` and the
lease's generation, and answers whether it was applied. A store raises `StoreError`s for trouble of
its own, never for a refusal.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from durably.filters import RunFilter
from durably.models import Link, LogEntry, Run, RunsFound, RunStatus, SearchBy, Step, WorkerInfo
from durably.statistics import Count
from durably.stores.values import (
    Answer,
    Claimed,
    ClaimRequest,
    Enqueued,
    Lease,
    NewRun,
    NewSignal,
    NewWorker,
    Notes,
    Outcome,
    Receipt,
    Settled,
    StepRecord,
    Transition,
    Wait,
)
from durably.stores.watching import Watched


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

    async def count_by_status(self, filter: RunFilter, /, *, cap: int) -> Mapping[RunStatus, Count]:
        """How many match in each status; looks at no more than `cap` runs, or at so many in each."""
        ...

    async def search_runs(
        self,
        filter: RunFilter,
        text: str,
        /,
        *,
        by: SearchBy,
        limit: int,
        among: int,
        cursor: str | None = None,
    ) -> RunsFound:
        """Those of the newest runs that match whose id, or error, holds the text in any case; newest first.

        Looks at `among` runs: by id at the newest of the store, by error at the newest failed ones that
        match. At most `limit` are found; with the `cursor` of an answer it goes on behind that.
        """
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
