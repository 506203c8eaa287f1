"""Waiting for runs to end, whoever executes them."""

import asyncio
from collections import defaultdict

from durably.bus import Bus
from durably.doorbell import Doorbell
from durably.environment import Environment
from durably.errors import NotRunningError, StoreError
from durably.events import Event, EventType, RunEvent, WorkerError
from durably.stores.base import Store

_ENDINGS: tuple[EventType, ...] = ("run:complete", "run:fail", "run:cancel", "run:delete")


class Waiters:
    """Everyone in this process who waits for the end of a run.

    A run that ends here settles its waiters at once, by the event. For the runs of other processes
    one read asks for all that are waited for, whenever another process has written something, and
    at the polling interval as the fallback.
    """

    def __init__(self, store: Store, bus: Bus, environment: Environment, *, polling_interval: float) -> None:
        self._store = store
        self._bus = bus
        self._environment = environment
        self._polling_interval = polling_interval
        # With the interval at which each of them wants the store to be asked.
        self._waiting: defaultdict[str, dict[asyncio.Future[None], float]] = defaultdict(dict)
        self._bell = Doorbell()
        self._task: asyncio.Task[None] | None = None
        for ending in _ENDINGS:
            bus.on(ending, self._ended)

    async def wait(self, run_id: str, *, polling_interval: float | None = None) -> None:
        """Return once the run may have ended or vanished; look at it afterwards.

        Args:
            run_id: The run.
            polling_interval: How often to ask the store, in place of the instance's own interval.

        Raises:
            NotRunningError: The instance was closed.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[run_id][future] = polling_interval or self._polling_interval
        if polling_interval is not None:
            # The loop may be asleep for longer than that.
            self._bell.ring()
        if self._task is None or self._task.done():
            self._task = self._environment.spawn(self._look(), name="durably:waiters")
        try:
            await future
        finally:
            del self._waiting[run_id][future]
            if not self._waiting[run_id]:
                del self._waiting[run_id]
            if not self._waiting:
                self._bell.ring()

    def look(self) -> None:
        """Another process has written something."""
        self._bell.ring()

    async def close(self) -> None:
        """Let everyone go: there will be no more news."""
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(
                        NotRunningError("the instance was closed while a run was waited for")
                    )
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def _ended(self, event: Event) -> None:
        if isinstance(event, RunEvent):
            self._settle(event.run_id)

    def _settle(self, run_id: str) -> None:
        for future in self._waiting.get(run_id, ()):
            if not future.done():
                future.set_result(None)

    async def _look(self) -> None:
        while self._waiting:
            rings = self._bell.rings
            try:
                for run_id in await self._store.settled(tuple(self._waiting)):
                    self._settle(run_id)
            except StoreError as error:
                self._bus.publish(WorkerError(context="wait", error=error))
                await self._environment.sleep(self._polling_interval)
            await self._bell.wait(rings, seconds=self._pause())

    def _pause(self) -> float:
        intervals = (seconds for futures in self._waiting.values() for seconds in futures.values())
        return min(intervals, default=self._polling_interval)
