"""What a process costs before and beside its work."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

from durably import Durably
from tests.benchmarks import crowds
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.jobs import counting
from tests.benchmarks.processes import neighbour, python

IMPORT = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"
NEEDED = "asyncio, sqlite3, pydantic"
PROBING = "looks for other processes' writes every 20 ms, polls every 1 s"


async def imports(bench: Bench) -> list[Figure]:
    """`import durably` in a fresh interpreter; the best of several."""

    # As after an installation: compiled once, by the first of them.
    bytecode = bench.database().parent
    await python("import durably", bytecode=bytecode)

    async def best(modules: str) -> float:
        code = IMPORT.format(modules)
        return min([float(await python(code, bytecode=bytecode)) for _ in range(bench.scale.tries)])

    measured = await bench.rounds({"durably": lambda: best("durably"), "needed": lambda: best(NEEDED)})
    value = measured.median("durably")
    return [
        Figure(
            name="import durably",
            value=value,
            unit="s",
            ratios={"what it imports": measured.ratio("durably", "needed")},
            target=at_most("0.2 s", value, 0.2),
            note=f"of it {measured.median('needed') * 1e3:.0f} ms for {NEEDED}",
        )
    ]


async def memory(bench: Bench) -> list[Figure]:
    """Peak memory of a worker with 50 runs at a time, alone and beside 100,000 delayed runs."""
    idle: list[float] = []
    size = bench.scale.crowd
    crowded = await bench.kept(f"{size:,} delayed", partial(crowds.delayed, size=size))

    async def peak(crowd: Path | None = None) -> float:
        path = bench.copy(crowd) if crowd is not None else bench.database()
        async with Durably(path, worker=False) as durably, neighbour(path, slots=50) as worker:
            idle.append(float((await worker.usage()).peak))
            runs = await durably.register(counting).batch_trigger([10] * bench.scale.runs)
            await asyncio.gather(*(durably.wait_for_run(run.id) for run in runs))
            return float((await worker.usage()).peak)

    measured = await bench.rounds({"memory": peak, "beside": lambda: peak(crowded)})
    value = measured.median("memory")
    return [
        Figure(
            name="peak memory of a worker, 50 runs at a time",
            value=value,
            unit="bytes",
            ratios={"an idle worker": value / median(idle)},
            target=at_most("60 MB", value, 60e6),
        ),
        Figure(
            name=f"… beside {size:,} delayed runs",
            value=measured.median("beside"),
            unit="bytes",
            ratios={"without them": measured.ratio("beside", "memory")},
        ),
    ]


async def idle(bench: Bench) -> list[Figure]:
    """CPU of workers that have nothing to do, side by side on one database."""
    figures: list[Figure] = []
    for count in sorted({1, bench.scale.idle_processes}):
        shares = await _idle_shares(bench, count)
        worst = max(shares)
        figures.append(
            Figure(
                name=f"CPU of an idle worker, {count} on the database",
                value=worst,
                unit="cpu",
                target=at_most("1 % of a core", worst, 0.01),
                note=PROBING,
            )
        )
    return figures


async def _idle_shares(bench: Bench, count: int) -> list[float]:
    path, seconds = bench.database(), bench.scale.idle_seconds
    bench.tell(f"{count} idle for {seconds:.0f} s")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(neighbour(path)) for _ in range(count)]
        await asyncio.sleep(1)
        before = [(await worker.usage()).cpu for worker in workers]
        await asyncio.sleep(seconds)
        after = [(await worker.usage()).cpu for worker in workers]
    return [(late - early) / seconds for early, late in zip(before, after, strict=True)]
