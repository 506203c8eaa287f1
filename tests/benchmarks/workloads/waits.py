"""Suspended runs: how many a second, and how soon one goes on."""

import asyncio
import time
from statistics import median

from durably import Durably, JobHandle
from tests.benchmarks import floors
from tests.benchmarks.bench import Bench, p95, stopwatch
from tests.benchmarks.engine import Endings
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.floors import Commit
from tests.benchmarks.jobs import awaiting_job, napping
from tests.benchmarks.processes import neighbour
from tests.benchmarks.statements import (
    BEGIN_WAIT,
    CLAIM_RUN,
    END_WAIT,
    FINISH_RUN,
    INSERT_SIGNAL,
    SUSPEND_RUN,
    WAKE_RUN,
    claim,
    outcome,
    waiting,
)

RUNS_A_SECOND = 200
"""So many are suspended in a second at the least, or the first would wake before the last is."""


def _suspended(seq: int, _: str) -> list[Commit]:
    values = waiting(seq)
    return [[(CLAIM_RUN, claim(seq))], [(BEGIN_WAIT, values), (SUSPEND_RUN, values)]]


def _woken(seq: int, run_id: str) -> list[Commit]:
    values = waiting(seq)
    return [[(WAKE_RUN, values), (CLAIM_RUN, claim(seq)), (END_WAIT, values)], _ended(run_id)]


def _resumed(seq: int, _: str) -> list[Commit]:
    values = waiting(seq)
    return [[(INSERT_SIGNAL, values), (END_WAIT, values), (WAKE_RUN, values)], [(CLAIM_RUN, claim(seq))]]


def _ended(run_id: str) -> Commit:
    return [(FINISH_RUN, {**outcome(run_id), "generation": 2})]


async def sleeps(bench: Bench) -> list[Figure]:
    """500 runs that sleep until one instant: suspended, then woken and completed; ten slots."""
    count = bench.scale.runs
    halves: dict[str, list[float]] = {"suspended": [], "woken and completed": []}

    async def both() -> float:
        async with Durably(bench.database(), durability=bench.durability) as durably:
            handle = durably.register(napping)
            parked, ended = Endings(durably, count, event="run:wait"), Endings(durably, count)
            until = time.time() + 2 + count / RUNS_A_SECOND
            with stopwatch() as first:
                await handle.batch_trigger([until] * count)
                await parked.wait()
            rest = until - time.time()
            if rest < 0:
                raise RuntimeError(f"{count} runs were not suspended in time")
            await asyncio.sleep(rest)
            with stopwatch() as second:
                await ended.wait()
        for half, watch in zip(halves, (first, second), strict=True):
            halves[half].append(count / watch.seconds)
        return count / (first.seconds + second.seconds)

    floor = floors.lives(
        bench, lambda seq, run_id: [*_suspended(seq, run_id), *_woken(seq, run_id)], count=count
    )
    measured = await bench.rounds({"both": both, **floor})
    return [
        Figure(
            name="suspended, woken and completed",
            value=measured.median("both"),
            unit="/s",
            ratios=measured.floors("both"),
        ),
        *(Figure(name=f"… {half}", value=median(rates), unit="/s") for half, rates in halves.items()),
        Figure(name="floor L: its four commits", value=measured.median("L"), unit="/s"),
        Figure(name="floor C", value=measured.median("C"), unit="/s"),
    ]


async def signals(bench: Bench) -> list[Figure]:
    """500 suspended runs, all sent their signals: from the first to the last one's end; ten slots."""
    count = bench.scale.runs

    async def send() -> float:
        async with Durably(bench.database(), durability=bench.durability) as durably:
            runs = await _parked(durably, durably.register(awaiting_job(time.perf_counter)), count)
            ended = Endings(durably, count)
            with stopwatch() as watch:
                await asyncio.gather(*(durably.signal("go", 1, run_id=run) for run in runs))
                await ended.wait()
        return count / watch.seconds

    floor = floors.lives(
        bench, lambda seq, run_id: [*_resumed(seq, run_id), _ended(run_id)], before=_suspended, count=count
    )
    measured = await bench.rounds({"signals": send, **floor})
    return [
        Figure(
            name="signals sent, their runs completed",
            value=measured.median("signals"),
            unit="/s",
            ratios=measured.floors("signals"),
        ),
        Figure(name="floor L: their three commits", value=measured.median("L"), unit="/s"),
        Figure(name="floor C", value=measured.median("C"), unit="/s"),
    ]


async def signal_latency(bench: Bench) -> list[Figure]:
    """Send a signal: how soon its run goes on, here and in another process."""
    samples: dict[str, list[float]] = {"here": [], "there": []}

    async def in_this_process() -> float:
        resumed: list[float] = []
        taken: list[float] = []
        async with Durably(bench.database(), durability=bench.durability) as durably:
            handle = durably.register(awaiting_job(lambda: resumed.append(time.perf_counter())))
            for run in await _parked(durably, handle, bench.scale.samples):
                begun = time.perf_counter()
                await durably.signal("go", 1, run_id=run)
                await durably.wait_for_run(run, timeout=60)
                taken.append(resumed[-1] - begun)
        samples["here"] += taken
        return median(taken)

    async def in_another_process() -> float:
        path = bench.database()
        taken: list[float] = []
        async with Durably(path, worker=False, durability=bench.durability) as durably, neighbour(path):
            handle = durably.register(awaiting_job(time.perf_counter))
            runs = await handle.batch_trigger([1] * bench.scale.samples)
            while await handle.get_runs(status=("pending", "running"), limit=1):
                await asyncio.sleep(0.05)
            for run in runs:
                sent = time.time()
                await durably.signal("go", 1, run_id=run.id)
                ended = (await durably.wait_for_run(run.id, timeout=60)).completed_at
                taken.append(0.0 if ended is None else ended.timestamp() - sent)
        samples["there"] += taken
        return median(taken)

    measured = await bench.rounds(
        {
            "here": in_this_process,
            "there": in_another_process,
            **floors.lives(bench, _resumed, before=_suspended, count=bench.scale.samples, seconds=True),
        }
    )
    here, there = measured.median("here"), measured.median("there")
    return [
        Figure(
            name="signal → the job goes on, same process, p50",
            value=here,
            unit="s",
            ratios=measured.floors("here"),
            target=at_most("4 ms", here, 0.004),
        ),
        Figure(name="… p95", value=p95(samples["here"]), unit="s"),
        Figure(
            name="signal → the run's end as stored, worker in another process, p50",
            value=there,
            unit="s",
            target=at_most("25 ms", there, 0.025),
        ),
        Figure(name="… p95", value=p95(samples["there"]), unit="s"),
        Figure(name="floor L: signal and claim", value=measured.median("L"), unit="s"),
        Figure(name="floor C", value=measured.median("C"), unit="s"),
    ]


async def _parked(durably: Durably, handle: JobHandle[int, int], count: int) -> list[str]:
    """Runs that wait for their signals; their ids."""
    parked = Endings(durably, count, event="run:wait")
    runs = await handle.batch_trigger([1] * count)
    await parked.wait()
    return [run.id for run in runs]
