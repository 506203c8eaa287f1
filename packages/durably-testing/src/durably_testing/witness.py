"""The witness of a history: hears every word and every event, and notes what breaks a promise.

What it notes stands beside the history, so that no `except Exception` of a job can hide it.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from textwrap import shorten
from typing import Any, cast

from durably import (
    Durably,
    EventType,
    LogWritten,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    StepCompleted,
    StepFailedEvent,
    StepReplayed,
    StepStarted,
)
from durably.spi import (
    Claimed,
    Completed,
    Enqueued,
    Lease,
    Reattempt,
    Settled,
    StepRecord,
    Transition,
    Wait,
)
from durably_testing.boundary import Word
from durably_testing.determinism import ADVICE, difference_of
from durably_testing.effects import EffectLedger
from durably_testing.processes import Process

HEARD: tuple[EventType, ...] = (
    "run:trigger", "run:start", "run:complete", "run:fail", "run:cancel", "run:retry", "run:reattempt", "run:continue",
    "run:wait", "run:release", "run:delete", "step:start", "step:replay", "step:complete", "step:fail", "step:retry",
    "step:cancel", "log:write",
)  # fmt: skip

LINES_SHOWN = 25

_STATUS = "SELECT status FROM durably_runs WHERE id = ?"
_STEP = """SELECT step.status FROM durably_steps AS step JOIN durably_runs AS run ON run.seq = step.run_seq
WHERE run.id = ? AND step.name = ?"""
_ERA = "SELECT link, attempt FROM durably_runs WHERE id = ?"
_STEPS = """SELECT step.name FROM durably_steps AS step JOIN durably_runs AS run ON run.seq = step.run_seq
WHERE run.id = ? ORDER BY step.position"""


class Witness:
    """Hears, and remembers.

    Args:
        connection: The history's database, to look at beside the engine.
        effects: Where the bodies of steps are counted.
        now: Answers the virtual instant, in seconds since the beginning.
        is_deterministic: Whether each checkpoint must be used by the execution that completes a run.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        effects: EffectLedger,
        now: Callable[[], float],
        *,
        is_deterministic: bool,
    ) -> None:
        self.violations: list[str] = []
        self.events: list[RunEvent] = []
        self.trace: list[str] = []
        self.hearers: list[Callable[[Process, RunEvent], object]] = []
        """Who is told of each event, after the witness."""
        self.has_skew: bool = False
        """Whether a clock has jumped: a lease may then be taken over before its owner thinks so."""
        self.has_deployed: bool = False
        """Whether the jobs' code has changed, so that it may return something else."""
        self._connection = connection
        self._effects = effects
        self._now = now
        self._is_deterministic = is_deterministic
        self._triggered: set[str] = set()
        # The era of a run is its link and the attempt at its job: each checkpoint's, and the one a process knows.
        self._checkpoints: dict[tuple[str, str], tuple[str, tuple[int, int]]] = {}
        self._outputs: dict[tuple[str, tuple[int, int]], str] = {}
        self._eras: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (1, 1))
        self._ended: set[tuple[str, str]] = set()
        self._touched: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def note(self, process: str, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self._now():12.3f}  {process:<10} {text}")

    def accuse(self, text: str) -> None:
        """Note what must never happen."""
        self.violations.append(text)
        self.trace.append(f"{self._now():12.3f}  !!         {shorten(text, 100)}")

    # Words

    def said(self, process: Process, word: Word, args: Sequence[Any]) -> None:
        """A process is about to say this to its store."""
        if word.verb not in {"renew", "claim", "bury_dead", "sweep", "forget_signals"}:
            self.note(process.name, word.about)
        lease = args[0] if args else None
        if isinstance(lease, Lease):
            self._touched[process.name, lease.run_id].update(_names_in(args))
            if word.verb == "finish" and isinstance(args[1], Completed):
                self._returned(process, lease, args[1].output_json)

    def answered(self, process: Process, word: Word, args: Sequence[Any], answer: object) -> None:
        """The store has carried it out."""
        first = args[0] if args else None
        match answer:
            case Enqueued():
                self._triggered.update(run.id for run in answer.runs)
            case Transition(applied=True) if word.verb == "retry":
                self._sent_back()
            case Transition(applied=True) if word.verb == "delete":
                self._forget_runs()
            case int() if word.verb == "purge":
                self._forget_runs()
            case Claimed():
                for claim in answer.claims:
                    self._eras[process.name, claim.run.id] = (claim.run.link, claim.run.attempt)
                    self._claimed(process, claim.run.id, claim.lease.generation)
            case "applied" | Settled(answer="applied") if isinstance(first, Lease):
                self._applied(process, word.verb, first, args)
            case _:
                pass

    def _claimed(self, process: Process, run_id: str, generation: int) -> None:
        self._touched[process.name, run_id] = set()
        self._ended.discard((process.name, run_id))
        self.note(process.name, f"claims run {run_id}, generation {generation}")

    def _applied(self, process: Process, verb: str, lease: Lease, args: Sequence[Any]) -> None:
        if verb == "save_step":
            step = cast("StepRecord", args[1])
            era = self._eras[process.name, lease.run_id]
            self._checkpoints[lease.run_id, step.name] = (step.status, era)
        elif verb == "finish" and isinstance(args[1], Reattempt):
            self._sent_back()
        elif verb == "finish" and isinstance(args[1], Completed) and self._is_deterministic:
            touched = self._touched[process.name, lease.run_id]
            stored = [str(row[0]) for row in self._connection.execute(_STEPS, (lease.run_id,))]
            for name in stored:
                if name not in touched:
                    self.accuse(
                        f"step {name!r} has a checkpoint of an earlier execution, and the execution that completed "
                        f"the run never came to it: the code between the steps did not take the same way again. {ADVICE}"
                    )

    def _sent_back(self) -> None:
        """A run lives again, and so may its children, of whom no event tells; failures were dropped."""
        self._outputs.clear()
        self._ended = {
            about
            for about in self._ended
            if self._one(_STATUS, about[1:]) in {"completed", "failed", "cancelled"}
        }
        self._forget_checkpoints(lambda _, status: status == "failed")

    def _forget_runs(self) -> None:
        """Ended runs may have been removed."""
        self._triggered = {run_id for run_id in self._triggered if self._one(_STATUS, (run_id,)) is not None}
        self._forget_checkpoints(lambda run_id, _: run_id not in self._triggered)

    def _forget_checkpoints(self, may_be_gone: Callable[[str, str], bool]) -> None:
        """Of those that this is true of, some may have been dropped: by their run and their status."""
        for about, (status, _) in list(self._checkpoints.items()):
            if may_be_gone(about[0], status) and self._one(_STEP, about) != status:
                del self._checkpoints[about]

    def _returned(self, process: Process, lease: Lease, output_json: str) -> None:
        """A job has returned: whoever did so before, from the same checkpoints, returned the same."""
        era = self._eras[process.name, lease.run_id]
        earlier = self._outputs.setdefault((lease.run_id, era), output_json)
        if earlier != output_json and self._is_deterministic and not self.has_deployed:
            self.accuse(
                "the job was executed again from the same checkpoints and did not return the same, "
                f"{difference_of(earlier, output_json)}. {ADVICE}"
            )

    # Events

    def listen(self, durably: Durably, process: Process) -> None:
        """Hear the events of a process."""
        for event_type in HEARD:
            durably.on(event_type)(partial(self._heard, process))

    def _heard(self, process: Process, event: RunEvent) -> None:
        self.events.append(event)
        self._judge(process, event)
        for hearer in self.hearers:
            hearer(process, event)

    def _judge(self, process: Process, event: RunEvent) -> None:
        about = (process.name, event.run_id)
        if about in self._ended and event.type not in {"run:start", "run:retry", "run:delete"}:
            self.accuse(f"{event.type} of run {event.run_id} came after the event of its end")
        match event:
            case StepStarted():
                self._effects(event.step_name)
                self._touched[about].add(event.step_name)
                self._started(process, event)
            case StepReplayed():
                self._touched[about].add(event.step_name)
            case StepCompleted() | StepFailedEvent():
                wanted = "completed" if isinstance(event, StepCompleted) else "failed"
                if not self._is_dropped(event.run_id, wanted, self._eras[about]):
                    self._require(_STEP, (event.run_id, event.step_name), wanted, event)
            case RunCompleted():
                self._require(_STATUS, (event.run_id,), "completed", event)
            case RunFailed():
                self._require(_STATUS, (event.run_id,), "failed", event)
            case RunCancelled():
                self._require(_STATUS, (event.run_id,), "cancelled", event)
            case _:
                pass
        if isinstance(event, RunCompleted | RunFailed | RunCancelled):
            self._ended.add(about)
        elif event.type in {"run:retry", "run:start"}:
            self._ended.discard(about)
        if not isinstance(event, LogWritten):
            step = getattr(event, "step_name", "")
            self.note(process.name, f"{event.type} {step}".rstrip())

    def _started(self, process: Process, event: StepStarted) -> None:
        found = self._one(_STEP, (event.run_id, event.step_name))
        if found in {"completed", "failed"} and not self.has_skew:
            self.accuse(
                f"{process.name} executes step {event.step_name!r} although its checkpoint ({found}) is committed"
            )

    def _require(self, query: str, values: tuple[str, ...], wanted: str, event: RunEvent) -> None:
        found = self._one(query, values)
        if found != wanted and self._one(_STATUS, (event.run_id,)) is not None:
            self.accuse(f"{event.type} was told while the store said {found or 'nothing'}, not {wanted}")

    def _one(self, query: str, values: tuple[str, ...]) -> str | None:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else str(row[0])

    def _is_dropped(self, run_id: str, status: str, era: tuple[int, int]) -> bool:
        """Whether a checkpoint is gone by right: with its link, or as a failure with its attempt at the job."""
        row = self._connection.execute(_ERA, (run_id,)).fetchone()
        present = era if row is None else (int(row[0]), int(row[1]))
        return present[0] > era[0] or (status == "failed" and present > era)

    # At the end

    def testify(self) -> None:
        """Compare what was acknowledged with what is there."""
        for run_id in sorted(self._triggered):
            if self._one(_STATUS, (run_id,)) is None:
                self.accuse(f"run {run_id} was acknowledged and is not there")
        for (run_id, name), (status, era) in self._checkpoints.items():
            found = self._one(_STEP, (run_id, name))
            if found != status and not self._is_dropped(run_id, status, era):
                self.accuse(f"step {name!r} was acknowledged as {status} and is {found or 'not there'}")


def story(struck: Sequence[str], trace: Sequence[str], *facts: str) -> str:
    """The faults that struck, what else is to be told, and the last lines of a history."""
    crash = "\n".join(f"  {number}. {_explained(words)}" for number, words in enumerate(struck, 1))
    return "\n".join(
        [
            f"the crash:\n{crash}" if crash else "no fault struck",
            *facts,
            "the last lines of the history (virtual second, process, deed):",
            *trace[-LINES_SHOWN:],
        ]
    )


def _explained(struck: str) -> str:
    """A fault that struck, with what it means for effects."""
    if " killed before the checkpoint of step " in struck:
        return f"{struck}: the step had done its work, and does it again"
    return struck


def _names_in(args: Sequence[Any]) -> list[str]:
    """The steps that a word is about."""
    names: list[str] = []
    for value in args[1:]:
        if isinstance(value, StepRecord):
            names.append(value.name)
        elif isinstance(value, list | tuple):
            names.extend(item.step.name for item in cast("Sequence[object]", value) if isinstance(item, Wait))
    return names
