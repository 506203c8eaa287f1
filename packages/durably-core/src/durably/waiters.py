"""Waiting for news of runs, whoever executes them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import get_args

from durably.bus import Bus
from durably.doorbell import Doorbell
from durably.environment import Environment
from durably.errors import NotRunningError, StoreError
from durably.events import Event, EventType, RunEvent, WorkerError
from durably.insistence import pause_after
from durably.stores.base import Store
from durably.stores.watching import Seen

ENDINGS: frozenset[EventType] = frozenset({"run:complete", "run:fail", "run:cancel", "run:delete"})


class Watch:
    """One who waits for news, of one run or (None) of all.

    Open it, look at the rows, then `wait` with what was seen, and look again: nothing that happens
    after the opening is missed.
    """

    def __init__(
        self, bell: Doorbell, *, ends_only: bool, polling_interval: float, waits: Callable[[], None]
    ) -> None:
        self.ends_only = ends_only
        self.polling_interval = polling_interval
        self.seen: Seen | None = None
        """What is known to the one who waits; None while it does not wait."""
        self._waits = waits
        self._bell = bell
        self._rings = bell.rings
        self._is_rung = False
        self._is_refused = False
        self._news: asyncio.Future[None] | None = None

    async def wait(self, seen: Seen) -> None:
        """Return once there may be something beyond what was seen.

        Raises:
            NotRunningError: The instance was closed.
        """
        if self._is_refused:
            raise _closed()
        if not self._is_rung and self._rings == self._bell.rings:
            self.seen = seen
            self._news = asyncio.get_running_loop().create_future()
            self._waits()
            try:
                await self._news
            finally:
                self.seen = self._news = None
        self._is_rung = False
        self._rings = self._bell.rings

    def ring(self) -> None:
        """There is news."""
        self._is_rung = True
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def refuse(self) -> None:
        """There will be no more news, also for one who is just looking and will wait again."""
        self._is_refused = True
        if self._news is not None and not self._news.done():
            self._news.set_exception(_closed())


class Waiters:
    """Everyone in this process who waits for news of runs.

    What happens here wakes those whom it concerns at once. For what other processes write, one read
    asks on behalf of all who wait, whenever another process has written something, and at the
    polling interval as the fallback.
    """

    def __init__(self, store: Store, bus: Bus, environment: Environment, *, polling_interval: float) -> None:
        self._store = store
        self._bus = bus
        self._environment = environment
        self._polling_interval = polling_interval
        self._watches: defaultdict[str | None, set[Watch]] = defaultdict(set)
        self._bell = Doorbell()
        self._task: asyncio.Task[None] | None = None
        self._listens_to_all = False
        for ending in ENDINGS:
            bus.on(ending, self._happened)

    @contextmanager
    def watch(
        self, run_id: str | None, *, ends_only: bool = False, polling_interval: float | None = None
    ) -> Generator[Watch]:
        """Keep a watch over a run, its end only or everything, or over all runs.

        Once it is closed nothing of it is left.

        Args:
            run_id: The run; None: all of them.
            ends_only: Whether only its end is news.
            polling_interval: How often to ask the store, in place of the instance's own interval.
        """
        if not ends_only:
            self._listen_to_all()
        if polling_interval is not None:
            # The loop may be asleep for longer than that.
            self._bell.ring()
        watch = Watch(
            self._bell,
            ends_only=ends_only,
            polling_interval=polling_interval or self._polling_interval,
            waits=self._keep_looking,
        )
        self._watches[run_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[run_id].discard(watch)
            if not self._watches[run_id]:
                del self._watches[run_id]
            if not self._watches and self._task is not None:
                self._task.cancel()
                self._task = None

    def look(self) -> None:
        """Another process has written something."""
        self._bell.ring()

    async def close(self) -> None:
        """Let everyone go: there will be no more news."""
        for watches in self._watches.values():
            for watch in watches:
                watch.refuse()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def _listen_to_all(self) -> None:
        # Not before somebody wants it: events that nobody listens to are not even made.
        if self._listens_to_all:
            return
        self._listens_to_all = True
        for event_type in get_args(EventType):
            if event_type.startswith("run:") and event_type not in ENDINGS:
                self._bus.on(event_type, self._happened)
        self._bus.on_written(self._written)

    def _happened(self, event: Event) -> None:
        if isinstance(event, RunEvent):
            is_ending = event.type in ENDINGS
            for watch in self._watches.get(event.run_id, ()):
                if is_ending or not watch.ends_only:
                    watch.ring()
            for watch in self._watches.get(None, ()):
                watch.ring()

    def _written(self, run_id: str) -> None:
        for watch in self._watches.get(run_id, ()):
            if not watch.ends_only:
                watch.ring()

    def _keep_looking(self) -> None:
        if self._task is None:
            self._task = self._environment.spawn(self._look_again(), name="durably:waiters")

    async def _look_again(self) -> None:
        rings, failures = self._bell.rings, 0
        while True:
            if not failures:
                await self._bell.wait(rings, seconds=self._pause())
            rings = self._bell.rings
            try:
                await self._look()
                failures = 0
            except StoreError as error:
                failures += 1
                self._bus.publish(WorkerError(context="wait", error=error))
                # Not cut short by the bell: trouble is never asked twice without a pause.
                pause = pause_after(failures, self._environment)
                await self._environment.sleep(min(pause, self._pause()))

    def _pause(self) -> float:
        intervals = (watch.polling_interval for watches in self._watches.values() for watch in watches)
        return min(intervals, default=self._polling_interval)

    async def _look(self) -> None:
        waiting = [watch for watches in self._watches.values() for watch in watches if watch.seen is not None]
        if waiting:
            fresh = set(await self._store.news(tuple({watch.seen for watch in waiting if watch.seen})))
            for watch in waiting:
                if watch.seen in fresh:
                    watch.ring()


def _closed() -> NotRunningError:
    return NotRunningError("the instance was closed while a run was waited for")
