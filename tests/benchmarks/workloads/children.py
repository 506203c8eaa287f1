"""Child runs per second."""

from collections.abc import Callable

from durably import Durably, JobDefinition
from tests.benchmarks import floors
from tests.benchmarks.bench import Bench, Measure, stopwatch
from tests.benchmarks.engine import Endings
from tests.benchmarks.figures import Figure
from tests.benchmarks.floors import Commit
from tests.benchmarks.jobs import fanning_out, invoking, leaf, spawning
from tests.benchmarks.statements import (
    BEGIN_WAIT,
    CLAIM_RUN,
    END_WAIT,
    FINISH_RUN,
    INSERT_RUN,
    SUSPEND_RUN,
    WAKE_RUN,
    claim,
    new_run,
    outcome,
    waiting,
)

EACH = 10
"""Children of one parent, where they come one after another."""


async def children(bench: Bench) -> list[Figure]:
    """Children without a step, to the end of all: invoked in turn, side by side, and spawned; ten slots."""
    count = bench.scale.runs
    in_turn = f"invoked in turn, {count // EACH} parents × {EACH} children"
    beside = f"invoked side by side, one parent × {count} children"
    spawned = f"spawned in turn, one parent × {count} children"
    measured = await bench.rounds(
        {
            in_turn: _measure(bench, invoking, [EACH] * (count // EACH)),
            beside: _measure(bench, fanning_out, [count]),
            spawned: _measure(bench, spawning, [count]),
            **_floor(bench, "in turn", _in_turn),
            **_floor(bench, "beside", _beside),
        }
    )

    def figure(name: str, floor: str) -> Figure:
        ratios = {which: measured.ratio(name, f"{which} {floor}") for which in ("L", "C")}
        return Figure(name=f"children {name}", value=measured.median(name), unit="/s", ratios=ratios)

    return [
        figure(in_turn, "in turn"),
        figure(beside, "beside"),
        figure(spawned, "beside"),
        Figure(name="floor L: four commits a child", value=measured.median("L in turn"), unit="/s"),
        Figure(
            name="floor L: three, where they do not wait in turn",
            value=measured.median("L beside"),
            unit="/s",
        ),
    ]


def _measure(bench: Bench, parent: JobDefinition[int, int], inputs: list[int]) -> Measure:
    async def per_second() -> float:
        async with Durably(bench.database(), durability=bench.durability) as durably:
            durably.register(leaf)
            ended = Endings(durably, len(inputs) + sum(inputs))
            with stopwatch() as watch:
                await durably.register(parent).batch_trigger(inputs)
                await ended.wait()
        return sum(inputs) / watch.seconds

    return per_second


def _floor(bench: Bench, name: str, life: Callable[[int, str], list[Commit]]) -> dict[str, Measure]:
    both = floors.lives(bench, life, count=bench.scale.runs)
    return {f"{which} {name}": measure for which, measure in both.items()}


def _in_turn(seq: int, run_id: str) -> list[Commit]:
    """The run stands for a child; the wait's row may be its own, which costs the same."""
    values = waiting(seq)
    return [
        [(INSERT_RUN, new_run()), (BEGIN_WAIT, values), (SUSPEND_RUN, values)],
        [(CLAIM_RUN, claim(seq))],
        [(FINISH_RUN, outcome(run_id)), (END_WAIT, values), (WAKE_RUN, values)],
        [(CLAIM_RUN, claim(seq))],
    ]


def _beside(seq: int, run_id: str) -> list[Commit]:
    values = waiting(seq)
    return [
        [(INSERT_RUN, new_run()), (BEGIN_WAIT, values)],
        [(CLAIM_RUN, claim(seq))],
        [(FINISH_RUN, outcome(run_id)), (END_WAIT, values)],
    ]
