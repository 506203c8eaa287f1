"""Triggers per second."""

from durably import JobHandle
from tests.benchmarks import floors
from tests.benchmarks.bench import Bench, stopwatch
from tests.benchmarks.engine import trigger_all, triggering
from tests.benchmarks.figures import Figure, Target, at_least

BATCH = 1_000
BATCHES = 10


async def triggers(bench: Bench) -> list[Figure]:
    """Triggers one by one."""

    async def one_by_one() -> float:
        async with triggering(bench) as handle:
            count = bench.scale.triggers
            return count / (await trigger_all(handle, count)).seconds

    measured = await bench.rounds({"one by one": one_by_one, **floors.triggers(bench)})
    ratios = measured.floors("one by one")
    return [
        Figure(
            name="triggers, one by one",
            value=measured.median("one by one"),
            unit="/s",
            ratios=ratios,
            target=at_least("0.8 × C", ratios["C"], 0.8),
        ),
        Figure(name="floor L: one new run a commit", value=measured.median("L"), unit="/s"),
        Figure(name="floor C", value=measured.median("C"), unit="/s"),
    ]


async def batches(bench: Bench) -> list[Figure]:
    """Triggers in batches of 1,000."""

    async def in_batches() -> float:
        async with triggering(bench) as handle:
            with stopwatch() as watch:
                await _batches(handle)
            return BATCH * BATCHES / watch.seconds

    measured = await bench.rounds({"in batches": in_batches, **floors.batches(bench)})
    rate, ratios = measured.median("in batches"), measured.floors("in batches")
    return [
        Figure(
            name="triggers, in batches of 1,000",
            value=rate,
            unit="/s",
            ratios=ratios,
            target=Target("≥ 40,000/s or 0.3 × L", rate >= 40_000 or ratios["L"] >= 0.3),
        ),
        Figure(name="floor L: commits of 100 new runs", value=measured.median("L"), unit="/s"),
        Figure(name="floor C", value=measured.median("C"), unit="/s"),
    ]


async def _batches(handle: JobHandle[int, int]) -> None:
    for _ in range(BATCHES):
        await handle.batch_trigger([1] * BATCH)
