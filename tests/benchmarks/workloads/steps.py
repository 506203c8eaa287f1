"""Steps per second, and what one costs."""

from functools import partial

from tests.benchmarks import floors
from tests.benchmarks.bench import Bench, stopwatch
from tests.benchmarks.engine import Work, execute_all, triggering, working
from tests.benchmarks.figures import Figure, at_least, at_most

STEPS = 10


async def one_run(bench: Bench) -> list[Figure]:
    """One run of 1,000 steps, from its trigger to its output."""
    count = bench.scale.steps

    async def run() -> float:
        async with working(bench) as handle:
            with stopwatch() as watch:
                await handle.trigger_and_wait(count)
            return count / watch.seconds

    measured = await bench.rounds({"one run": run, **floors.steps(bench)})
    ratios = measured.floors("one run")
    return [
        Figure(
            name=f"steps of one run of {count:,}",
            value=measured.median("one run"),
            unit="/s",
            ratios=ratios,
            target=at_least("0.85 × C", ratios["C"], 0.85),
        ),
        Figure(name="floor L: one step a commit", value=measured.median("L"), unit="/s"),
        Figure(name="floor C", value=measured.median("C"), unit="/s"),
    ]


async def many_runs(bench: Bench) -> list[Figure]:
    """500 runs of 10 steps, 1, 10 and 50 at a time."""

    async def at(slots: int) -> float:
        return (await work(bench, slots)).rate

    alone, ten, fifty = (f"{bench.scale.runs} runs × {STEPS} steps, {n} at a time" for n in (1, 10, 50))
    measured = await bench.rounds(
        {
            alone: partial(at, 1),
            ten: partial(at, 10),
            fifty: partial(at, 50),
            **floors.steps(bench),
        }
    )
    targets = {
        ten: at_least("2.5 × L (aim: 3)", measured.ratio(ten, "L"), 2.5),
        fifty: at_least("4 × L (aim: 6)", measured.ratio(fifty, "L"), 4),
    }
    return [
        Figure(
            name=name,
            value=measured.median(name),
            unit="/s",
            ratios=measured.floors(name),
            target=targets.get(name),
        )
        for name in (alone, ten, fifty)
    ]


async def cpu(bench: Bench) -> list[Figure]:
    """CPU per step at 10 runs at a time; all threads of the process."""

    async def each() -> float:
        done = await work(bench, 10)
        return done.cpu / done.steps

    measured = await bench.rounds({"cpu": each, **floors.steps(bench, cpu=True)})
    value = measured.median("cpu")
    return [
        Figure(
            name="CPU per step, 10 runs at a time",
            value=value,
            unit="s",
            ratios=measured.floors("cpu"),
            target=at_most("60 µs", value, 60e-6),
        )
    ]


async def work(bench: Bench, slots: int) -> Work:
    """Trigger the runs, then execute them."""
    path, runs = bench.database(), bench.scale.runs
    async with triggering(bench, path) as handle:
        await handle.batch_trigger([STEPS] * runs)
    return await execute_all(bench, path, runs=runs, steps=STEPS, slots=slots)
