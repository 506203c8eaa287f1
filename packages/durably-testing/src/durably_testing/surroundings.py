"""What the real engine lives in when time is a test's: an environment, and a store that works on the loop."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from os import PathLike
from typing import Any, TypeVar, cast

from typing_extensions import override

from durably.spi import Lane, Lease, RealEnvironment, SqliteStore, StepRecord, Store, Ticker
from durably_testing.clock import VirtualClock
from durably_testing.environment import InlineLane, new_id
from durably_testing.interposition import Interposed, Verb

T = TypeVar("T")
Item = TypeVar("Item")

SLICE = 1.0
"""Virtual seconds after which a store that hangs shows that it still does."""


_is_engine: ContextVar[bool] = ContextVar("durably_testing_engine", default=False)
"""Whether it is the engine, or a job, that executes; else it is the test."""

HOUSEKEEPING = frozenset({"check", "news", "renew", "sweep", "orphans", "forget_signals", "purge"})


class VirtualEnvironment(RealEnvironment):
    """The clock is the test's, the database works on the loop itself, and ids are drawn from the clock's seed.

    Plain functions are executed in real threads.

    Args:
        clock: What time it is.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.signs: int = 0
        """Signs of life of what is executed: words to the store, tasks that begin."""
        self.bodies: set[tuple[str, str]] = set()
        """The steps whose bodies are executing, by run and name."""
        self.seen: asyncio.Event = asyncio.Event()
        """Set at every sign."""

    def sign(self) -> None:
        """Something is executed."""
        self.signs += 1
        self.seen.set()

    async def hang(self, seconds: float, /) -> None:
        """Let time pass over a store that does not answer."""
        while seconds > 0:
            await self.sleep(min(seconds, SLICE))
            seconds -= SLICE
            self.sign()

    @override
    def now(self) -> float:
        return self._clock.wall(self)

    @override
    def monotonic(self) -> float:
        return self._clock.monotonic()

    @override
    async def sleep(self, seconds: float, /) -> None:
        if not _is_engine.get():
            # Somebody called a verb, and the store is in trouble: nobody is there who would move the clock.
            self._clock.advance(seconds)
            seconds = 0
        await self._clock.sleep(seconds)

    @override
    def random(self) -> float:
        return self._clock.random.random()

    @override
    def new_id(self) -> str:
        return new_id(self.now(), self._clock.random)

    @override
    def host(self) -> str:
        # No presence: there is one process, and it does not die.
        return ""

    @override
    def spawn(self, work: Coroutine[object, object, T], /, *, name: str) -> "asyncio.Task[T]":
        self.sign()
        context = copy_context()
        context.run(_is_engine.set, True)
        return asyncio.get_running_loop().create_task(work, name=name, context=context)

    @override
    def lane(
        self,
        name: str,
        handle: Callable[[list[Item]], None],
        *,
        idle: Callable[[], bool] | None = None,
        idle_every: float = 0.02,
    ) -> Lane[Item]:
        return _Lane(handle, idle, self._clock)

    @override
    def ticker(self, name: str, call: Callable[[], None], /, *, every: float) -> Ticker:
        # It is there for loops that are blocked; in virtual time none is.
        return _Still()


class _Lane(InlineLane[Item]):
    """What one connection writes, the others that live in the same time notice at once."""

    def __init__(
        self,
        handle: Callable[[list[Item]], None],
        idle: Callable[[], bool] | None,
        clock: VirtualClock,
    ) -> None:
        def handled(batch: list[Item]) -> None:
            handle(batch)
            clock.news(besides=idle)

        super().__init__(handled, lambda: 0.0)
        self._endings: list[Callable[[], None]] = [] if idle is None else [clock.on_news(idle)]

    @override
    def close(self) -> "Future[None]":
        while self._endings:
            self._endings.pop()()
        return super().close()


class _Still:
    def close(self) -> None:
        """It never ticked."""


def heard(store: Store, environment: VirtualEnvironment) -> Store:
    """The store, its words signs of life, but for those that are said when nothing is executed too."""
    return cast("Store", _Heard(store, environment))


class _Heard(Interposed):
    def __init__(self, store: Store, environment: VirtualEnvironment) -> None:
        super().__init__(store)
        self._environment = environment

    @override
    def around(self, name: str, verb: Verb, /) -> Verb:
        if name in HOUSEKEEPING:
            return verb

        async def say(*args: object, **options: object) -> object:
            self._environment.sign()
            match args:
                case [Lease() as lease, StepRecord() as step, *_]:
                    # What follows is the engine's: the body has ended.
                    self._environment.bodies.discard((lease.run_id, step.name))
                case _:
                    pass
            try:
                return await verb(*args, **options)
            finally:
                self._environment.sign()

        return say


class VirtualStore(SqliteStore):
    """The real store; whoever uses it looks again when the clock has moved."""

    def __init__(
        self, path: str | PathLike[str], environment: VirtualEnvironment, clock: VirtualClock
    ) -> None:
        super().__init__(path, environment=environment, durability="process", connector=self._connect)
        self._clock = clock
        self.connection: sqlite3.Connection | None = None
        """The one that writes, once it is open."""

    @override
    def watch(self, changed: Callable[[], None], /) -> None:
        super().watch(changed)
        self._clock.on_move(changed)

    def _connect(self, *place: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(*place, **options)
        if self.connection is None:
            self.connection = connection
        return connection
