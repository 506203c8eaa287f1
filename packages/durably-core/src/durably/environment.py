"""The one door to time, identity, randomness, tasks and threads.

The engine asks an `Environment` for everything that differs between two executions of the same
program. Production uses `RealEnvironment`; a simulation puts its own in place and thereby owns the
clock, the order of events and the moment of death. Nothing else in the package touches the real
ones (the linter bans them by name).
"""

import asyncio
import contextvars
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

T = TypeVar("T")
Item = TypeVar("Item")
ItemIn = TypeVar("ItemIn", contravariant=True)

logger: logging.Logger = logging.getLogger("durably")

QUIET_AFTER = 5.0
"""Seconds without an item after which a lane is idle less often."""

QUIET_PACE = 2.5
"""How much less often."""

LARGEST_BATCH = 1000
"""Items a lane hands over at once; bounds how long one batch keeps the others waiting."""


class Lane(Protocol[ItemIn]):
    """Work handled in batches, in order, one batch at a time, away from the event loop."""

    def submit(self, item: ItemIn, /) -> None:
        """Queue an item. Thread-safe; never blocks."""
        ...

    def close(self) -> "Future[None]":
        """Handle what is queued, then end. Repeatable; the future is done once it has ended."""
        ...


class Ticker(Protocol):
    """Something that is called again and again, away from the event loop."""

    def close(self) -> None:
        """Call no more. Repeatable, from any thread; does not wait for a call that is executing."""
        ...


class ThreadPool(Protocol):
    """A bounded pool for plain functions."""

    @property
    def busy(self) -> int:
        """Functions that have not returned yet."""
        ...

    def submit(self, function: Callable[[], T], /) -> "Future[T]":
        """Call it on a thread of the pool, in the caller's context variables."""
        ...

    def close(self) -> None:
        """Take no more work. Does not wait for what is executing."""
        ...


class Environment(Protocol):
    """Everything the engine takes from the outside world."""

    def now(self) -> float:
        """The wall clock: seconds since the epoch. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never runs backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Let this much time pass."""
        ...

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        ...

    def new_id(self) -> str:
        """An id that nobody else makes and nobody can guess, roughly in the order of time."""
        ...

    def host(self) -> str:
        """The machine and its present boot; empty where that cannot be told."""
        ...

    def process_id(self) -> int:
        """This process."""
        ...

    def spawn(self, work: Coroutine[object, object, T], /, *, name: str) -> "asyncio.Task[T]":
        """Start a task on the running loop. Its maker keeps it and ends it."""
        ...

    def lane(
        self,
        name: str,
        handle: Callable[[list[Item]], None],
        *,
        idle: Callable[[], bool] | None = None,
        idle_every: float = 0.02,
    ) -> "Lane[Item]":
        """Open a lane whose batches go to `handle`.

        `idle` is called between batches about every `idle_every` seconds, on the same thread, and
        answers whether somebody counts on that; if not, it is called less often when nothing was
        submitted for a while.
        """
        ...

    def ticker(self, name: str, call: Callable[[], None], /, *, every: float) -> "Ticker":
        """Call it about every `every` seconds on a thread that a blocked event loop does not stop."""
        ...

    def threads(self, size: int, /) -> "ThreadPool":
        """Open a pool of at most `size` threads."""
        ...


