"""What jobs share while a worker works: opened with it, handed to jobs by type, closed when it stops."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import cast, get_args

from durably.bus import Bus
from durably.codec.difference import type_name
from durably.environment import Environment
from durably.errors import ConfigurationError, NotRunningError, ResourceError
from durably.events import WorkerError
from durably.jobs import AnyJob
from durably.needs import hints_of, missing_from, needs_of

CLOSING = 5.0
"""Seconds that each resource is given to close at a stop."""


class Resource:
    """A factory, and what its annotations say.

    Raises:
        ConfigurationError: The factory has no name, or its annotations do not say what it gives.
    """

    def __init__(self, factory: Callable[..., object]) -> None:
        name: object = getattr(factory, "__name__", None)
        if not isinstance(name, str) or inspect.isgeneratorfunction(inspect.unwrap(factory)):
            raise ConfigurationError(
                f"{factory!r} makes no resource; write async def f() -> AsyncIterator[T] with one yield, "
                "or a function that returns a T"
            )
        self.name: str = name
        self.factory: Callable[..., object] = factory
        self.needs: Mapping[str, object] = needs_of(factory, f"resource {name!r}")
        self.type: object = self._type()

    def _type(self) -> object:
        answer = hints_of(self.factory, f"resource {self.name!r}").get("return", type(None))
        if inspect.isasyncgenfunction(inspect.unwrap(self.factory)):
            answer = next(iter(get_args(answer)), type(None))
        if answer is type(None):
            raise ConfigurationError(
                f"resource {self.name!r} does not say what it gives; "
                f"write async def {self.name}() -> AsyncIterator[SomeType]"
            )
        return answer

    def opened(self, given: Mapping[str, object]) -> AbstractAsyncContextManager[object]:
        """The resource from its opening to its closing."""
        factory = self.factory
        if inspect.isasyncgenfunction(factory):
            return asynccontextmanager(cast("Callable[..., AsyncGenerator[object]]", factory))(**given)
        made = factory(**given)
        if inspect.isasyncgenfunction(inspect.unwrap(factory)):
            # It was made a context manager already.
            return cast("AbstractAsyncContextManager[object]", made)
        return _unclosed(made)


class Resources:
    """The resources of an instance."""

    def __init__(self, bus: Bus, environment: Environment) -> None:
        self._bus = bus
        self._environment = environment
        self._registered: dict[object, Resource] = {}
        self._overrides: dict[object, object] = {}
        self._open: _Opening | None = None

    def add(self, factory: Callable[..., object], /) -> None:
        """Know this factory from now on; the same one again changes nothing.

        Raises:
            ConfigurationError: Its annotations do not say what it gives, another one gives the same
                type, or the resources are open.
        """
        resource = Resource(factory)
        known = self._registered.get(resource.type)
        if known is not None and known.factory == factory:
            return
        if known is not None:
            raise ConfigurationError(
                f"resources {known.name!r} and {resource.name!r} both give a {type_name(resource.type)}; "
                "tell them apart with typing.NewType"
            )
        if self._open is not None:
            raise ConfigurationError(
                f"resource {resource.name!r} comes too late, the others are open already; "
                "register it before the worker starts"
            )
        self._registered[resource.type] = resource

    @contextmanager
    def override(self, type_: object, value: object) -> Generator[None]:
        """Let this value stand in for the resource of its type, for whatever is opened meanwhile.

        Raises:
            ConfigurationError: The resources are open.
        """
        if self._open is not None:
            raise ConfigurationError(
                f"{type_name(type_)} cannot be overridden now, the resources are open already; "
                "enter the override before the worker starts"
            )
        before = self._overrides
        self._overrides = {**before, type_: value}
        try:
            yield
        finally:
            self._overrides = before

    def check(self, job: AnyJob) -> None:
        """See that everything is there that a job needs, if it is to be executed here.

        Raises:
            ConfigurationError: A type is missing; says which, and what to write.
        """
        if self._open is not None:
            _require(job.needs, self._open.values.keys() | self._registered.keys(), f"job {job.name!r}")

    def given(self, job: AnyJob) -> Mapping[str, object]:
        """What a job is given, by parameter: what is open; while nothing is, what is overridden.

        Raises:
            ConfigurationError: A type is missing.
        """
        if not job.needs:
            return {}
        values = self._overrides if self._open is None else self._open.values
        missing = missing_from(job.needs, values, f"job {job.name!r}")
        if missing is not None:
            raise ConfigurationError(
                f"{missing}; without a worker only durably.override(type, value) gives one"
            )
        return {name: values[type_] for name, type_ in job.needs.items()}

    async def open(self, jobs: Iterable[AnyJob]) -> None:
        """Open all of them in the order of their registration, unless they are open.

        Raises:
            ConfigurationError: A job, or a resource, needs a type that is missing; nothing was opened.
            ResourceError: One could not be opened; the others are closed again.
        """
        if self._open is None:
            wanted = self._wanted(jobs)
            self._open = _Opening(wanted, self._overrides, self._environment, self._report)
        opening = self._open
        try:
            await opening.ready()
        except BaseException:
            if self._open is opening:
                self._open = None
            await opening.close()
            raise

    async def close(self) -> None:
        """Close all of them in reverse order; trouble is told as `worker:error`. Repeatable."""
        opening, self._open = self._open, None
        if opening is not None:
            await opening.close()

    def _wanted(self, jobs: Iterable[AnyJob]) -> Sequence[Resource]:
        """What must be opened, once it is sure that nothing is missing."""
        wanted = [one for type_, one in self._registered.items() if type_ not in self._overrides]
        there = set(self._overrides)
        for resource in wanted:
            _require(resource.needs, there, f"resource {resource.name!r}", where=" registered before it")
            there.add(resource.type)
        for job in jobs:
            _require(job.needs, there, f"job {job.name!r}")
        return wanted

    def _report(self, error: ResourceError) -> None:
        self._bus.publish(WorkerError(context="resources", error=error))


class _Opening:
    """Resources from their opening to their closing.

    A task of their own does both: what they hold may belong to the task that entered it.
    """

    def __init__(
        self,
        resources: Sequence[Resource],
        given: Mapping[object, object],
        environment: Environment,
        report: Callable[[ResourceError], None],
    ) -> None:
        self.values: dict[object, object] = dict(given)
        self._report = report
        self._patience = CLOSING * (len(resources) + 1)
        self._closing = asyncio.Event()
        self._leaving = ""
        self._ready: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._task = environment.spawn(self._hold(resources), name="durably:resources")
        self._task.add_done_callback(self._ended)

    async def ready(self) -> None:
        """Return once they are open.

        Raises:
            ResourceError: One could not be opened.
            NotRunningError: They were closed meanwhile.
        """
        error = await asyncio.shield(self._ready)
        if error is not None:
            raise error

    async def close(self) -> None:
        """Have them closed. Bounded: one that does not end is left behind, and told."""
        self._closing.set()
        if not self._ready.done():
            self._task.cancel()
        _, left = await asyncio.wait({self._task}, timeout=self._patience)
        if left:
            self._report(ResourceError(self._leaving, "closed", "it does not end, and was left behind"))

    async def _hold(self, resources: Sequence[Resource]) -> ResourceError | None:
        entered: list[tuple[Resource, AbstractAsyncContextManager[object]]] = []
        try:
            for resource in resources:
                try:
                    given = {name: self.values[type_] for name, type_ in resource.needs.items()}
                    manager = resource.opened(given)
                    self.values[resource.type] = await manager.__aenter__()
                except Exception as error:  # noqa: BLE001 - whatever a factory raises
                    return _trouble(resource, "opened", error)
                entered.append((resource, manager))
            self._ready.set_result(None)
            await self._closing.wait()
        finally:
            for resource, manager in reversed(entered):
                await self._leave(resource, manager)
        return None

    async def _leave(self, resource: Resource, manager: AbstractAsyncContextManager[object]) -> None:
        self._leaving = resource.name
        patience = asyncio.timeout(CLOSING)
        try:
            async with patience:
                await manager.__aexit__(None, None, None)
        except Exception as error:  # noqa: BLE001 - the others must be closed too
            late = TimeoutError(f"it took longer than {CLOSING:g} s")
            self._report(_trouble(resource, "closed", late if patience.expired() else error))

    def _ended(self, task: "asyncio.Task[ResourceError | None]") -> None:
        if not self._ready.done():
            error = NotRunningError("the worker was stopped while its resources were being opened")
            self._ready.set_result(error if task.cancelled() else task.result())


@asynccontextmanager
async def _unclosed(made: object) -> AsyncGenerator[object]:
    """A value that nobody has to close; of an async function, the one that it answers."""
    yield await made if inspect.iscoroutine(made) else made


def _require(needs: Mapping[str, object], given: Iterable[object], what: str, *, where: str = "") -> None:
    missing = missing_from(needs, given, what)
    if missing is not None:
        raise ConfigurationError(
            f"{missing}, and no resource{where} gives one; write a factory that is annotated to return that "
            "type, as @durably.resource, or give it to Durably(resources=[…])"
        )


def _trouble(resource: Resource, verb: str, cause: Exception) -> ResourceError:
    error = ResourceError(resource.name, verb, f"{type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error
