"""From trigger to completion, one run of one step at a time."""

from statistics import median

from durably import Durability
from tests.benchmarks import floors
from tests.benchmarks.bench import Bench, p95
from tests.benchmarks.engine import latencies, triggering, working
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.processes import neighbour


async def same_process(bench: Bench) -> list[Figure]:
    """Trigger and wait beside the worker, in its own process."""
    samples: list[float] = []
    unsynced: list[float] = []

    async def one(durability: Durability, into: list[float]) -> float:
        async with working(bench, durability=durability) as handle:
            taken = await latencies(handle, bench.scale.samples)
        into += taken
        return median(taken)

    measured = await bench.rounds(
        {
            "same process": lambda: one(bench.durability, samples),
            **floors.whole_runs(bench),
            "same process, not synced": lambda: one("process", unsynced),
        }
    )
    p50, quick = measured.median("same process"), measured.median("same process, not synced")
    return [
        Figure(
            name="trigger → completed, same process, p50",
            value=p50,
            unit="s",
            ratios=measured.floors("same process"),
            target=at_most("4 ms", p50, 0.004),
        ),
        Figure(name="… p95", value=p95(samples), unit="s"),
        Figure(
            name="… durability='process', p50",
            value=quick,
            unit="s",
            target=at_most("2 ms", quick, 0.002),
        ),
        Figure(name="… p95", value=p95(unsynced), unit="s"),
        Figure(name="floor L: the four commits", value=measured.median("L"), unit="s"),
        Figure(name="floor C", value=measured.median("C"), unit="s"),
    ]


async def across_processes(bench: Bench) -> list[Figure]:
    """Trigger here, execute there, wait here: two processes that notice each other's commits."""
    samples: list[float] = []
    executing: list[float] = []

    async def across() -> float:
        path = bench.database()
        async with triggering(bench, path) as handle, neighbour(path):
            await latencies(handle, 5)
            taken = await latencies(handle, bench.scale.samples)
            samples.extend(taken)
            runs = await handle.get_runs(status="completed", limit=bench.scale.samples)
            executing.extend((run.updated_at - run.created_at).total_seconds() for run in runs)
        return median(taken)

    measured = await bench.rounds({"across processes": across, **floors.whole_runs(bench)})
    p50 = measured.median("across processes")
    return [
        Figure(
            name="trigger → output, worker in another process, p50",
            value=p50,
            unit="s",
            ratios=measured.floors("across processes"),
            target=at_most("25 ms", p50, 0.025),
        ),
        Figure(name="… p95", value=p95(samples), unit="s"),
        Figure(name="… created → completed as stored, p50", value=median(executing), unit="s"),
        Figure(name="… p95", value=p95(executing), unit="s"),
    ]
