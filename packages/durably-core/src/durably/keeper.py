"""What must be done again and again while a worker works: one loop each."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial

from durably.doorbell import Doorbell
from durably.errors import StoreError
from durably.events import WorkerError
from durably.execution import Execution
from durably.insistence import pause_after
from durably.models import Run
from durably.options import WorkerOptions
from durably.tenure import Engine

NOTES_DELAY = 0.1
PRESENCE_INTERVAL = 0.25
SWEEP_INTERVAL = 30.0
PURGE_INTERVAL = 60.0
PURGE_BATCH = 100
SIGNALS_KEPT = 7 * 86_400.0
"""Seconds for which a signal by key waits for somebody to take it."""


class Keeper:
    """The loops. Each goes on after trouble, more and more slowly, and ends on cancellation.

    Args:
        worker_id: Whose leases are renewed.
        engine: The worker's surroundings.
        options: The intervals.
        executions: Answers what the worker is executing now.
        look: Makes the worker look for work.
        tell_parked: Publishes that runs were failed for killing their workers.
        introduce: Puts the worker on the list of workers once more.
    """

    def __init__(
        self,
        worker_id: str,
        engine: Engine,
        options: WorkerOptions,
        *,
        executions: Callable[[], Iterable[Execution]],
        look: Callable[[], None],
        tell_parked: Callable[[Iterable[Run]], None],
        introduce: Callable[[], Awaitable[None]],
    ) -> None:
        self._worker_id = worker_id
        self._store = engine.store
        self._bus = engine.bus
        self._environment = engine.environment
        self._options = options
        self._executions = executions
        self._look = look
        self._tell_parked = tell_parked
        self._introduce = introduce
        self._tasks: list[asyncio.Task[None]] = []
        self._notes = Doorbell()
        self._notes_are_due = False
        self._foreign = Doorbell()
        self._thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        options = self._options
        self._repeat("heartbeat", options.heartbeat_interval, self._heartbeat)
        if self._environment.host():
            # Where the machine cannot be told, nobody's death can be seen.
            self._repeat("presence", PRESENCE_INTERVAL, self._bury, at_once=True)
        self._repeat("sweep", SWEEP_INTERVAL, self._sweep)
        if options.retain is not None:
            self._repeat("purge", min(PURGE_INTERVAL, options.retain), self._purge)
        self._spawn("notes", self._notes_loop())
        self._spawn("leases", self._leases_loop())

    async def stop(self) -> None:
        """End the loops."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    def note_soon(self) -> None:
        """Some journal holds something: see that it is written within `NOTES_DELAY`. Any thread."""
        if self._notes_are_due or self._loop is None:
            return
        self._notes_are_due = True
        if threading.get_ident() == self._thread:
            self._notes.ring()
        else:
            self._loop.call_soon_threadsafe(self._notes.ring)

    def check_leases_soon(self) -> None:
        """Another process has written something: perhaps it cancelled a run of ours."""
        self._foreign.ring()

    # The loops

    def _spawn(self, name: str, loop: Coroutine[object, object, None]) -> None:
        self._tasks.append(self._environment.spawn(loop, name=f"durably:{name}"))

    def _repeat(
        self, name: str, interval: float, beat: Callable[[], Awaitable[None]], *, at_once: bool = False
    ) -> None:
        async def loop() -> None:
            failures, pause = 0, 0.0 if at_once else interval
            while True:
                await self._environment.sleep(pause)
                failures = 0 if await self._go_on(name, beat) else failures + 1
                pause = min(pause_after(failures, self._environment), interval) if failures else interval

        self._spawn(name, loop())

    async def _go_on(self, name: str, beat: Callable[[], Awaitable[None]]) -> bool:
        try:
            await beat()
        except Exception as error:  # noqa: BLE001 - the loop must not die
            self._bus.publish(WorkerError(context=name, error=error))
            return False
        return True

    async def _heartbeat(self) -> None:
        environment, seconds = self._environment, self._options.lease_seconds
        sent = environment.monotonic()
        executions = [item for item in self._executions() if item.interruption is None]
        try:
            # An answer that hangs must not keep the next heartbeat from being sent.
            async with asyncio.timeout(self._options.heartbeat_interval):
                refused = await self._store.renew(
                    self._worker_id, [item.lease for item in executions], lease_seconds=seconds
                )
        except (StoreError, TimeoutError):
            # Not a loss yet: the lease may outlast the trouble.
            for item in executions:
                if environment.monotonic() >= item.deadline:
                    item.interrupt("lost")
            raise
        for item in executions:
            answer = refused.get(item.lease.run_id, "applied")
            if answer == "applied":
                item.deadline = max(item.deadline, sent + seconds)
            else:
                item.interrupt(answer)

    async def _bury(self) -> None:
        buried = await self._store.bury_dead(max_crashes=self._options.max_crashes)
        self._tell_parked(buried.parked)
        if buried.wake_in is not None:
            self._look()

    async def _sweep(self) -> None:
        if await self._store.sweep():
            self._look()
        await self._store.forget_signals(older_than=SIGNALS_KEPT, limit=PURGE_BATCH)
        if all(worker.id != self._worker_id for worker in await self._store.list_workers()):
            # The machine slept for so long that others have forgotten this worker.
            await self._introduce()
        for run_id in await self._store.orphans(limit=PURGE_BATCH):
            # Its parent was cancelled by somebody who died before coming to it.
            await self._store.cancel(run_id, token=self._environment.new_id())
            self._look()

    async def _purge(self) -> None:
        retain = self._options.retain
        if retain is not None:
            while await self._store.purge(older_than=retain, limit=PURGE_BATCH) == PURGE_BATCH:
                await self._environment.sleep(0)

    async def _notes_loop(self) -> None:
        while True:
            rings = self._notes.rings
            if not self._notes_are_due:
                await self._notes.wait(rings)
            await self._environment.sleep(NOTES_DELAY)
            self._notes_are_due = False
            before = self._environment.now() - NOTES_DELAY
            executions = [item for item in self._executions() if not item.journal.is_empty]
            # Together, so that they share a commit; what becomes of each is the execution's affair.
            await asyncio.gather(
                *(item.flush(started_before=before) for item in executions), return_exceptions=True
            )
            if any(not item.journal.is_empty for item in executions):
                self._notes_are_due = True

    async def _leases_loop(self) -> None:
        while True:
            await self._foreign.wait(self._foreign.rings)
            held = {item.lease.run_id: item for item in self._executions()}
            if held:
                await self._go_on("leases", partial(self._check, held))

    async def _check(self, held: dict[str, Execution]) -> None:
        refused = await self._store.check([item.lease for item in held.values()])
        for run_id, answer in refused.items():
            if answer != "applied":
                held[run_id].interrupt(answer)
