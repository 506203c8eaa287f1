"""The same work beside a crowd of runs that have nothing to do with it."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from durably import Durably, JobHandle, RealEnvironment
from durably.stores.sqlite import SqliteStore
from durably.stores.values import ClaimRequest
from tests.benchmarks import crowds
from tests.benchmarks.bench import Bench, Rounds, stopwatch
from tests.benchmarks.engine import Endings, triggering
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.jobs import counting

BOUND = 1.2
RUNS = 20
STEPS = 10


async def growth(bench: Bench) -> list[Figure]:
    """Triggers, claims, steps and latency with 100,000 runs in the way, against an empty database."""
    size, largest = bench.scale.crowd, bench.scale.largest_crowd
    kinds: dict[str, Callable[[Path], Awaitable[None]]] = {
        f"{size:,} finished": partial(crowds.finished, size=size),
        f"{size:,} delayed": partial(crowds.delayed, size=size),
        f"{size:,} asleep": partial(crowds.asleep, size=size),
        f"{size:,} waiting for signals": partial(crowds.awaiting_signals, size=size),
        f"{size:,} of an unknown job": partial(crowds.of_unknown_job, size=size),
        f"{size:,} behind a busy key": partial(crowds.behind_busy_key, size=size),
    }
    if largest > size:
        kinds[f"{largest:,} finished"] = partial(crowds.finished, size=largest)
    empty = await bench.kept("an empty database", crowds.nobody)
    figures: list[Figure] = []
    for name, make in kinds.items():
        figures += await _beside(bench, name, await bench.kept(name, make), empty)
    return figures


async def _beside(bench: Bench, name: str, crowded: Path, empty: Path) -> list[Figure]:
    # Copies: what a measurement leaves behind is not the next one's crowd.
    places = {"crowded": bench.copy(crowded), "empty": bench.copy(empty)}
    async with AsyncExitStack() as stack:
        idle = {
            which: await stack.enter_async_context(triggering(bench, path)) for which, path in places.items()
        }
        triggers = await _alternating(bench, {which: partial(_trigger, one) for which, one in idle.items()})
    claims = await _claims(bench, {which: bench.copy(path) for which, path in places.items()})
    async with AsyncExitStack() as stack:
        open_ = {which: Durably(path, durability=bench.durability) for which, path in places.items()}
        busy = {which: await stack.enter_async_context(one) for which, one in open_.items()}
        steps = await _alternating(
            bench, {which: partial(_steps, one) for which, one in busy.items()}, count=20
        )
        runs = await _alternating(bench, {which: partial(_run, one) for which, one in busy.items()})

    def compared(what: str, taken: Rounds, *, rate: int = 0) -> Figure:
        value = taken.median("crowded")
        ratio = value / taken.median("empty")
        return Figure(
            name=f"{name}: {what}",
            value=rate / value if rate else value,
            unit="/s" if rate else "s",
            ratios={"the time in an empty one": ratio},
            target=at_most(f"{BOUND} × an empty database", ratio, BOUND),
        )

    return [
        compared("triggers", triggers, rate=1),
        compared("a claim", claims),
        compared("steps, 10 runs at a time", steps, rate=RUNS * STEPS),
        compared("trigger → completed, p50", runs),
    ]


async def _alternating(
    bench: Bench, measures: dict[str, Callable[[], Awaitable[None]]], *, count: int = 0
) -> Rounds:
    """Single operations in turns: the difference sought is smaller than the machine's moods."""
    taken: dict[str, list[float]] = {which: [] for which in measures}
    for measure in measures.values():
        await measure()
    for _ in range(count or bench.scale.samples):
        for which, measure in measures.items():
            with stopwatch() as watch:
                await measure()
            taken[which].append(watch.seconds)
    return Rounds(taken)


async def _claims(bench: Bench, places: dict[str, Path]) -> Rounds:
    """Claims of one run each, asked of the store itself."""
    for path in places.values():
        async with triggering(bench, path) as handle:
            await handle.batch_trigger([1] * (bench.scale.samples + 1), priority=1000)
    request = ClaimRequest(
        worker_id="bench", jobs=[counting.name], limit=1, lease_seconds=crowds.FAR, max_crashes=5
    )
    stores = {
        which: SqliteStore(path, environment=RealEnvironment(), durability=bench.durability)
        for which, path in places.items()
    }
    for store in stores.values():
        await store.open()

    async def claim(store: SqliteStore) -> None:
        if not (await store.claim(request)).claims:
            raise RuntimeError("there was nothing to claim")

    taken = await _alternating(bench, {which: partial(claim, store) for which, store in stores.items()})
    for store in stores.values():
        await store.close()
    return taken


async def _trigger(handle: JobHandle[int, int]) -> None:
    # Due later, so that there is nothing to do for the worker that comes after.
    await handle.trigger(1, delay=crowds.FAR)


async def _steps(durably: Durably) -> None:
    ended = Endings(durably, RUNS)
    await durably.register(counting).batch_trigger([STEPS] * RUNS)
    await ended.wait()


async def _run(durably: Durably) -> None:
    await durably.register(counting).trigger_and_wait(1)
