"""One call of a test that survives crashes: all its histories, and what becomes of a failure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from durably import JobDefinition, StoredValueError
from durably_testing.crashes import single_faults
from durably_testing.determinism import ADVICE, parting_of
from durably_testing.errors import NothingTestedError, PromiseBroken, ReplayTokenError, SimulationError
from durably_testing.faults import Fault, Kind
from durably_testing.simulation import Scene, SimulatedRun, simulate
from durably_testing.tokens import Replay, Setting

In = TypeVar("In")
Out = TypeVar("Out")

# Drawing is slow where validators are, and that is the user's affair.
UNWELL = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
LATER = 400
"""Turns of the loop among which a random kill strikes."""
# Mostly; shrinks to ending.
_GOES_ON = st.sampled_from([False, True, True, True])


@dataclass(frozen=True, slots=True)
class Finding(Generic[In, Out]):
    """A history that a test did not like."""

    run: SimulatedRun[In, Out]
    error: Exception
    traceback: TracebackType | None
    """From here on; hypothesis would add its own."""

    def tell(self) -> None:
        """Let the error tell the history."""
        said = [str(self.error), *getattr(self.error, "__notes__", ())]
        if not any(self.run.how_to_replay in text for text in said):
            self.error.add_note(self.run.story())


class Trial(Generic[In, Out]):
    """One call of the test, with all its histories."""

    def __init__(
        self,
        job: JobDefinition[In, Out],
        check: Callable[[In, SimulatedRun[In, Out]], object],
        scene: Scene,
    ) -> None:
        self._job = job
        self._check = check
        self._scene = scene
        self._struck = 0
        self._finding: Finding[In, Out] | None = None

    def replay(self, replay: Replay) -> None:
        """The one history that a token stands for."""
        __tracebackhide__ = True
        if replay.job_name != self._job.name:
            raise ReplayTokenError(
                f"the token is outdated: it is of job {replay.job_name!r}, the test is about {self._job.name!r} now"
            )
        try:
            input = self._job.input_codec.decode(replay.input_json, what="the token's input")
        except StoredValueError as error:
            raise ReplayTokenError(f"the token is outdated: {error}") from None
        scene = self._scene_of(replay.setting)
        run = self._tell(input, replay.setting.plan, scene)
        if self._tell(input, replay.setting.plan, scene).trace == run.trace:
            # Otherwise it is the job that does something else each time, and no wonder.
            replay.verify(run.struck)
        self._judge(run)
        self._demand_the_same(run)

    def crash_everywhere(self, inputs: st.SearchStrategy[In], kinds: Sequence[Kind]) -> None:
        """Every single fault, with the simplest input."""
        __tracebackhide__ = True
        input = self._simplest(inputs)
        calm = self._try(input, (), self._scene)
        for kind in kinds:
            for fault in single_faults(calm, kinds=[kind]):
                self._try(input, (fault,), self._scene)
        self._demand_the_same(calm)

    def crash_at_random(
        self,
        inputs: st.SearchStrategy[In],
        kinds: Sequence[Kind],
        *,
        max_faults: int,
        examples: int,
        seed: int | None,
    ) -> None:
        """Random inputs, schedules and faults, shrunk if one of them is not survived."""
        __tracebackhide__ = True
        if not examples:
            return

        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            verbosity=Verbosity.quiet,
            suppress_health_check=UNWELL,
            report_multiple_bugs=False,
        )
        @hypothesis.given(inputs, st.integers(0, 2**16), st.data())
        def one(input: In, order: int, data: st.DataObject) -> None:
            __tracebackhide__ = True
            scene = Scene(seed=order) | self._scene
            run = self._try(input, (), scene)
            # One after another, so that each strikes where something is going on, and so that hypothesis
            # can leave one of them out.
            while len(run.faults) < max_faults and data.draw(_GOES_ON):
                found = data.draw(_next_fault(run, kinds))
                if found is None:
                    break
                run = self._try(input, (*run.faults, found), scene)

        try:
            (one if seed is None else hypothesis.seed(seed)(one))()
        except Exception:
            if self._finding is None:
                raise
            finding = self.with_fewest_faults(self._finding)
            raise finding.error.with_traceback(finding.traceback) from None

    def require_a_crash(self) -> None:
        """Fail if no fault ever struck.

        Raises:
            NothingTestedError: None did.
        """
        __tracebackhide__ = True
        if not self._struck:
            raise NothingTestedError(
                f"nothing was tested: no fault ever struck {self._job.name}. Are there any kinds of faults, and does "
                "the job have steps?"
            )

    def _simplest(self, inputs: st.SearchStrategy[In]) -> In:
        # What hypothesis draws first is the simplest; shrinking towards it would take seconds.
        drawing = hypothesis.settings(
            database=None,
            max_examples=100,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=UNWELL,
        )
        try:
            return hypothesis.find(inputs, lambda _: True, settings=drawing)
        except (NoSuchExample, Unsatisfiable):
            raise SimulationError(f"no input of {self._job.name} could be drawn from {inputs}") from None

    def _scene_of(self, setting: Setting) -> Scene:
        return self._scene | Scene(workers=setting.workers, seed=setting.seed)

    def _tell(self, input: In, plan: Sequence[Fault], scene: Scene) -> SimulatedRun[In, Out]:
        return simulate(self._job, input, faults=plan, **scene)

    def _try(self, input: In, plan: Sequence[Fault], scene: Scene) -> SimulatedRun[In, Out]:
        __tracebackhide__ = True
        run = self._tell(input, plan, scene)
        self._judge(run)
        return run

    def _judge(self, run: SimulatedRun[In, Out]) -> None:
        __tracebackhide__ = True
        self._struck += len(run.struck)
        try:
            run.verify()
            self._check(run.input, run)
        except Exception as error:
            self._finding = Finding(run, error, error.__traceback__)
            self._finding.tell()
            raise

    def with_fewest_faults(self, finding: Finding[In, Out]) -> Finding[In, Out]:
        """Leave out of a history's faults what is not needed; points are numbered anew after each."""
        for left_out in range(len(finding.run.faults)):
            smaller = self._without(finding.run, left_out)
            if smaller is not None:
                return self.with_fewest_faults(smaller)
        return finding

    def _without(self, wanted: SimulatedRun[In, Out], left_out: int) -> Finding[In, Out] | None:
        """What fails if one of the faults does not strike, and the others do at the same words; None: nothing."""
        scene = self._scene_of(wanted.setting)
        plan: tuple[Fault, ...] = ()
        run = self._tell(wanted.input, plan, scene)
        for number, fault in enumerate(wanted.faults):
            if number == left_out:
                continue
            again = _at_the_same_word(fault, wanted, run)
            if again is None:
                return None
            plan = (*plan, again)
            run = self._tell(wanted.input, plan, scene)
        self._finding = None
        try:
            self._judge(run)
        except Exception:  # noqa: BLE001 - it is in the finding
            return self._finding
        return None

    def _demand_the_same(self, run: SimulatedRun[In, Out]) -> None:
        """Fail if the same history, told again, is another one.

        Raises:
            PromiseBroken: It is; says where they part.
        """
        __tracebackhide__ = True
        if not self._scene.get("deterministic", True):
            return
        again = self._tell(run.input, run.faults, self._scene_of(run.setting))
        parting = parting_of(run.trace, again.trace)
        if parting is not None:
            words = (
                f"the same history was another one when it was told again:{parting}\n{ADVICE}. If it is a step that "
                "decides anew each time, give it a double, or pass deterministic=False"
            )
            raise PromiseBroken([words], run.story())


def _at_the_same_word(
    fault: Fault, wanted: SimulatedRun[Any, Any], run: SimulatedRun[Any, Any]
) -> Fault | None:
    """The fault where this history comes to what it struck in another one, after what has struck here."""
    if fault.moment == "turn" or fault.at >= len(wanted.words):
        return fault
    about = wanted.words[fault.at].about
    last = max((one.at for one in run.faults if one.moment != "turn"), default=-1)
    at = next((word.number for word in run.words if word.number > last and word.about == about), None)
    return None if at is None else replace(fault, at=at)


def _next_fault(run: SimulatedRun[Any, Any], kinds: Sequence[Kind]) -> st.SearchStrategy[Fault | None]:
    """A further fault for a history: after those that have struck, where something is going on."""
    last = max((fault.at for fault in run.faults if fault.moment != "turn"), default=-1)
    later = [fault for fault in single_faults(run, kinds=kinds) if fault.at > last]
    at_words: st.SearchStrategy[Fault | None] = st.sampled_from(later) if later else st.none()
    if "kill" not in kinds:
        return at_words
    at_turns = st.integers(0, LATER - 1).map(lambda turn: Fault(turn, "kill", "turn"))
    return st.one_of(at_words, at_words, at_words, at_turns)
