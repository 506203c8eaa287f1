"""Faults: what may go wrong, where, and how a plan of them is written down.

A history has points: each word that a worker says to its store is one, numbered in their order, and
so is each turn that a worker takes on the loop. A fault strikes at a point.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias, cast, get_args

from durably_testing.errors import ReplayTokenError

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

VERSION = 1


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
        return f"{_DEEDS[self.kind].format(seconds=f'{self.seconds:g}')} {where[self.moment]}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that decides a history, but for the job's own code."""

    plan: Plan = ()
    workers: int = 2
    seed: int = 0

    def token(self, job_name: str, input_json: str) -> str:
        """The setting, and what it was for, as a word to copy."""
        content = [
            VERSION,
            job_name,
            _digest(input_json),
            self.workers,
            self.seed,
            [[fault.at, fault.kind, fault.moment, fault.seconds] for fault in self.plan],
            input_json,
        ]
        packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_token(token: str, *, job_name: str) -> tuple[Setting, str]:
    """The setting and the input's JSON that a token stands for.

    Raises:
        ReplayTokenError: It is no token, of another version, or of another job; says which.
    """
    try:
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        content = cast("list[Any]", json.loads(zlib.decompress(packed)))
        version, name = content[0], content[1]
    except (ValueError, zlib.error, IndexError, KeyError, TypeError):
        raise ReplayTokenError(
            f"{token[:40]!r} is no replay token; copy the whole of what a failing test prints"
        ) from None
    if version != VERSION:
        raise ReplayTokenError(
            f"the token is of version {version}, this durably-testing replays version {VERSION}; "
            "run the test again for a new one"
        )
    if name != job_name:
        raise ReplayTokenError(f"the token is of job {name!r}, the test is about {job_name!r}")
    _, _, digest, workers, seed, faults, input_json = content
    if digest != _digest(input_json):
        raise ReplayTokenError("the token is damaged; copy the whole of what a failing test prints")
    plan = tuple(Fault(at, kind, moment, seconds) for at, kind, moment, seconds in faults)
    return Setting(plan=plan, workers=workers, seed=seed), input_json


def in_order(faults: Sequence[Fault]) -> Plan:
    """A plan of these faults, each point struck once at most."""
    by_point = {(fault.at, fault.moment): fault for fault in faults}
    return tuple(sorted(by_point.values()))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
