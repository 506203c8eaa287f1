"""Taking up a long run again: after a stop, and after a crash."""

import asyncio
import time
from pathlib import Path

from durably import Durably
from tests.benchmarks import floors
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.jobs import long_job
from tests.benchmarks.processes import neighbour
from tests.benchmarks.statements import STEPS_OF_RUN


async def resume(bench: Bench) -> list[Figure]:
    """A run with 5,000 steps: from the worker's start to the first new step."""
    steps = bench.scale.replayed
    begun_at: list[float] = []
    replays: list[float] = []

    async def stopped(path: Path) -> None:
        await _until_last_step(path, steps)

    path = await bench.kept(f"a run with {steps:,} steps", stopped)

    async def once() -> float:
        arrived = Arrival()
        durably = Durably(bench.copy(path), durability=bench.durability)
        durably.register(long_job(arrived))
        durably.on("run:start", lambda _: begun_at.append(time.perf_counter()))
        await durably.migrate()
        started = time.perf_counter()
        await durably.start()
        at = await arrived.wait()
        replays.append(at - begun_at[-1])
        await durably.close()
        return at - started

    measured = await bench.rounds({"resume": once, **floors.reading(bench, path, STEPS_OF_RUN, {"seq": 1})})
    value = measured.median("resume")
    return [
        Figure(
            name=f"worker's start → first new step, {steps:,} steps replayed",
            value=value,
            unit="s",
            ratios=measured.floors("resume"),
            target=at_most("0.1 s", value, 0.1),
        ),
        Figure(name="… of it in the job", value=sorted(replays)[len(replays) // 2], unit="s"),
        Figure(name="floor L: reading the steps", value=measured.median("L"), unit="s"),
        Figure(name="floor C", value=measured.median("C"), unit="s"),
    ]


async def crash(bench: Bench) -> list[Figure]:
    """SIGKILL one worker while another one is idle on the same host; leases of 30 s."""
    steps = bench.scale.replayed

    async def killed() -> float:
        path = bench.database()
        async with Durably(path, worker=False) as durably:
            await durably.register(long_job(_never)).trigger(steps)
        async with neighbour(path) as first:
            await first.expect("arrived")
            arrived = Arrival()
            second = Durably(path, stale_threshold=30.0, durability=bench.durability)
            second.register(long_job(arrived))
            async with second:
                await asyncio.sleep(0.5)
                dead = time.perf_counter()
                first.kill()
                return await arrived.wait() - dead

    measured = await bench.rounds({"crash": killed})
    value = measured.median("crash")
    return [
        Figure(
            name=f"SIGKILL → first new step on another worker, {steps:,} steps replayed",
            value=value,
            unit="s",
            target=at_most("1 s", value, 1.0),
            note="lease of 30 s",
        )
    ]


class Arrival:
    """The body of a long job's last step: tells when it was reached."""

    def __init__(self) -> None:
        self._reached: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> None:
        if not self._reached.done():
            self._reached.set_result(time.perf_counter())

    async def wait(self) -> float:
        """When it was reached."""
        async with asyncio.timeout(60):
            return await self._reached


async def _never() -> None:
    await asyncio.Event().wait()


async def _until_last_step(path: Path, steps: int) -> None:
    """Make a run whose steps are all done but the last, and that nobody executes."""
    reached = asyncio.Event()

    async def stay() -> None:
        reached.set()
        await asyncio.Event().wait()

    # Nobody will ever need to trust this file.
    async with Durably(path, durability="process") as durably:
        await durably.register(long_job(stay)).trigger(steps)
        await reached.wait()
        await durably.stop(drain=0)
