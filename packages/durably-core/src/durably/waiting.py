"""What an execution waits for: short waits here, long ones without a worker.

A wait called from the job's root task parks the run at once. One called in parallel with other
steps stays here until nothing of the run has begun or ended a step for `QUIET` seconds, and may
end meanwhile; parking earlier would cut off a sibling that is between two of its steps (S5).
"""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from durably.execution import Execution
from durably.stores.values import NewRun, StepRecord, Wait
from durably.tenure import Engine

SHORT = 1.0
"""Sleeps up to so many seconds stay in memory (S14)."""
QUIET = 1.0


@dataclass(slots=True)
class _Parked:
    """A wait that a branch of the job is in."""

    wait: Wait
    ended: "asyncio.Future[StepRecord]"
    is_begun: bool = False

    def end(self, step: StepRecord) -> None:
        """Let the branch go on."""
        if not self.ended.done():
            self.ended.set_result(step)


class Waiting:
    """The waits of one execution that have not ended."""

    def __init__(self, execution: Execution, engine: Engine) -> None:
        self._execution = execution
        self._engine = engine
        self._parked: dict[str, _Parked] = {}
        self._open = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether some branch of the job is in a wait."""
        return self._open > 0

    async def wait(
        self, step: StepRecord, *, child: NewRun | None = None, joins: str | None = None
    ) -> StepRecord:
        """Return the ended step, or unwind because the run is suspended.

        Args:
            step: The wait as it begins; if it began in an earlier execution, the stored one counts.
            child: The run to be stored with it.
            joins: The job of the run that is waited for, if that is there already.

        Raises:
            asyncio.CancelledError: The run is suspended, or no longer ours.
            ConflictError: The child asks for a key that an ancestor keeps.
            ValidationError: The run that is to be joined is no child of this one.
        """
        with self._waiting():
            return await self._wait(Wait(step=step, child=child, joins=joins))

    async def _wait(self, wait: Wait) -> StepRecord:
        execution = self._execution
        if self._is_short(wait.step):
            return await self._sleep_here(wait.step)
        if _may_end_at_once(wait):
            (settled,) = await execution.settle([wait])
            if wait.child is not None:
                self._engine.work.ring()
            if settled.status != "running":
                return settled
        if asyncio.current_task() is execution.root and not execution.is_executing:
            return await self._suspend(wait)
        return await self._park(wait)

    async def back_off(self, step: StepRecord) -> None:
        """Return once the step's next attempt is due, or unwind because the run is suspended.

        Raises:
            asyncio.CancelledError: The run is suspended, or no longer ours.
        """
        with self._waiting():
            await self._back_off(step)
        self._execution.require_live()

    async def _back_off(self, step: StepRecord) -> None:
        execution = self._execution
        seconds = self._seconds_until(step)
        if seconds <= SHORT:
            await self._engine.environment.sleep(max(0.0, seconds))
        elif asyncio.current_task() is execution.root and not execution.is_executing:
            await self._suspend(Wait(step=step))
        else:
            await self._park(Wait(step=step))

    @contextmanager
    def _waiting(self) -> Generator[None]:
        self._execution.touch()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def close(self) -> None:
        """End the watcher."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})

    def _is_short(self, step: StepRecord) -> bool:
        return (
            step.kind == "sleep"
            and not self._execution.began_before(step.name)
            and self._seconds_until(step) <= SHORT
        )

    async def _sleep_here(self, step: StepRecord) -> StepRecord:
        settled = step
        while settled.status == "running":
            await self._engine.environment.sleep(max(0.0, self._seconds_until(step)))
            (settled,) = await self._execution.settle([Wait(step=step)])
        return settled

    def _seconds_until(self, step: StepRecord) -> float:
        return (step.wake_at or 0.0) - self._engine.environment.now()

    async def _suspend(self, wait: Wait | None = None) -> StepRecord:
        waits = [parked.wait for parked in self._parked.values()]
        self._execution.suspend(waits if wait is None else [*waits, wait])
        await self._engine.environment.sleep(0)
        raise asyncio.CancelledError(f"run {self._execution.run.id}: suspended")

    async def _park(self, wait: Wait) -> StepRecord:
        ended: asyncio.Future[StepRecord] = asyncio.get_running_loop().create_future()
        self._parked[wait.step.name] = _Parked(wait, ended)
        try:
            self._engine.work.ring()
            if self._watcher is None or self._watcher.done():
                self._watcher = self._engine.environment.spawn(
                    self._watch(), name=f"durably:waits:{self._execution.run.id}"
                )
            return await ended
        finally:
            self._parked.pop(wait.step.name, None)
            self._execution.touch()

    async def _watch(self) -> None:
        try:
            while self._parked and self._execution.interruption is None:
                rings = self._engine.work.rings
                await self._begin()
                await self._end()
                if self._execution.is_quiet(QUIET):
                    self._execution.suspend([parked.wait for parked in self._parked.values()])
                    return
                ends = [self._seconds_until(parked.wait.step) for parked in self._parked.values()
                        if parked.wait.step.wake_at is not None]  # fmt: skip
                await self._engine.work.wait(rings, seconds=max(0.0, min([QUIET, *ends])))
        except Exception as error:  # noqa: BLE001 - nobody else hears of it, and the job would wait for ever
            for parked in self._parked.values():
                if not parked.ended.done():
                    parked.ended.set_exception(error)

    async def _begin(self) -> None:
        """Begin the waits that are new, all in one transaction: their deadlines are stored now."""
        new = [parked.wait for parked in self._parked.values() if not parked.is_begun]
        if new:
            self._take(await self._execution.settle(new))
            if any(wait.child is not None for wait in new):
                # It was there for nobody before the commit.
                self._engine.work.ring()

    async def _end(self) -> None:
        """End the waits that can end. The others are not touched: there may be thousands."""
        for parked in self._parked.values():
            if parked.wait.step.kind == "run" and self._seconds_until(parked.wait.step) <= 0:
                parked.end(parked.wait.step)
        ripe = [self._parked[name].wait for name in await self._execution.ripe() if name in self._parked]
        if ripe:
            self._take(await self._execution.settle(ripe))

    def _take(self, settled: Sequence[StepRecord]) -> None:
        for step in settled:
            parked = self._parked.get(step.name)
            if parked is None:
                continue
            parked.is_begun = True
            if step.status == "running":
                parked.wait = Wait(step=replace(parked.wait.step, wake_at=step.wake_at))
            else:
                parked.end(step)


def _may_end_at_once(wait: Wait) -> bool:
    """Whether to ask before the run is suspended.

    An error must reach the job's code, which is gone once the run is suspended; and a child that has
    ended is not worth a suspension.
    """
    child = wait.child
    return (
        wait.step.kind == "spawn"
        or wait.joins is not None
        or (child is not None and child.concurrency_key is not None)
    )
