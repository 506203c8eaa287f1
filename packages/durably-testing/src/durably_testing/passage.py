"""The passage of time in a history: on to what is due next, until everything has ended or nothing comes any more."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

from durably_testing.database import SharedConnection
from durably_testing.environment import EPOCH
from durably_testing.loop import SimLoop
from durably_testing.witness import Witness

HORIZON = 7200.0
"""Virtual seconds without any news after which whatever has not ended is stuck."""
POLLING = 60.0
"""Seconds between two looks of a process at its store, should it hear of nothing."""
NEWS = 0.02
"""Seconds until a process notices that another one has written something."""
AFTERGLOW = 2.0
"""Seconds after the end and after the last pause, in which zombies may show themselves."""
SWEEPS = 120.0
"""Seconds for which workers may find what slipped, where nothing at all is due any more."""

_UNFINISHED = "SELECT 1 FROM durably_runs WHERE status IN ('pending', 'running', 'waiting') LIMIT 1"
_ACTIVE = """SELECT 1 FROM durably_runs WHERE status = 'running' UNION ALL
SELECT 1 FROM durably_runs WHERE ready = 1 LIMIT 1"""
_NEXT = "SELECT min(timer_at) FROM durably_runs WHERE timer_at IS NOT NULL"


class Passage:
    """How far time goes on at once, and when it has gone on for long enough.

    Args:
        loop: Whose time it is.
        connection: The database, which says what is due.
        witness: Is told of what does not come to its end.
        horizon: Virtual seconds without any news after which whatever has not ended is stuck.
    """

    def __init__(
        self, loop: SimLoop, connection: SharedConnection, witness: Witness, *, horizon: float
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._witness = witness
        self._horizon = horizon
        self._pending = 0
        self._pending_until = 0.0
        self._moved_at = 0.0
        self._script: asyncio.Task[object] | None = None
        self._over: asyncio.Event | None = None
        self._is_hopeless = False

    async def rest(self, meanwhile: Callable[[], Awaitable[object]] | None) -> None:
        """Return once every run has ended and every zombie has shown itself, or nothing comes any more."""
        over = self._over = asyncio.Event()
        self._moved_at = self._loop.time()
        if meanwhile is not None:
            self._script = self._loop.create_task(_done(meanwhile))
            self._script.add_done_callback(lambda _: self.look())
        self.look()
        await over.wait()
        if self._script is not None:
            if not self._script.done():
                self._witness.accuse("what happens meanwhile has not come to its end")
                self._script.cancel()
            elif (error := self._script.exception()) is not None:
                raise error
        await asyncio.sleep(max(0.0, self._pending_until - self._loop.time()) + AFTERGLOW)
        self._over = None

    def finish(self) -> None:
        """Let a `rest` come to its end."""
        if self._over:
            self._over.set()

    def give_up(self) -> None:
        """This rest, and each that may follow, is at its end."""
        self._is_hopeless = True
        self.finish()

    def moved(self) -> None:
        """Something has changed."""
        self._moved_at = self._loop.time()

    def look(self) -> None:
        """End the rest if there is nothing left to wait for."""
        if self._over is None:
            return
        is_done = self._script is None or self._script.done()
        is_calm = is_done and self._connection.execute(_UNFINISHED).fetchone() is None
        if is_calm or self._is_hopeless:
            self.finish()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Have the world do something, whatever becomes of the process that is executing now."""
        self._pending += 1
        self._pending_until = max(self._pending_until, self._loop.time() + seconds)

        def happen() -> None:
            self._pending -= 1
            call()

        self._loop.call_later(seconds, happen, context=Context())

    def jump(self, seconds: float) -> float:
        """How far time goes on: to the next timer, or, while no worker has anything to do, to what is due next."""
        if seconds <= NEWS:
            return seconds
        # Whoever ended the last run may have died of it, and told nobody.
        self.look()
        if self._pending or (self._over and self._over.is_set()):
            return seconds
        now = self._loop.time()
        is_active = self._connection.execute(_ACTIVE).fetchone() is not None
        due_at = None if is_active else self._next_due()
        events = () if is_active else (due_at, self._loop.next_immune_timer())
        coming = [instant for instant in events if instant is not None]
        if now - self._moved_at > (self._horizon if is_active or coming else SWEEPS):
            self.finish()
        jump = max(seconds, min(coming) - now) if coming else seconds
        if (due_at is not None and now < due_at <= now + jump) or jump > POLLING:
            # Nobody was idle: there was nothing to do until here. (Whoever polls sleeps for shorter.)
            self._moved_at = now + jump
        return jump

    def _next_due(self) -> float | None:
        """When the next run falls due, on the loop's clock."""
        due_at: float | None = self._connection.execute(_NEXT).fetchone()[0]
        return None if due_at is None else due_at - EPOCH


async def _done(work: Callable[[], Awaitable[object]]) -> object:
    return await work()