class RealEnvironment(Environment):
    """The real clocks, ids, tasks and threads."""

    @override
    def now(self) -> float:
        return time.time()

    @override
    def monotonic(self) -> float:
        return time.monotonic()

    @override
    async def sleep(self, seconds: float, /) -> None:
        await asyncio.sleep(seconds)

    @override
    def random(self) -> float:
        return random.random()

    @override
    def new_id(self) -> str:
        """A UUIDv7 with 74 random bits.

        Source: RFC 9562, section 5.7.
        """
        milliseconds = time.time_ns() // 1_000_000
        entropy = int.from_bytes(os.urandom(10), "big")
        value = (milliseconds << 80) | (entropy & ((1 << 80) - 1))
        value = (value & ~(0xF << 76)) | (0x7 << 76)
        value = (value & ~(0x3 << 62)) | (0x2 << 62)
        return str(uuid.UUID(int=value))

    @override
    def host(self) -> str:
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        return f"{socket.gethostname()}/{boot}"

    @override
    def process_id(self) -> int:
        return os.getpid()

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
        return _ThreadLane(name, handle, idle, idle_every)

    @override
    def ticker(self, name: str, call: Callable[[], None], /, *, every: float) -> Ticker:
        return _ThreadTicker(name, call, every)

    @override
    def threads(self, size: int, /) -> ThreadPool:
        return _DaemonPool(size)


class _ThreadLane(Generic[Item]):
    """A lane on a daemon thread.

    The queue is drained on the thread rather than by a task, so that a busy event loop does not
    hold up the writes that are waiting already.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[Item]], None],
        idle: Callable[[], bool] | None,
        idle_every: float,
    ) -> None:
        self._handle = handle
        self._idle = idle
        self._idle_every = idle_every
        self._queue: SimpleQueue[Item | _End] = SimpleQueue()
        self._ended: Future[None] = Future()
        # A daemon, because a process with an unclosed store must still be able to exit.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, item: Item, /) -> None:
        self._queue.put(item)

    def close(self) -> "Future[None]":
        self._queue.put(_END)
        return self._ended

    def _work(self) -> None:
        last_batch = last_idle = time.monotonic()
        pause: float | None = None if self._idle is None else self._idle_every
        open_ = True
        while open_:
            batch, open_ = self._next_batch(pause)
            if batch:
                self._guarded(partial(self._handle, batch))
                last_batch = time.monotonic()
            now = time.monotonic()
            if open_ and self._idle is not None and now - last_idle >= self._idle_every:
                is_wanted = self._guarded(self._idle)
                last_idle = now
                is_quiet = not is_wanted and now - last_batch >= QUIET_AFTER
                pause = self._idle_every * (QUIET_PACE if is_quiet else 1)
        self._ended.set_result(None)

    def _next_batch(self, pause: float | None) -> tuple[list[Item], bool]:
        """Wait for an item or for the pause, then take along everything that is queued already."""
        batch: list[Item] = []
        try:
            item = self._queue.get(timeout=pause)
            while not isinstance(item, _End):
                batch.append(item)
                if len(batch) == LARGEST_BATCH:
                    return batch, True
                item = self._queue.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    @staticmethod
    def _guarded(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception:
            # A handler answers its items itself; this only keeps the thread alive for the rest.
            logger.exception("a database thread met an error that nothing was waiting for")
            return None


class _ThreadTicker:
    """A ticker on a daemon thread."""

    def __init__(self, name: str, call: Callable[[], None], every: float) -> None:
        self._call = call
        self._every = every
        self._closed = threading.Event()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(self._every):
            try:
                self._call()
            except Exception:
                logger.exception("a ticking thread met an error that nothing was waiting for")


class _End:
    """The last item of a lane."""


_END = _End()


class _DaemonPool:
    """Daemon threads, started on demand.

    An executor of the standard library joins its threads when the interpreter exits, so that one
    endless function would keep the process alive.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0

    @property
    def busy(self) -> int:
        return self._busy

    def submit(self, function: Callable[[], T], /) -> "Future[T]":
        future: Future[T] = Future()
        context = contextvars.copy_context()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = context.run(function)
                except BaseException as error:  # noqa: BLE001 - the future carries it
                    future.set_exception(error)
                else:
                    future.set_result(result)

        with self._lock:
            self._busy += 1
            if self._busy > self._threads and self._threads < self._size:
                self._threads += 1
                threading.Thread(
                    target=self._serve, name=f"durably-step-{self._threads}", daemon=True
                ).start()
        self._queue.put(work)
        return future

    def close(self) -> None:
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            with self._lock:
                self._busy -= 1
