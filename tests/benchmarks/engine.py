"""The engine at work, timed: what several workloads have in common."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from durably import Durability, Durably, JobHandle
from tests.benchmarks.bench import Bench, Stopwatch, stopwatch
from tests.benchmarks.jobs import counting


@asynccontextmanager
async def triggering(bench: Bench, path: Path | None = None) -> AsyncGenerator[JobHandle[int, int]]:
    """The handle of the counting job, where nothing executes it."""
    async with Durably(path or bench.database(), worker=False, durability=bench.durability) as durably:
        yield durably.register(counting)


@asynccontextmanager
async def working(
    bench: Bench, path: Path | None = None, *, durability: Durability | None = None
) -> AsyncGenerator[JobHandle[int, int]]:
    """The handle of the counting job, beside a worker of ten slots."""
    async with Durably(path or bench.database(), durability=durability or bench.durability) as durably:
        handle = durably.register(counting)
        await handle.trigger_and_wait(10)
        yield handle


async def trigger_all(handle: JobHandle[int, int], count: int, *, steps: int = 1) -> Stopwatch:
    """Trigger runs one by one."""
    with stopwatch() as watch:
        for _ in range(count):
            await handle.trigger(steps)
    return watch


class Endings:
    """Waits until a number of runs are completed, or suspended: by the event, which costs less than asking for each."""

    def __init__(
        self, durably: Durably, count: int, *, event: Literal["run:complete", "run:wait"] = "run:complete"
    ) -> None:
        self._left = count
        self._done = asyncio.Event()
        self.end = durably.on(event, self._count_down)

    def _count_down(self, _: object) -> None:
        self._left -= 1
        if not self._left:
            self._done.set()

    async def wait(self) -> None:
        """Return once they are."""
        await self._done.wait()
        self.end()


@dataclass(frozen=True, slots=True)
class Work:
    """What executing a number of steps has taken."""

    seconds: float
    cpu: float
    steps: int

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds


async def execute_all(bench: Bench, path: Path, *, runs: int, steps: int, slots: int) -> Work:
    """Execute runs that were triggered before, from the start of the worker to the last one's end."""
    durably = Durably(path, max_concurrent_runs=slots, durability=bench.durability)
    durably.register(counting)
    ended = Endings(durably, runs)
    await durably.migrate()
    cpu = time.process_time()
    with stopwatch() as watch:
        await durably.start()
        await ended.wait()
    cpu = time.process_time() - cpu
    await durably.close()
    return Work(watch.seconds, cpu, runs * steps)


async def latencies(handle: JobHandle[int, int], count: int) -> list[float]:
    """Seconds from before a trigger of one step until its caller has the output, one after another."""
    samples: list[float] = []
    for _ in range(count):
        with stopwatch() as watch:
            await handle.trigger_and_wait(1, timeout=60)
        samples.append(watch.seconds)
    return samples
