"""A job's own code, with results that a test gives in place of its steps: no store, no worker, no time."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, cast

from durably import (
    ConfigurationError,
    Durably,
    JobDefinition,
    SignalTimeout,
    StepFailed,
    StepKind,
    ValidationError,
)
from durably.spi import Codec
from durably_testing.errors import SimulationError
from durably_testing.simulation import AnyJob, definition_of

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, kw_only=True)
class FakedRun(Generic[Out]):
    """What a job did with the results that it was given."""

    steps: Sequence[str]
    """The steps and waits that it came to, in order."""
    executed: Sequence[str]
    """Those of them that did what they do, because the test gave nothing in their place."""
    error: Exception | None
    """What it raised, as it was raised first."""
    returned: Out | None

    @property
    def output(self) -> Out:
        """What the job returned.

        Raises:
            Exception: What it raised instead.
        """
        if self.error is not None:
            raise self.error
        return cast("Out", self.returned)


class FakeStep(Generic[In, Out]):
    """Executes a job whose steps answer what a test says; `fake_step` makes it.

    A step's result, a signal's payload and a child's output are given under the step's name. Whatever is
    not given does what it does, here and now; sleeps take no time.
    """

    def __init__(self, job: JobDefinition[In, Out]) -> None:
        self._job = job
        self._answers: dict[str, object] = {}
        self._resources: dict[object, object] = {}

    def given(self, results: Mapping[str, object] | None = None, /, **named: object) -> Self:
        """Let steps answer these results: values of their types, or the plain data for them.

        Args:
            results: By the steps' names, where they are no Python names: `{"send-Ada": True}`.
            **named: By the steps' names.
        """
        self._answers |= {**(results or {}), **named}
        return self

    def raises(self, errors: Mapping[str, Exception] | None = None, /, **named: Exception) -> Self:
        """Let steps fail with these exceptions; a signal's `TimeoutError` is one that does not come.

        Args:
            errors: By the steps' names.
            **named: By the steps' names.
        """
        self._answers |= {name: _Raises(error) for name, error in {**(errors or {}), **named}.items()}
        return self

    def resource(self, type_: object, value: object, /) -> Self:
        """Hand the job this value for a resource of that type."""
        self._resources[type_] = value
        return self

    async def run(self, input: In, /) -> FakedRun[Out]:
        """Execute the job; its exception is told, not raised.

        Raises:
            ValidationError: The input does not fit.
            ConfigurationError: The job needs a resource that was not given.
            SimulationError: A given result does not fit its step, or the job ended well and never came to a
                step for which something was given.
        """
        self._job.input_codec.validate(input, what=f"the input of job {self._job.name!r}")
        cast_ = _Cast(self._answers)
        durably = Durably(":memory:")
        with ExitStack() as given:
            for type_, value in self._resources.items():
                given.enter_context(durably.override(type_, value))
            handle = durably.register(self._job)
            error, returned = None, None
            try:
                returned = await handle.run_inline(input, stand_in=cast_)
            except ConfigurationError:
                raise
            except Exception as raised:  # noqa: BLE001 - it is the job's, and is told
                error = raised
        cast_.verify(has_failed=error is not None)
        return FakedRun(steps=cast_.steps, executed=cast_.executed, error=error, returned=returned)


def fake_step(job: AnyJob[In, Out], /) -> FakeStep[In, Out]:
    """Make ready to execute a job with given results.

        run = await fake_step(order).given(charge={"id": 7}).run(Order(amount=3))

    For unit tests of what a job decides. `simulate` and `survives_crashes` execute the whole of it.

    Args:
        job: What is executed.
    """
    return FakeStep(definition_of(job))


@dataclass(frozen=True, slots=True)
class _Raises:
    error: Exception


class _Cast:
    """Stands in for the steps of one execution."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        self._answers = answers
        self._misfits: list[str] = []
        self.steps: list[str] = []
        self.executed: list[str] = []

    async def __call__(
        self, place: str, kind: StepKind, codec: Codec[Any], really: Callable[[], Awaitable[object]], /
    ) -> object:
        self.steps.append(place)
        if place not in self._answers:
            if kind != "sleep":
                self.executed.append(place)
            return await really()
        answer = self._answers[place]
        if isinstance(answer, _Raises):
            raise _failure(place, kind, answer.error)
        try:
            return codec.validate(answer, what=f"the result given for step {place!r}")
        except ValidationError as error:
            # The job may catch it; the test is told all the same.
            self._misfits.append(str(error))
            raise

    def verify(self, *, has_failed: bool) -> None:
        """Fail if something was given that did not fit, or that was for no step."""
        if self._misfits:
            raise SimulationError(self._misfits[0])
        unknown = [name for name in self._answers if name not in self.steps]
        if unknown and not has_failed:
            came = ", ".join(self.steps) or "none"
            raise SimulationError(
                f"something was given for {', '.join(map(repr, unknown))}, and the job never came to it; "
                f"it came to: {came}"
            )


def _failure(place: str, kind: StepKind, error: Exception) -> Exception:
    """What the job meets; of a step that is executed, the engine makes it."""
    if kind == "run":
        return error
    type_ = type(error)
    name = (
        type_.__qualname__ if type_.__module__ == "builtins" else f"{type_.__module__}.{type_.__qualname__}"
    )
    is_late = kind == "signal" and isinstance(error, TimeoutError)
    failed = (SignalTimeout if is_late else StepFailed)(place, name, str(error), 1)
    failed.__cause__ = error
    return failed
