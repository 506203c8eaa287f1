"""The front door."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from os import PathLike, fspath
from types import MappingProxyType, TracebackType
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
from durably.models import Durability, Seconds
from durably.neighbours import leave, place_of, settle_at
from durably.options import WorkerOptions, seconds
from durably.resources import Resources
from durably.runs import Runs
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from durably.subscriptions import EventSource
from durably.verbs import RunVerbs
from durably.waiters import Waiters
from durably.watching import Watchable
from durably.worker import Worker

In = TypeVar("In")
Out = TypeVar("Out")
Factory = TypeVar("Factory", bound=Callable[..., object])

DRAIN = 25.0
"""Seconds that `stop` gives runs to end by themselves."""


@runtime_checkable
class Plugin(Protocol):
    """Something that adds itself to an instance, e.g. by `on` and `register`."""

    def install(self, durably: "Durably", /) -> object:
        """Called once, by `Durably.use`."""
        ...


class Durably(EventSource, RunVerbs, Watchable):
    """Jobs, their runs, and the worker that executes them, on one database.

    Belongs to one event loop until it is closed; it may be opened again, also in another one. Use it as a
    context manager, or call `init` and `close`:

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
        self._resources = Resources(self._bus, self._environment)
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
        RunVerbs.__init__(self, self._runs, self._store)
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
        for factory in options.get("resources", ()):
            self.resource(factory)
        for definition in options.get("jobs", ()):
            self.register(definition)

    @property
    def environment(self) -> Environment:
        """The clock, ids and tasks that it works with: for plugins that must keep to the same."""
        return self._environment

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
        """Open the resources and start the worker. A second call changes nothing.

        With `worker=False` neither is done.

        Raises:
            SchemaMissingError: `migrate` was never called on this database.
            ConfigurationError: A job needs a resource that nothing gives.
            ResourceError: A resource could not be opened. No worker is started, and nothing is left open.
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

        Then the resources are closed. Bounded: `drain`, a few seconds for jobs to unwind, and five for
        each resource. What was handed back resumes on another worker at once, or on the next `start`.
        Triggering and looking go on working.

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
        try:
            await self.init()
        except BaseException:
            await self.close()
            raise
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
        """Know this job, and its `on_failure`; the same definition twice gives the same handle.

        Raises:
            JobAlreadyRegisteredError: Another definition has its name.
            ConfigurationError: The worker works already, and no resource gives what the job needs.
        """
        if definition.on_failure is not None:
            self.register(definition.on_failure)
        self._resources.check(definition)
        self._jobs.add(definition)
        known = self._handles.get(definition.name)
        if known is not None:
            return known
        handle = JobHandle(definition, self._runs, self._resources)
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

    @property
    def jobs(self) -> Mapping[str, JobHandle[Any, Any]]:
        """The handles of all registered jobs, by name, in the order in which they were registered."""
        return MappingProxyType(self._handles)

    def get_job(self, name: str, /) -> JobHandle[Any, Any] | None:
        """The handle of a registered job."""
        return self._handles.get(name)

    def resource(self, factory: Factory, /) -> Factory:
        """Know how to open something that jobs share: a database pool, an HTTP client. Also a decorator.

        `async def pool() -> AsyncIterator[Pool]` with one `yield` is opened when the worker starts and
        closed when it stops; what a function annotated with `-> Pool` returns is not closed. Jobs get it
        as a further parameter of that very type, and so do factories that are registered later.

        Args:
            factory: Answered as it is; the same one again changes nothing.

        Raises:
            ConfigurationError: Its annotations do not say what it gives, another factory gives the same
                type, or the worker works already.
        """
        self._resources.add(factory)
        return factory

    def override(self, type_: object, value: object, /) -> AbstractContextManager[None]:
        """Let a value stand in for a resource: `with durably.override(Pool, FakePool()): …`, for tests.

        What a worker opens meanwhile it keeps until it is stopped. The resource's own factory is not
        called, and the value is not closed. Overrides of one type may be nested.

        Args:
            type_: The type by which jobs ask for it. No factory for it need be registered.
            value: What they get; that it can stand for that type is not checked.

        Raises:
            ConfigurationError: The worker works already.
        """
        return self._resources.override(type_, value)

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

    # Without a worker in the background

    async def process_one(self) -> bool:
        """Execute one run to its end, if one is ready; answers whether there was one.

        The first call opens the resources; `stop` and `close` close them.

        Raises:
            ConfigurationError, ResourceError: As `start`.
        """
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
                resources=self._resources,
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
