"""The front door."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload, runtime_checkable

from typing_extensions import Unpack

from durably.bus import Bus
from durably.configuration import DurablyOptions, worker_options
from durably.doorbell import Doorbell
from durably.environment import Environment, RealEnvironment
from durably.errors import ConfigurationError
from durably.following import Surroundings
from durably.handles import JobHandle
from durably.jobs import JobDefinition, JobFunction, JobOptions, Registry, definition_of
from durably.models import Durability, LogEntry, Run, RunStatus, Seconds, Step, WorkerInfo
from durably.neighbours import leave, place_of, settle_at
from durably.options import WorkerOptions, seconds
from durably.runs import OnLog, OnProgress, Runs, run_filter
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from durably.subscriptions import EventSource
from durably.waiters import Waiters
from durably.watching import Watchable
from durably.worker import Worker

In = TypeVar("In")
Out = TypeVar("Out")

DRAIN = 25.0
"""Seconds that `stop` gives runs to end by themselves."""
MOST_COUNTED = 10_000
MOST_LISTED = 100


@runtime_checkable
class Plugin(Protocol):
    """Something that adds itself to an instance, e.g. by `on` and `register`."""

    def install(self, durably: "Durably", /) -> object:
        """Called once, by `Durably.use`."""
        ...


class Durably(EventSource, Watchable):
    """Jobs, their runs, and the worker that executes them, on one database.

    Belongs to one event loop. Use it as a context manager, or call `init` and `close`:

        async with Durably("sqlite:///app.db") as durably: ...

    Args:
        store: `sqlite:///relative.db`, `sqlite:////absolute.db`, `:memory:`, a path, or a `Store`.
        **options: See `DurablyOptions`.

    Raises:
        ConfigurationError: An option cannot be used; says what is allowed.
    """

    def __init__(self, store: "str | PathLike[str] | Store", /, **options: Unpack[DurablyOptions]) -> None:
        self._options: WorkerOptions = worker_options(options)
        self._has_worker = options.get("worker", True)
        self._environment = options.get("environment") or RealEnvironment()
        self._store = _open(store, self._environment, options.get("durability", "disk"))
        self._place = place_of(store, process_id=self._environment.process_id())
        self._bus = Bus(self._environment)
        EventSource.__init__(self, self._bus)
        self._jobs = Registry()
        self._handles: dict[str, JobHandle[Any, Any]] = {}
        self._work = Doorbell()
        self._waiters = Waiters(
            self._store,
            self._bus,
            self._environment,
            polling_interval=self._options.polling_interval,
        )
        self._runs = Runs(
            store=self._store,
            bus=self._bus,
            environment=self._environment,
            jobs=self._jobs,
            work=self._work,
            waiters=self._waiters,
            limits=self._options.limits,
        )
        around = Surroundings(
            store=self._store,
            bus=self._bus,
            environment=self._environment,
            waiters=self._waiters,
            typed=self._runs.typed,
        )
        Watchable.__init__(self, around, lease_seconds=self._options.lease_seconds)
        self._worker: Worker | None = None
        self._store.watch(self._foreign_change)
        for definition in options.get("jobs", ()):
            self.register(definition)

    # Its life

    async def migrate(self) -> None:
        """Bring the database's tables up to date; creates them, and the file, if need be.

        Safe to repeat, and beside other processes that do the same.

        Raises:
            SchemaTooNewError: A newer version of this library was here.
            StoreError: The database cannot serve; the message says why.
        """
        await self._store.open()
        await self._store.migrate()

    async def start(self) -> None:
        """Start the worker. A second call changes nothing, nor does any with `worker=False`.

        Raises:
            SchemaMissingError: `migrate` was never called on this database.
        """
        await self._store.open()
        if self._has_worker:
            await self._the_worker().start()
            settle_at(self._place, self)

    async def init(self) -> None:
        """Migrate and start."""
        await self.migrate()
        await self.start()

    async def stop(self, *, drain: Seconds = DRAIN) -> None:
        """Stop the worker: claim nothing more, let runs end, hand the unfinished ones back.

        Bounded: `drain`, then a few seconds for jobs to unwind. What was handed back resumes on
        another worker at once, or on the next `start`. Triggering and looking go on working.

        Args:
            drain: How long runs may go on to end by themselves.
        """
        leave(self._place, self)
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(drain=0.0 if not drain else seconds(drain, "drain"))

    async def close(self) -> None:
        """Stop, and let go of the database. Repeatable; everyone who still waits is let go."""
        await self.stop()
        await self._waiters.close()
        await self._bus.close()
        await self._store.close()

    async def __aenter__(self) -> Self:
        await self.init()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Jobs

    def register(self, definition: JobDefinition[In, Out], /) -> JobHandle[In, Out]:
        """Know this job; the same definition twice gives the same handle.

        Raises:
            JobAlreadyRegisteredError: Another definition has its name.
        """
        self._jobs.add(definition)
        known = self._handles.get(definition.name)
        if known is not None:
            return known
        handle = JobHandle(definition, self._runs)
        self._handles[definition.name] = handle
        self._work.ring()
        return handle

    @overload
    def job(self, function: JobFunction[In, Out], /) -> JobHandle[In, Out]: ...
    @overload
    def job(
        self, function: None = None, /, **options: Unpack[JobOptions]
    ) -> Callable[[JobFunction[In, Out]], JobHandle[In, Out]]: ...
    def job(
        self, function: JobFunction[In, Out] | None = None, /, **options: Unpack[JobOptions]
    ) -> "JobHandle[In, Out] | Callable[[JobFunction[In, Out]], JobHandle[In, Out]]":
        """Make an async function a job of this instance: `@durably.job`, `@durably.job(name=…)`.

        The name comes from the function (`import_csv` becomes `import-csv`), the types from its
        annotations. Options: see `JobOptions`.

        Raises:
            ConfigurationError: The function is not `async def f(step, input: In) -> Out`, or an option
                cannot be used.
        """
        if function is None:
            return lambda function: self.register(definition_of(function, **options))
        return self.register(definition_of(function, **options))

    def get_job(self, name: str, /) -> JobHandle[Any, Any] | None:
        """The handle of a registered job."""
        return self._handles.get(name)

    def use(self, plugin: "Plugin | Callable[[Durably], object]", /) -> None:
        """Let a plugin add itself to this instance, at once.

        Args:
            plugin: An object with `install(durably)`, or a function of the instance.

        Raises:
            ConfigurationError: It is neither.
        """
        install = plugin.install if isinstance(plugin, Plugin) else plugin
        if not callable(install):
            raise ConfigurationError(
                f"a plugin is a function of the instance or has install(durably); {plugin!r} is neither"
            )
        install(self)

    # Runs

    async def get_run(self, run_id: str, /) -> Run | None:
        """The run as it stands, or None."""
        return await self._runs.get(run_id)

    async def get_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: int | None = None,
    ) -> list[Run]:
        """Runs that match all of it, newest first.

        Served by an index: no filter, one status, one job, one label. Others are scans that end at
        `limit`.

        Args:
            status: One or several; None and empty mean any.
            job_name: One or several; None and empty mean any.
            labels: All of them must match.
            limit: At most this many. Default None: all.
            offset: Pass over so many first.
            before: Only runs with a smaller `position`: the last one of the page before.

        Raises:
            ValidationError: A filter cannot be used.
        """
        return await self._runs.list(
            run_filter(status, job_name, labels), limit=limit, offset=offset, before=before
        )

    async def get_changes(self, *, after: int, limit: int = MOST_LISTED) -> list[Run]:
        """Runs that changed since a cursor, in the order of their changes.

        Args:
            after: The `change` of the last run that was seen; 0 for all there are.
            limit: At most this many.
        """
        runs = await self._store.list_changes(after=after, limit=limit)
        return [self._runs.typed(run) for run in runs]

    async def count_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        cap: int = MOST_COUNTED,
    ) -> int:
        """How many runs match; counting stops at `cap`, so that it costs no more than that."""
        return await self._store.count_runs(run_filter(status, job_name, labels), cap=cap)

    async def get_steps(self, run_id: str, /, *, after: int = 0) -> Sequence[Step]:
        """The run's steps in the order in which they first started.

        Args:
            run_id: The run.
            after: Only those that changed after this `sequence`.
        """
        return await self._store.list_steps(run_id, after=after)

    async def get_logs(
        self, run_id: str, /, *, after: int = 0, limit: int | None = None
    ) -> Sequence[LogEntry]:
        """The run's log in order.

        Args:
            run_id: The run.
            after: Only lines after this `sequence`.
            limit: At most this many.
        """
        return await self._store.list_logs(run_id, after=after, limit=limit)

    async def get_workers(self) -> Sequence[WorkerInfo]:
        """Every worker on this database that has not said goodbye, the oldest first."""
        return await self._store.list_workers()

    async def wait_for_run(
        self,
        run_id: str,
        /,
        *,
        timeout: Seconds | None = None,
        polling_interval: Seconds | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ) -> Run:
        """Wait for a run's end, in whatever process it is executed; answers it completed.

        The callbacks are live: they hear what happens while this waits and the run executes in this
        process, nothing from before; plain ones have returned before this does. One that raises
        harms nobody and is reported as an event handler is.

        Args:
            run_id: The run.
            timeout: How long to wait; the run goes on all the same. None waits for ever.
            polling_interval: How often to ask the store about runs of other processes, should no
                news of them come; default: the instance's.
            on_progress: Called with each progress that the job tells.
            on_log: Called with each log line that the job writes.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            RunFailedError, RunCancelledError: It ended so.
            WaitTimeoutError: It did not end in time; it goes on.
            ValidationError: `timeout` or `polling_interval` is no positive duration.
        """
        return await self._runs.wait(
            run_id,
            timeout=timeout,
            polling_interval=polling_interval,
            on_progress=on_progress,
            on_log=on_log,
        )

    async def cancel(self, run_id: str, /) -> Run:
        """End a run that has not ended. Once this returns it is cancelled for good.

        A step that is executing elsewhere learns of it at the next wake-up or heartbeat; nothing
        it does is stored any more.

        Raises:
            RunNotFoundError: There is no such run.
            ConflictError: It has ended already.
        """
        return await self._runs.cancel(run_id)

    async def retry(self, run_id: str, /) -> Run:
        """Send a failed or cancelled run back to work: the same run, its checkpoints kept.

        Of the steps exactly those whose failure ended the run are executed again.

        Raises:
            RunNotFoundError: There is no such run.
            ConflictError: It is neither failed nor cancelled.
        """
        return await self._runs.retry(run_id)

    async def retrigger(self, run_id: str, /) -> Run:
        """Start over: a new run with the input, labels, key and priority of one that has ended.

        Raises:
            RunNotFoundError: There is no such run.
            JobNotFoundError: Its job is not registered here.
            ConflictError: It has not ended.
            ValidationError: Its input no longer fits the job.
        """
        return await self._runs.retrigger(run_id)

    async def cancel_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> int:
        """Cancel every run that matches and has not ended, in batches; answers how many."""
        return await self._runs.cancel_many(run_filter(status, job_name, labels))

    async def retry_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = "failed",
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> int:
        """Retry every run that matches and failed (or was cancelled), in batches; answers how many.

        Cancelled runs are retried only where `status` names them.
        """
        return await self._runs.retry_many(run_filter(status, job_name, labels))

    async def signal(
        self,
        name: str,
        payload: object = None,
        /,
        *,
        run_id: str | None = None,
        key: str | None = None,
    ) -> None:
        """Send a signal to a run, or to whichever run waits for one with this key.

        Once this returns it is stored, and will be delivered once to a `wait_for_signal` of this
        name: now, or when the run comes to it. A signal by key that nobody takes is kept for a week.

        Args:
            name: The name that is waited for.
            payload: What the wait answers: JSON values, or anything pydantic can store.
            run_id: The run it is for.
            key: Or the key that its wait names.

        Raises:
            ValidationError: Not exactly one of `run_id` and `key`, or the payload cannot be stored.
            RunNotFoundError: There is no such run.
            ConflictError: The run has ended.
        """
        await self._runs.signal(name, payload, run_id=run_id, key=key)

    async def delete_run(self, run_id: str, /) -> None:
        """Remove a run that has ended, with its steps, logs and labels.

        Raises:
            RunNotFoundError: There is no such run.
            ConflictError: It has not ended.
        """
        await self._runs.delete(run_id)

    async def purge_runs(self, *, older_than: Seconds, limit: int = 500) -> int:
        """Remove up to `limit` runs that ended longer ago than `older_than`; answers how many."""
        return await self._runs.purge(older_than=older_than, limit=limit)

    # Without a worker in the background

    async def process_one(self) -> bool:
        """Execute one run to its end, if one is ready; answers whether there was one."""
        return await self._the_worker().process_one()

    async def process_until_idle(self, *, max_runs: int | None = None) -> int:
        """Execute runs one after another until none is ready; answers how many.

        Args:
            max_runs: Stop after this many.
        """
        done = 0
        while (max_runs is None or done < max_runs) and await self.process_one():
            done += 1
        return done

    def _the_worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(
                store=self._store,
                bus=self._bus,
                environment=self._environment,
                jobs=self._jobs,
                work=self._work,
                options=self._options,
            )
        return self._worker

    def _foreign_change(self) -> None:
        self._waiters.look()
        if self._worker is not None:
            self._worker.foreign_change()


def create_durably(store: "str | PathLike[str] | Store", /, **options: Unpack[DurablyOptions]) -> Durably:
    """Make a `Durably`; the same as calling it."""
    return Durably(store, **options)


def _open(store: "str | PathLike[str] | Store", environment: Environment, durability: Durability) -> Store:
    if not isinstance(store, str | PathLike):
        return store
    place = fspath(store)
    scheme, separator, rest = place.partition("://")
    if not separator or place == ":memory:":
        return SqliteStore(place, environment=environment, durability=durability)
    if scheme == "sqlite" and rest.startswith("/"):
        return SqliteStore(rest[1:] or ":memory:", environment=environment, durability=durability)
    if scheme == "sqlite" and not rest:
        return SqliteStore(":memory:", environment=environment, durability=durability)
    raise ConfigurationError(
        f"cannot open {scheme}://…; use sqlite:///relative/path.db, sqlite:////absolute/path.db, or :memory:"
    )
