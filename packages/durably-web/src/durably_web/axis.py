"""A time axis: where an instant stands, in percent; stretches in which nothing executed are folded."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from durably_web import wording

Span: TypeAlias = tuple[float, float]

FOLDED_FROM: Final = 0.25
"""An idle stretch of at least this part of the time that is not idle is folded …"""
LEAST_FOLDED: Final = 5.0
"""… if it is as long as this, in seconds."""
FOLD: Final = 7.0
"""Percent of the axis that a folded stretch takes at least, unless there are many of them …"""
SHARE: Final = 40.0
"""… and that one takes which is nearly everything."""
MOST_FOLDED: Final = 50.0
"""Percent that all of them take at most."""
MOST_DRAWN: Final = 12
"""Of very many, the longest are drawn: each is drawn in every row."""
MOST_TOLD: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A stretch in which nothing executed, shown narrower than it was."""

    x: float
    width: float
    label: str


class Axis:
    """From one instant to another.

    Args:
        origin: Where it begins.
        end: Where it ends.
        busy: The stretches in which something executed, in seconds since the epoch.
    """

    def __init__(self, origin: datetime, end: datetime, busy: Iterable[Span]) -> None:
        self.origin = origin
        self.length: float = max((end - origin).total_seconds(), 0.001)
        first = origin.timestamp()
        idle = _folded(first, first + self.length, sorted(busy))
        busy_for = self.length - sum(stop - start for start, stop in idle)
        if busy_for < 1e-6:  # there is nothing to make room for
            idle, busy_for = [], self.length
        widths = _widths([stop - start for start, stop in idle], self.length)
        scale = (100.0 - sum(widths)) / busy_for
        # Between these knots instants and places rise evenly.
        self._instants, self._places = [first], [0.0]
        for (start, stop), width in zip(idle, widths, strict=True):
            x = self._places[-1] + (start - self._instants[-1]) * scale
            self._instants += [start, stop]
            self._places += [x, x + width]
        self._instants.append(first + self.length)
        self._places.append(100.0)
        drawn = sorted(idle, key=lambda gap: gap[0] - gap[1])[:MOST_DRAWN]
        self.folds: tuple[Fold, ...] = tuple(self._fold(start, stop) for start, stop in sorted(drawn))
        self.idle: str = _words([stop - start for start, stop in idle])

    def place(self, instant: float) -> float:
        """Where an instant stands."""
        knot = min(max(bisect_right(self._instants, instant), 1), len(self._instants) - 1)
        start, stop = self._instants[knot - 1], self._instants[knot]
        x, end = self._places[knot - 1], self._places[knot]
        return min(max(x + (end - x) * (instant - start) / max(stop - start, 1e-9), 0.0), 100.0)

    def _fold(self, start: float, stop: float) -> Fold:
        x = self.place(start)
        return Fold(x=x, width=self.place(stop) - x, label=wording.duration(stop - start))


def _folded(origin: float, end: float, busy: Sequence[Span]) -> list[Span]:
    """The idle stretches that would leave too little to the rest, in order."""
    gaps: list[Span] = []
    reached = origin
    for start, stop in busy:
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, stop)
    gaps.append((reached, max(end, reached)))
    long = [gap for gap in gaps if gap[1] - gap[0] >= LEAST_FOLDED]
    rest = end - origin - sum(stop - start for start, stop in long)
    return [gap for gap in long if gap[1] - gap[0] >= FOLDED_FROM * rest]


def _widths(lengths: Sequence[float], whole: float) -> list[float]:
    widths = [max(FOLD, SHARE * length / whole) for length in lengths]
    return [width * min(1.0, MOST_FOLDED / sum(widths)) for width in widths]


def _words(lengths: Sequence[float]) -> str:
    """What is folded; nothing if nothing is."""
    if not lengths:
        return ""
    if len(lengths) > MOST_TOLD:
        return f"{len(lengths):,} idle stretches, {wording.duration(sum(lengths))} in all, folded"
    return ", ".join(f"idle {wording.duration(length)}" for length in lengths) + " folded"
