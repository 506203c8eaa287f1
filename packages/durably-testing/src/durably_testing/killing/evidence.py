"""What the processes of a `KillLoop` write down while it happens, and what can be read from it.

Everybody appends to one file, a line at a time and each line by one write: so the lines of all
processes stand in the order in which things happened, those of the dead included.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

KillMoment: TypeAlias = Literal["any time", "run begins", "step begins", "effect", "step saved"]
"""When a worker dies:

- `any time`: from outside, whatever it is doing, its start included.
- `run begins`: it has claimed a run, and not yet called the job.
- `step begins`: right before a step's body.
- `effect`: right after a job called `note_effect`.
- `step saved`: a checkpoint is committed, and the job does not know it yet.
"""

Deed: TypeAlias = Literal["kill", "pause"]
"""By SIGKILL, or by SIGSTOP."""

What: TypeAlias = Literal[
    "run begins", "step begins", "effect", "step saved", "run left", "cancelled", "seen"
]
"""`run left`: the worker is done with the run. `seen`: the survivor found a checkpoint committed."""


SURVIVOR = 0
"""Stands for the surviving process among the numbers of the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that happened."""

    what: What
    worker: int
    """The workers are numbered from 1, in the order of their starts."""
    run_id: str = ""
    name: str = ""
    """The step's, or the effect's."""
    key: str | None = None
    generation: int = 0
    """Of a run that begins, and of a checkpoint: of the claim under which it was made or found; 0: nobody says."""
    resumed: bool = False
    """Of a run that begins: whether it has checkpoints."""


@dataclass(frozen=True, slots=True)
class Doing:
    """A run that a worker was executing."""

    run_id: str
    steps: tuple[str, ...]
    """The steps whose bodies had begun and were not saved."""

    def __str__(self) -> str:
        steps = " and ".join(repr(step) for step in self.steps)
        return f"run {self.run_id} ({f'in step {steps}' if steps else 'between steps'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A worker's end, or its pause."""

    number: int
    worker: int
    pid: int
    signal: Literal["SIGKILL", "SIGSTOP"]
    moment: KillMoment
    age: float
    """Seconds since the worker was started."""
    struck: tuple[Doing, ...]
    """What it was executing."""

    def __str__(self) -> str:
        executing = ", ".join(map(str, self.struck)) or "nothing"
        return (
            f"kill {self.number}: {self.signal} to worker {self.worker} (pid {self.pid}), {self.age:.3f} s after "
            f"its start, at the moment {self.moment!r}; it was executing {executing}"
        )


class Evidence:
    """The file; written and read by any number of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        self._lines: list[Line] = []
        self._read = 0
        self._held: defaultdict[int, dict[str, dict[str, None]]] = defaultdict(dict)

    def write(self, line: Line) -> None:
        """Append the line; a kill right after this leaves it there."""
        os.write(self._file, json.dumps(asdict(line)).encode() + b"\n")

    def lines(self, *, after: int = 0) -> Sequence[Line]:
        """What was written after so many lines, in order."""
        self._read_on()
        return self._lines[after:]

    def doing(self, worker: int) -> tuple[Doing, ...]:
        """What this worker was executing when it wrote its last line."""
        self._read_on()
        return tuple(Doing(run_id, tuple(steps)) for run_id, steps in self._held[worker].items())

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _read_on(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read)
            news = file.read()
        end = news.rfind(b"\n") + 1
        self._read += end
        for text in news[:end].splitlines():
            line = Line(**json.loads(text))
            self._lines.append(line)
            self._follow(line)

    def _follow(self, line: Line) -> None:
        held = self._held[line.worker]
        match line.what:
            case "run begins":
                held[line.run_id] = {}
            case "step begins":
                held.setdefault(line.run_id, {})[line.name] = None
            case "step saved":
                held.get(line.run_id, {}).pop(line.name, None)
            case "run left":
                held.pop(line.run_id, None)
            case "cancelled":
                for theirs in self._held.values():
                    theirs.pop(line.run_id, None)
            case _:
                pass


def effects(lines: Iterable[Line]) -> Mapping[str, int]:
    """How often each step's body began, and each effect was noted, by name; 0 for what never was."""
    return Counter(line.name for line in lines if line.what in {"step begins", "effect"})


def contradictions(lines: Iterable[Line], *, continued: Collection[str] = ()) -> Iterator[str]:
    """What must never happen, and did.

    Args:
        lines: What happened.
        continued: The runs that went on as new, and so without their checkpoints, at least once.
    """
    saved: dict[tuple[str, str], int] = {}
    claimed: dict[tuple[str, int], int] = {}
    anew: dict[str, int] = {}
    """The generation from which on a run's checkpoints are its present ones."""
    for line in lines:
        step = (line.run_id, line.name)
        if line.what in {"step saved", "seen"}:
            # What was paused, or waited for its turn, may tell of a checkpoint that is gone by now.
            if not 0 < line.generation < anew.get(line.run_id, 0):
                saved.setdefault(step, line.worker)
        elif line.what == "step begins" and step in saved:
            yield (
                f"step {line.name!r} of run {line.run_id} was executed again by worker {line.worker} "
                "after its checkpoint was committed"
            )
        elif line.what == "run begins":
            if line.run_id in continued and not line.resumed:
                anew[line.run_id] = line.generation
                for step in [step for step in saved if step[0] == line.run_id]:
                    del saved[step]
            first = claimed.setdefault((line.run_id, line.generation), line.worker)
            if first != line.worker:
                yield (
                    f"run {line.run_id} was claimed twice as generation {line.generation}: by worker "
                    f"{first} and by worker {line.worker}"
                )


_note: Callable[[str, str | None], None] | None = None


def listen(note: Callable[[str, str | None], None]) -> None:
    """Have the effects of this process noted."""
    global _note  # noqa: PLW0603 - a job has nothing but this module to call
    _note = note


def note_effect(name: str, /, *, key: str | None = None) -> None:
    """Tell the `KillLoop` that started this process of something done to the outside world.

    For job code under test, right after the deed; elsewhere it does nothing. Once this returns, the
    effect is noted even if the process is killed next.

    Args:
        name: What was done; a name of its own, not a step's.
        key: To whom, where one name covers many.
    """
    if _note is not None:
        _note(name, key)
