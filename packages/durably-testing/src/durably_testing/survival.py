"""`survives_crashes`: a test of a job, called with every crash."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Generic, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from typing_extensions import Unpack

from durably import JobDefinition, StoredValueError
from durably_testing.crashes import KINDS, single_faults
from durably_testing.errors import NothingTestedError, ReplayTokenError, SimulationError
from durably_testing.faults import Fault, Kind, Plan
from durably_testing.profile import current_profile
from durably_testing.simulation import AnyJob, Scene, SimulatedRun, definition_of, simulate
from durably_testing.strategies import crash_plans, inputs_for
from durably_testing.tokens import Replay

In = TypeVar("In")
Out = TypeVar("Out")

Check = Callable[..., object]


def survives_crashes(
    job: AnyJob[In, Out],
    /,
    *,
    inputs: st.SearchStrategy[In] | None = None,
    kinds: Sequence[Kind] = KINDS,
    max_faults: int = 3,
    examples: int | None = None,
    **scene: Unpack[Scene],
) -> Callable[[Check], Callable[..., None]]:
    """Call a test with what became of a job in each of many crashes.

    First every single fault at every point of a run with the simplest input, then random inputs and
    plans of several faults, which hypothesis shrinks to the fewest. The decorated function is called
    as `test(input, run)`, beside pytest's fixtures by name; it asserts what must hold. The promises of
    the engine are checked besides. A failure tells the crash in words, and a token that replays it.

    Args:
        job: What is executed.
        inputs: Where inputs come from; default: from the job's own input type.
        kinds: What goes wrong.
        max_faults: How many faults a random plan has at most.
        examples: How many random histories; default: by `--durably-profile` or `--durably-examples`.
        **scene: See `Scene`.

    Raises:
        NothingTestedError: In the test: no fault ever struck.
    """
    definition = definition_of(job)

    def decorate(check: Check) -> Callable[..., None]:
        if inspect.iscoroutinefunction(check):
            raise SimulationError(
                f"{check.__name__} must be a plain function: each history has ended when it is called"
            )
        parameters = list(inspect.signature(check).parameters.values())
        if len(parameters) < 2:
            raise SimulationError(f"{check.__name__} must take (input, run)")

        @wraps(check)
        def test(**fixtures: Any) -> None:
            trial = _Trial(definition, check, fixtures, scene)
            profile = current_profile()
            if profile.replay is not None:
                trial.replay(profile.replay)
                return
            source = inputs_for(definition) if inputs is None else inputs
            trial.crash_everywhere(source, kinds)
            trial.crash_at_random(
                source,
                crash_plans(max_faults=max_faults, kinds=tuple(kinds)),
                examples=profile.examples if examples is None else examples,
                seed=profile.seed,
            )
            if not trial.struck:
                raise NothingTestedError(
                    f"no fault ever struck {definition.name}: nothing was tested. Does the job have steps?"
                )

        # pytest must not take the first two for fixtures.
        vars(test)["__signature__"] = inspect.Signature(parameters[2:])
        del test.__wrapped__
        return test

    return decorate


class _Trial(Generic[In, Out]):
    """One call of the test, with all its histories."""

    def __init__(
        self, job: JobDefinition[In, Out], check: Check, fixtures: dict[str, Any], scene: Scene
    ) -> None:
        self._job = job
        self._check = check
        self._fixtures = fixtures
        self._scene = scene
        self.struck: int = 0

    def replay(self, replay: Replay) -> None:
        """The one history that a token stands for."""
        if replay.job_name != self._job.name:
            raise ReplayTokenError(
                f"the token is outdated: it is of job {replay.job_name!r}, the test is about {self._job.name!r} now"
            )
        try:
            input = self._job.input_codec.decode(replay.input_json, what="the token's input")
        except StoredValueError as error:
            raise ReplayTokenError(f"the token is outdated: {error}") from None
        setting = replay.setting
        scene = self._scene | Scene(workers=setting.workers, seed=setting.seed)
        run = simulate(self._job, input, faults=setting.plan, **scene)
        replay.verify(run.struck)
        self._judge(input, run)

    def crash_everywhere(self, inputs: st.SearchStrategy[In], kinds: Sequence[Kind]) -> None:
        """Every single fault, with the simplest input."""
        input = hypothesis.find(
            inputs, lambda _: True, settings=hypothesis.settings(database=None, max_examples=100)
        )
        calm = self._try(input, ())
        for fault in single_faults(calm, kinds=kinds):
            self._try(input, (fault,))

    def crash_at_random(
        self,
        inputs: st.SearchStrategy[In],
        plans: st.SearchStrategy[Plan],
        *,
        examples: int,
        seed: int | None,
    ) -> None:
        """Random inputs and plans, shrunk if one of them is not survived."""
        if not examples:
            return

        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            verbosity=Verbosity.quiet,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ],
        )
        @hypothesis.given(inputs, plans)
        def one(input: In, plan: Plan) -> None:
            self._try(input, plan)

        (one if seed is None else hypothesis.seed(seed)(one))()

    def _try(self, input: In, plan: Sequence[Fault]) -> SimulatedRun[In, Out]:
        run = simulate(self._job, input, faults=plan, **self._scene)
        self._judge(input, run)
        return run

    def _judge(self, input: In, run: SimulatedRun[In, Out]) -> None:
        self.struck += len(run.struck)
        try:
            run.verify()
            self._check(input, run, **self._fixtures)
        except Exception as error:
            if not any("replay it" in note for note in (*getattr(error, "__notes__", ()), str(error))):
                error.add_note(run.story())
            raise
