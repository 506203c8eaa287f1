"""Every crash: one history for each point of a run and each kind of fault."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from typing_extensions import Unpack

from durably_testing.boundary import Word
from durably_testing.errors import NothingTestedError
from durably_testing.faults import Fault, Kind
from durably_testing.profile import current_profile
from durably_testing.simulation import AnyJob, Scene, SimulatedRun, simulate
from durably_testing.tokens import Replay
from durably_testing.world import LEASE

In = TypeVar("In")
Out = TypeVar("Out")

KINDS: tuple[Kind, ...] = ("kill", "pause", "error", "skew")
"""The kinds that are tried by default."""
PAUSE = 3 * LEASE
"""Seconds of a pause: longer than a lease, so that a zombie wakes up."""
SKEW = 25.0
"""Seconds by which a clock jumps: longer than a lease."""


@dataclass(frozen=True, kw_only=True)
class Failure(Generic[In, Out]):
    """A history that did not end well."""

    run: SimulatedRun[In, Out]
    error: BaseException

    def __str__(self) -> str:
        return f"{'; '.join(self.run.struck) or 'no fault'}: {self.error}"


@dataclass(frozen=True, kw_only=True)
class Report(Generic[In, Out]):
    """What came of crashing a run everywhere."""

    calm: SimulatedRun[In, Out]
    """The history without a fault."""
    cases: int
    """Histories with a fault that struck."""
    failures: Sequence[Failure[In, Out]]

    def __str__(self) -> str:
        head = f"{self.cases} crashes of {self.calm.job_name}, {len(self.failures)} of them not survived"
        return "\n".join([head, *(f"- {failure}" for failure in self.failures[:10])])

    def verify(self) -> None:
        """Fail if a crash was not survived, or if none was tried.

        Raises:
            NothingTestedError: No fault struck.
            ExceptionGroup: Of what each history failed with, the crash as a note.
        """
        if not self.cases:
            raise NothingTestedError(
                f"no fault struck {self.calm.job_name}: nothing was tested. Does the job have steps, and the run an end?"
            )
        if self.failures:
            errors: list[Exception] = []
            for failure in self.failures:
                error = failure.error if isinstance(failure.error, Exception) else RuntimeError(failure.error)
                error.add_note(f"{'; '.join(failure.run.struck)}\n{failure.run.how_to_replay}")
                errors.append(error)
            raise ExceptionGroup(str(self), errors)


def crash_at_every_step(
    job: AnyJob[In, Out],
    input: In,
    /,
    *,
    kinds: Sequence[Kind] = KINDS,
    turns: bool = False,
    check: Callable[[SimulatedRun[In, Out]], object] | None = None,
    **scene: Unpack[Scene],
) -> Report[In, Out]:
    """Execute a run once for each of its points and each kind of fault, and collect what did not end well.

    A history fails if it breaks a promise of the engine, if a run does not end, if the job's code
    between its steps is not deterministic, or if `check` raises.

    Args:
        job: What is executed.
        input: Its input.
        kinds: What goes wrong: see `Kind`.
        turns: Kill and pause the worker before each of its turns on the loop as well: many times the cases.
        check: Called with each history; raises what it does not like.
        **scene: See `simulate`.

    Raises:
        PromiseBroken: Already the history without a fault was not right.
    """
    calm = simulate(job, input, **scene)
    calm.verify()
    if check is not None:
        check(calm)
    failures: list[Failure[In, Out]] = []
    cases = 0
    replay = _replay_of(calm)
    single = ((fault,) for fault in single_faults(calm, kinds=kinds, turns=turns))
    for plan in single if replay is None else [replay.setting.plan]:
        run = simulate(job, input, faults=plan, **scene)
        if replay is not None:
            replay.verify(run.struck)
        cases += bool(run.struck)
        try:
            run.verify()
            if check is not None:
                check(run)
        except Exception as error:  # noqa: BLE001 - whatever it is, this crash was not survived
            failures.append(Failure(run=run, error=error))
    return Report(calm=calm, cases=cases, failures=failures)


def _replay_of(calm: SimulatedRun[Any, Any]) -> Replay | None:
    """What `--durably-replay` asks for, where its token was made for this job and this input."""
    replay = current_profile().replay
    if replay is None or (replay.job_name, replay.input_json) != (calm.job_name, calm.input_json):
        return None
    return replay


def single_faults(
    calm: SimulatedRun[Any, Any], *, kinds: Iterable[Kind] = KINDS, turns: bool = False
) -> Iterator[Fault]:
    """Every single fault that can strike a run whose calm history this is."""
    kinds = tuple(kinds)
    # Kind by kind, the plainest first: of several crashes that show a mistake, a reader sees the simplest.
    for kind in kinds:
        for word in calm.words:
            if _counts(word):
                yield from _faults_at(word.number, kind)
    if turns:
        for turn in range(calm.turns):
            if "kill" in kinds:
                yield Fault(turn, "kill", "turn")
            if "pause" in kinds:
                yield Fault(turn, "pause", "turn", PAUSE)


def _counts(word: Word) -> bool:
    """Whether a fault here could matter: looks for work that found none are left out."""
    return word.has_moved or word.verb == "add_worker"


def _faults_at(number: int, kind: Kind) -> Iterator[Fault]:
    match kind:
        case "pause":
            yield Fault(number, "pause", "before", PAUSE)
            yield Fault(number, "pause", "after", PAUSE)
        case "skew":
            yield Fault(number, "skew", "before", SKEW)
            yield Fault(number, "skew", "before", -SKEW)
        case "hang":
            yield Fault(number, "hang", "after", PAUSE)
        case "busy" | "full":
            yield Fault(number, kind, "before")
        case "kill" | "error":
            yield Fault(number, kind, "before")
            yield Fault(number, kind, "after")
