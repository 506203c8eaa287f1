"""`survives_crashes`: a test of a job, called with every crash."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from hypothesis import strategies as st
from typing_extensions import Unpack

from durably_testing.crashes import KINDS
from durably_testing.errors import SimulationError
from durably_testing.faults import Kind
from durably_testing.profile import current_profile
from durably_testing.simulation import AnyJob, Scene, SimulatedRun, definition_of
from durably_testing.strategies import inputs_for
from durably_testing.trials import Trial

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

    First every single fault at every point of a run with the simplest input, then random inputs,
    schedules and faults on top of each other, which hypothesis shrinks to the fewest. The decorated
    function is called as `test(input, run)`, followed by pytest's fixtures by name (`durably_effects` is
    the job's ledger then); it asserts what must hold. The promises of the engine are checked besides,
    and that the job's code between steps does the same again. A failure tells the crash in words, and
    a token that replays it.

    Args:
        job: What is executed.
        inputs: Where inputs come from; default: from the job's own input type.
        kinds: What goes wrong, the most telling first.
        max_faults: How many faults a random history has at most.
        examples: How many random histories; default: by `--durably-profile` or `--durably-examples`.
        **scene: See `Scene`.

    Raises:
        NothingTestedError: In the test: no fault ever struck.
        SimulationError: The function is `async`, or does not take (input, run).
    """
    definition = definition_of(job)

    def decorate(check: Check) -> Callable[..., None]:
        fixtures = _fixtures_of(check)

        @wraps(check)
        def test(*instance: object, **given: Any) -> None:
            __tracebackhide__ = True

            def judge(input: In, run: SimulatedRun[In, Out]) -> None:
                __tracebackhide__ = True
                check(*instance, input, run, **given)

            trial = Trial(definition, judge, _ledger_in(given) | scene)
            profile = current_profile()
            if profile.replay is not None:
                trial.replay(profile.replay)
                return
            source = inputs_for(definition) if inputs is None else inputs
            trial.crash_everywhere(source, kinds)
            trial.crash_at_random(
                source,
                kinds,
                max_faults=max_faults,
                examples=profile.examples if examples is None else examples,
                seed=profile.seed,
            )
            trial.require_a_crash()

        # pytest must not take the input and the run for fixtures.
        vars(test)["__signature__"] = inspect.Signature(fixtures)
        del test.__wrapped__
        return test

    return decorate


def _ledger_in(fixtures: Mapping[str, Any]) -> Scene:
    """The ledger that a test asks pytest for: the job's doubles note their effects in the same one."""
    return Scene(effects=fixtures["durably_effects"]) if "durably_effects" in fixtures else Scene()


def _fixtures_of(check: Check) -> list[inspect.Parameter]:
    """The parameters that pytest is to fill: all but the input and the run."""
    parameters = list(inspect.signature(check).parameters.values())
    own = [parameter for parameter in parameters[:1] if parameter.name == "self"]
    rest = parameters[len(own) :]
    if inspect.iscoroutinefunction(check):
        raise SimulationError(
            f"{check.__name__} must be a plain function: each history has ended when it is called"
        )
    if len(rest) < 2:
        raise SimulationError(
            f"{check.__name__} must take (input, run), then its fixtures; it takes ({', '.join(parameter.name for parameter in rest)})"
        )
    return [*own, *rest[2:]]
