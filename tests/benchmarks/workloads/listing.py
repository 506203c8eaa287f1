"""Looking at lists of runs among very many."""

from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median

from durably import Durably, Run
from tests.benchmarks import crowds, floors
from tests.benchmarks.bench import Bench, Measure, stopwatch
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.statements import LATEST

PAGE = 50


async def listing(bench: Bench) -> list[Figure]:
    """The latest 50 finished runs of 100,000, and 50 by status, job, label and page."""
    figures: list[Figure] = []
    for size in sorted({bench.scale.crowd, bench.scale.largest_crowd}):
        figures += await _among(bench, size)
    return figures


async def _among(bench: Bench, size: int) -> list[Figure]:
    path = await bench.kept(f"{size:,} finished", partial(crowds.finished, size=size))
    async with Durably(path, worker=False) as durably:
        lists: dict[str, Callable[[], Awaitable[list[Run]]]] = {
            f"latest {PAGE}": partial(durably.get_runs, limit=PAGE),
            "by status (1 %)": partial(durably.get_runs, status="failed", limit=PAGE),
            "by status (99 %)": partial(durably.get_runs, status="completed", limit=PAGE),
            "by job": partial(durably.get_runs, job_name="counting", limit=PAGE),
            "by one label": partial(durably.get_runs, labels={"tenant": "t7"}, limit=PAGE),
            "a page from the middle": partial(durably.get_runs, before=size // 2, limit=PAGE),
        }
        measures: dict[str, Measure] = {name: partial(_median, bench, ask) for name, ask in lists.items()}
        measured = await bench.rounds({**measures, **floors.reading(bench, path, LATEST)})
    return [
        Figure(
            name=f"list of {size:,}: {name}, p50",
            value=measured.median(name),
            unit="s",
            ratios=measured.floors(name),
            target=at_most("1.5 ms", measured.median(name), 0.0015),
        )
        for name in lists
    ]


async def _median(bench: Bench, ask: Callable[[], Awaitable[list[Run]]]) -> float:
    samples: list[float] = []
    for _ in range(bench.scale.samples):
        with stopwatch() as watch:
            await ask()
        samples.append(watch.seconds)
    return median(samples)
