"""Where the time goes: one workload of the engine alone, under cProfile, on every thread."""

import cProfile
import sys
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Self, TypeAlias

from rich.console import Console
from rich.table import Table

from tests.benchmarks.bench import Bench
from tests.benchmarks.engine import latencies, trigger_all, triggering, working
from tests.benchmarks.workloads.steps import work

Profiled: TypeAlias = Callable[[Bench], Awaitable[int]]
"""Does the work once, and answers how many operations it was."""

LINES = 50
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

    def costs(self) -> "list[Cost]":
        """Of all threads together, the dearest first."""
        together: defaultdict[str, Cost] = defaultdict(Cost)
        for profile in self._profiles:
            for entry in profile.getstats():
                cost = together[_place(entry.code)]
                cost.own += entry.inlinetime
                cost.total += entry.totaltime
                cost.calls += entry.callcount
        for place, cost in together.items():
            cost.place = place
        return sorted(together.values(), key=lambda cost: cost.own, reverse=True)


@dataclass(slots=True)
class Cost:
    """What a function costs, in seconds."""

    place: str = ""
    own: float = 0.0
    total: float = 0.0
    """With everything it calls; of a coroutine, the sum over its pieces."""
    calls: int = 0


def _place(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    file = "/".join(code.co_filename.rsplit("/", SHOWN_PARTS)[1:])
    return f"{file}:{code.co_firstlineno} {code.co_qualname}"


async def profile(bench: Bench, name: str, console: Console) -> None:
    """Print what the functions of a workload cost, per operation."""
    await PROFILED[name](bench)
    with EveryThread() as threads:
        operations = await PROFILED[name](bench)
    table = Table(title=f"{name}: {operations:,} operations, µs of each", title_justify="left")
    for column in ("own", "with callees", "calls"):
        table.add_column(column, justify="right")
    table.add_column("function", overflow="fold")
    each = 1e6 / operations
    for cost in threads.costs()[:LINES]:
        calls = cost.calls / operations
        table.add_row(f"{cost.own * each:.2f}", f"{cost.total * each:.2f}", f"{calls:.2f}", cost.place)
    console.print(table)
    console.print(
        "Waiting counts as well, and the profile costs about a microsecond a call: trust the order."
    )
