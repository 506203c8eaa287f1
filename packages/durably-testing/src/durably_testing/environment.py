"""The environment of a simulated process: the world's clock, ids, randomness and lanes."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from inspect import iscoroutine
from random import Random
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from typing_extensions import override

from durably.spi import Environment, Lane, ThreadPool, Ticker
from durably_testing.processes import Process

T = TypeVar("T")
Item = TypeVar("Item")
Keep: TypeAlias = Callable[[Coroutine[Any, Any, Any]], object]

EPOCH = 1_900_000_000.0
"""The instant at which every history begins: 17 March 2030."""


class SimEnvironment(Environment):
    """What one process sees of the world.

    Args:
        process: Whose it is.
        random: The world's; every draw moves it on for everybody.
        latency: Answers how many seconds the database takes for a batch.
        keep: Closes a coroutine at the end of the history.
    """

    def __init__(self, process: Process, random: Random, latency: Callable[[], float], keep: Keep) -> None:
        self._process = process
        self._keep = keep
        self._random = random
        self._latency = latency

    @override
    def now(self) -> float:
        return EPOCH + self.monotonic() + self._process.skew

    @override
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self._process.stall

    @override
    async def sleep(self, seconds: float, /) -> None:
        await asyncio.sleep(seconds)

    @override
    def random(self) -> float:
        return self._random.random()

    @override
    def new_id(self) -> str:
        return new_id(self.now(), self._random)

    @override
    def host(self) -> str:
        # No presence: a lock that dies with its process needs a process.
        return ""

    @override
    def process_id(self) -> int:
        return self._process.id

    @override
    def spawn(self, work: Coroutine[object, object, T], /, *, name: str) -> "asyncio.Task[T]":
        return asyncio.get_running_loop().create_task(work, name=name)

    @override
    def lane(
        self,
        name: str,
        handle: Callable[[list[Item]], None],
        *,
        idle: Callable[[], bool] | None = None,
        idle_every: float = 0.02,
    ) -> Lane[Item]:
        return InlineLane(handle, self._latency)

    @override
    def ticker(self, name: str, call: Callable[[], None], /, *, every: float) -> Ticker:
        return _SimTicker(call, every)

    @override
    def threads(self, size: int, /) -> ThreadPool:
        return _SimThreads(self._keep)


def new_id(now: float, random: Random) -> str:
    """A UUIDv7 that is the same wherever the time and the randomness are."""
    value = (int(now * 1000) << 80) | random.getrandbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(UUID(int=value))


class InlineLane(Generic[Item]):
    """A lane on the loop: what comes while the database is busy shares the next batch.

    Args:
        handle: What does a batch.
        latency: Answers how many seconds the database takes for one.
    """

    def __init__(self, handle: Callable[[list[Item]], None], latency: Callable[[], float]) -> None:
        self._handle = handle
        self._latency = latency
        self._queue: list[Item] = []
        self._is_busy = False
        self._closed: Future[None] | None = None

    def submit(self, item: Item, /) -> None:
        """Queue an item."""
        self._queue.append(item)
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_later(self._latency(), self._work)

    def close(self) -> "Future[None]":
        """Handle what is queued, then end."""
        if self._closed is None:
            self._closed = Future()
            if not self._is_busy:
                self._closed.set_result(None)
        return self._closed

    def _work(self) -> None:
        batch, self._queue = self._queue, []
        self._handle(batch)
        self._is_busy = bool(self._queue)
        if self._is_busy:
            asyncio.get_running_loop().call_later(self._latency(), self._work)
        elif self._closed is not None:
            self._closed.set_result(None)


class _SimTicker:
    """A ticker on the loop, which is never blocked."""

    def __init__(self, call: Callable[[], None], every: float) -> None:
        self._call = call
        self._every = every
        self._timer = asyncio.get_running_loop().call_later(every, self._tick)

    def close(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._tick)
        self._call()


class _SimThreads:
    """No threads: a plain function takes no time."""

    busy = 0

    def __init__(self, keep: Keep) -> None:
        self._keep = keep

    def submit(self, function: Callable[[], T], /) -> "Future[T]":
        future: Future[T] = Future()
        try:
            result = copy_context().run(function)
            if iscoroutine(result):
                self._keep(result)
            future.set_result(result)
        except BaseException as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)
        return future

    def close(self) -> None:
        """There is nothing to end."""
