"""The workbench: how much is measured, where the databases stand, and how measurements are paired."""

import gc
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from durably import Durability

if TYPE_CHECKING:
    from collections.abc import Generator

Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    rounds: int = 3
    triggers: int = 1_000
    steps: int = 1_000
    runs: int = 500
    samples: int = 200
    tries: int = 5
    crowd: int = 100_000
    largest_crowd: int = 100_000
    replayed: int = 5_000
    idle_seconds: float = 5.0
    idle_processes: int = 1


NORMAL = Scale()
QUICK = Scale(
    triggers=300, steps=500, runs=100, samples=40, tries=2, crowd=5_000, largest_crowd=5_000, replayed=1_000,
    idle_seconds=2.0,
)  # fmt: skip
FULL = Scale(rounds=5, largest_crowd=1_000_000, idle_processes=8)


class Bench:
    """Hands out databases and takes measurements."""

    def __init__(
        self, directory: Path, scale: Scale, *, durability: Durability, tell: Callable[[str], None]
    ) -> None:
        self.scale = scale
        self.durability: Durability = durability
        self.tell = tell
        """Say what is being done; shown until something else is."""
        self._directory = directory
        self._numbers = count(1)
        self._kept: dict[str, Path] = {}

    def database(self) -> Path:
        """The path of a database that does not exist yet."""
        folder = self._directory / str(next(self._numbers))
        folder.mkdir()
        return folder / "bench.db"

    def copy(self, database: Path) -> Path:
        """A copy of a database that nobody has open."""
        copy = self.database()
        shutil.copy(database, copy)
        return copy

    async def kept(self, name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        """A database that is expensive to make: made once, and shared by whoever asks for it."""
        if name not in self._kept:
            self.tell(f"preparing {name}")
            path = self.database()
            await make(path)
            self._kept[name] = path
        return self._kept[name]

    async def rounds(self, measures: Mapping[str, Measure]) -> "Rounds":
        """Take each measurement in turn, round after round: the machine's mood hits all of them alike."""
        taken: dict[str, list[float]] = {name: [] for name in measures}
        for number in range(self.scale.rounds):
            for name, measure in measures.items():
                self.tell(f"{name}, round {number + 1} of {self.scale.rounds}")
                gc.collect()
                taken[name].append(await measure())
        return Rounds(taken)


class Rounds:
    """Measurements that were taken side by side."""

    def __init__(self, taken: Mapping[str, list[float]]) -> None:
        self._taken = taken

    def median(self, name: str) -> float:
        """The middle of its rounds."""
        return median(self._taken[name])

    def ratio(self, name: str, to: str) -> float:
        """The middle of the rounds' own ratios."""
        pairs = zip(self._taken[name], self._taken[to], strict=True)
        return median(one / other for one, other in pairs)

    def floors(self, name: str) -> dict[str, float]:
        """The ratio to both floors."""
        return {floor: self.ratio(name, floor) for floor in ("L", "C")}


class Stopwatch:
    """Seconds, filled in at the end of `stopwatch`'s block."""

    seconds = 0.0


@contextmanager
def stopwatch() -> "Generator[Stopwatch]":
    """Time a block."""
    watch = Stopwatch()
    begun = time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = time.perf_counter() - begun


def p95(samples: list[float]) -> float:
    """What 95 of 100 stay below."""
    return quantiles(samples, n=20, method="inclusive")[-1]
