"""Faults: what may go wrong, where, and how a plan of them is written down.

A history has points: each word that a worker says to its store is one, numbered in their order, and
so is each turn that a worker takes on the loop. A fault strikes at a point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

ProcessKind: TypeAlias = Literal["kill", "pause", "skew"]
"""What happens to a process, whatever it is doing."""

Kind: TypeAlias = Literal[ProcessKind, "error", "busy", "full", "hang"]
"""What happens:

- `kill`: the process is dead, as by SIGKILL; another one takes its place a second later.
- `pause`: it executes nothing for `seconds`, as by SIGSTOP, and then goes on, unaware.
- `error`, `busy`, `full`: the store fails; `after`: although it has committed.
- `hang`: the store answers only after `seconds`.
- `skew`: the process's wall clock jumps by `seconds`.
"""

Moment: TypeAlias = Literal["before", "after", "turn"]
"""Before or after the store has done what it was told; or before a turn of the loop."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault of a plan.

    Raises:
        ValueError: It makes no sense; says why.
    """

    at: int
    """The number of the point, from 0: among the words to the store, or (`turn`) among the turns."""
    kind: Kind = "kill"
    moment: Moment = "before"
    seconds: float = 0.0
    """For how long (`pause`, `hang`), or by how much (`skew`)."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.moment not in get_args(Moment):
            raise ValueError(f"there is no fault {self.kind!r} {self.moment!r}")
        if self.at < 0:
            raise ValueError("points are numbered from 0")
        if self.moment == "turn" and self.kind not in {"kill", "pause", "skew"}:
            raise ValueError(f"{self.kind!r} is the store's affair: it strikes before or after, at no turn")
        if self.kind in {"pause", "hang"} and self.seconds <= 0:
            raise ValueError(f"{self.kind!r} needs seconds, more than 0")

    def words(self, what: str) -> str:
        """The fault as a reader wants it.

        Args:
            what: What the process was doing.
        """
        where = {"before": f"before {what}", "after": f"after {what}", "turn": f"at turn {self.at}"}
        return f"{deed(self.kind, self.seconds)} {where[self.moment]}"


def deed(kind: Kind, seconds: float) -> str:
    """What happens, in words."""
    return _DEEDS[kind].format(seconds=f"{seconds:g}")


_DEEDS: dict[Kind, str] = {
    "kill": "killed",
    "pause": "paused for {seconds} s",
    "error": "store unreachable",
    "busy": "store locked by another",
    "full": "disk full",
    "hang": "store answering {seconds} s late",
    "skew": "clock jumped by {seconds} s",
}

Plan: TypeAlias = tuple[Fault, ...]
"""Faults in any order; each strikes at most once."""


def in_order(faults: Sequence[Fault]) -> Plan:
    """A plan of these faults, each point struck once at most."""
    by_point = {(fault.at, fault.moment): fault for fault in faults}
    return tuple(sorted(by_point.values()))
