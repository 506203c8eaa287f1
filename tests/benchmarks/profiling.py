"""Where the time goes: one workload of the engine alone, under cProfile, on every thread."""

import cProfile
import pstats
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Self, TypeAlias

from rich.console import Console
from rich.table import Table

from tests.benchmarks.bench import Bench
from tests.benchmarks.engine import latencies, trigger_all, triggering, working
from tests.benchmarks.workloads.steps import work

Profiled: TypeAlias = Callable[[Bench], Awaitable[int]]
"""Does the work once, and answers how many operations it was."""

LINES = 40
SHOWN_PARTS = 3


async def _triggers(bench: Bench) -> int:
    async with triggering(bench) as handle:
        await trigger_all(handle, bench.scale.triggers)
    return bench.scale.triggers


async def _steps(bench: Bench) -> int:
    async with working(bench) as handle:
        await handle.trigger_and_wait(bench.scale.steps)
    return bench.scale.steps


async def _ten(bench: Bench) -> int:
    return (await work(bench, 10)).steps


async def _fifty(bench: Bench) -> int:
    return (await work(bench, 50)).steps


async def _latency(bench: Bench) -> int:
    async with working(bench) as handle:
        return len(await latencies(handle, bench.scale.samples))


PROFILED: Mapping[str, Profiled] = {
    "triggers": _triggers,
    "steps": _steps,
    "concurrency-10": _ten,
    "concurrency-50": _fifty,
    "latency": _latency,
}


class EveryThread:
    """Profiles this thread, and every one that starts while it is open."""

    def __init__(self) -> None:
        self._profiles = [cProfile.Profile()]

    def __enter__(self) -> Self:
        # From Python 3.12 on one profile hears of all threads; before, each needs its own.
        if sys.version_info < (3, 12):
            threading.setprofile(self._begin)
        self._profiles[0].enable()
        return self

    def __exit__(self, *_: object) -> None:
        self._profiles[0].disable()
        threading.setprofile(None)

    def _begin(self, _frame: FrameType, _event: str, _argument: object) -> None:
        profile = cProfile.Profile()
        self._profiles.append(profile)
        profile.enable()

    def statistics(self) -> pstats.Stats:
        """Of all threads together."""
        own, *others = self._profiles
        together = pstats.Stats(own)
        for other in others:
            other.create_stats()
            if other.getstats():
                together.add(other)
        return together


async def profile(bench: Bench, name: str, console: Console) -> None:
    """Print what the functions of a workload cost, per operation."""
    await PROFILED[name](bench)
    with EveryThread() as threads:
        operations = await PROFILED[name](bench)
    table = Table(title=f"{name}: {operations:,} operations, µs of each", title_justify="left")
    for column in ("own", "with callees", "calls"):
        table.add_column(column, justify="right")
    table.add_column("function", overflow="fold")
    for own, total, calls, function in ranked(threads.statistics(), operations)[:LINES]:
        table.add_row(f"{own:.1f}", f"{total:.1f}", f"{calls:.2f}", function)
    console.print(table)
    console.print("The profile itself costs about a microsecond a call, so trust the order, not the sum.")


def ranked(statistics: pstats.Stats, operations: int) -> list[tuple[float, float, float, str]]:
    """Own time, time with callees (µs) and calls of each function, per operation, the dearest first."""
    rows: list[tuple[float, float, float, str]] = []
    for function, line in statistics.get_stats_profile().func_profiles.items():
        calls = float(str(line.ncalls).split("/", maxsplit=1)[0])
        place = "/".join(line.file_name.rsplit("/", SHOWN_PARTS)[1:])
        where = f"{place}:{line.line_number} {function}" if line.line_number else function
        each = 1e6 / operations
        rows.append((line.tottime * each, line.cumtime * each, calls / operations, where))
    return sorted(rows, reverse=True)
