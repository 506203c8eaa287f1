"""Jobs: what to do, as definitions that know no instance."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Concatenate, Generic, TypeAlias, TypedDict, TypeVar, cast, overload

from typing_extensions import Unpack

from durably.codec import Codec, codec_for
from durably.errors import (
    ConfigurationError,
    JobAlreadyRegisteredError,
    JobNotFoundError,
    ValidationError,
)
from durably.models import FailedRun, RunError, Seconds
from durably.needs import hints_of, needs_of
from durably.options import seconds, unknown_option
from durably.retries import Retry, as_retry
from durably.steps import Invocable, StepContext

In = TypeVar("In")
Out = TypeVar("Out")

JobFunction: TypeAlias = Callable[Concatenate[StepContext, In, ...], Awaitable[Out]]
"""`async def f(step, input)`; further parameters are resources, by their types."""

OWN_PARAMETERS = 2
"""A job's parameters after (step, input) are resources."""
SOME_FAILURE = FailedRun(
    run_id="",
    job_name="",
    input=None,
    labels={},
    error=RunError(type="", message=""),
    failed_at=datetime.fromtimestamp(0, UTC),
)
JOB_NAME: re.Pattern[str] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


class JobPolicy(TypedDict, total=False):
    """What applies to every run of a job."""

    retry: Retry | int | None
    """Begin the job again after it raised, its finished steps kept; as a number: so many attempts.
    Comes after the attempts at a step are spent, which then begin anew."""
    timeout: Seconds | None
    """How long a run may take from its first start, waits and attempts included; then it fails.
    Counted anew in each link (`step.continue_as_new`)."""
    on_failure: Invocable[FailedRun, Any] | None
    """A job of which a run is stored with each failure of a run, whatever it failed of; its input is
    the `FailedRun`. It is registered with this one. A run keeps the one it was triggered with."""


class JobOptions(JobPolicy, total=False):
    """Options of `job`."""

    name: str | None
    """Default: the function's own, `import_csv` as `import-csv`."""


class JobDefinition(Generic[In, Out]):
    """A named job: its function and the types of its input and output.

    Immutable; equal only to itself. Make one with `define_job` or `@job`.
    """

    __slots__ = (
        "doc",
        "function",
        "input_codec",
        "name",
        "needs",
        "on_failure",
        "output_codec",
        "retry",
        "timeout",
    )

    def __init__(
        self,
        *,
        name: str,
        function: JobFunction[In, Out],
        input_codec: Codec[In],
        output_codec: Codec[Out],
        **policy: Unpack[JobPolicy],
    ) -> None:
        if not JOB_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is no job name: use 1–200 letters, digits and . _ : -, "
                "beginning with a letter or digit"
            )
        _refuse_unknown(policy, JobPolicy, name)
        self.name: str = name
        self.function: JobFunction[In, Out] = function
        self.input_codec: Codec[In] = input_codec
        self.output_codec: Codec[Out] = output_codec
        self.needs: Mapping[str, object] = needs_of(function, f"job {name!r}", own=OWN_PARAMETERS)
        self.doc: str | None = inspect.getdoc(function)
        timeout = policy.get("timeout")
        self.retry: Retry | None = as_retry(policy.get("retry"))
        self.timeout: float | None = None if timeout is None else seconds(timeout, "timeout")
        self.on_failure: JobDefinition[FailedRun, Any] | None = _follow_up(name, policy.get("on_failure"))

    def __repr__(self) -> str:
        return f"<JobDefinition {self.name}>"

    @property
    def follow_ups(self) -> tuple[str, ...]:
        """The jobs that follow a failure of one of its runs, one after the other."""
        return () if self.on_failure is None else (self.on_failure.name, *self.on_failure.follow_ups)


@overload
def define_job(
    *, name: str, input: type[In], output: type[Out], run: JobFunction[In, Out], **policy: Unpack[JobPolicy]
) -> JobDefinition[In, Out]: ...
@overload
def define_job(
    *,
    name: str,
    input: type[In],
    output: None = None,
    run: JobFunction[In, None],
    **policy: Unpack[JobPolicy],
) -> JobDefinition[In, None]: ...
def define_job(
    *,
    name: str,
    input: type[In],
    output: type[Out] | None = None,
    run: JobFunction[In, Out] | JobFunction[In, None],
    **policy: Unpack[JobPolicy],
) -> JobDefinition[In, Out] | JobDefinition[In, None]:
    """Define a job from its parts.

    Args:
        name: Unique in an instance; runs find their job by it, so it outlives deploys.
        input: The type of the input: a pydantic model, or anything pydantic can validate.
        output: The type of the output; leave it out for a job that answers None.
        run: The function: `async def run(step, input)`; further parameters are resources, by type.
        **policy: See `JobPolicy`: `retry`, `timeout` and `on_failure`.

    Raises:
        ConfigurationError: The name, a type or an option cannot be used.
    """
    _require_async(run, name)
    return JobDefinition[In, Out](
        name=name,
        function=cast("JobFunction[In, Out]", run),
        input_codec=codec_for(input),
        output_codec=cast("Codec[Out]", codec_for(output if output is not None else type(None))),
        **policy,
    )


@overload
def job(function: JobFunction[In, Out], /) -> JobDefinition[In, Out]: ...
@overload
def job(
    function: None = None, /, **options: Unpack[JobOptions]
) -> Callable[[JobFunction[In, Out]], JobDefinition[In, Out]]: ...
def job(
    function: JobFunction[In, Out] | None = None, /, **options: Unpack[JobOptions]
) -> JobDefinition[In, Out] | Callable[[JobFunction[In, Out]], JobDefinition[In, Out]]:
    """Make an async function a job: the name from the function, the types from its annotations.

    `import_csv` becomes `import-csv` unless `name` says otherwise.

    Args:
        function: `async def f(step, input: In) -> Out`; further parameters are resources, by type.
        **options: See `JobOptions`: `name`, `retry`, `timeout`, `on_failure`.

    Raises:
        ConfigurationError: The function is not like that, or an option cannot be used.
    """
    if function is None:
        return lambda function: definition_of(function, **options)
    return definition_of(function, **options)


def definition_of(function: JobFunction[In, Out], **options: Unpack[JobOptions]) -> JobDefinition[In, Out]:
    """The definition that a function's name and annotations make.

    Raises:
        ConfigurationError: As `job`.
    """
    own_name: str = getattr(function, "__name__", "job")
    _require_async(function, own_name)
    _refuse_unknown(options, JobOptions, own_name)
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) < OWN_PARAMETERS:
        raise ConfigurationError(
            f"job {own_name!r} must take (step, input), then its resources; it takes ({', '.join(parameters)})"
        )
    advice = ", or use define_job(input=…, output=…)"
    hints = cast("Mapping[str, type[Any]]", hints_of(function, f"job {own_name!r}", advice=advice))
    for needed in (parameters[1], "return"):
        if needed not in hints:
            raise ConfigurationError(
                f"job {own_name!r} has no annotation for {needed!r}; "
                "write async def f(step: StepContext, input: In) -> Out"
            )
    policy: JobPolicy = {
        "retry": options.get("retry"),
        "timeout": options.get("timeout"),
        "on_failure": options.get("on_failure"),
    }
    return JobDefinition[In, Out](
        name=options.get("name") or own_name.strip("_").replace("_", "-"),
        function=function,
        input_codec=codec_for(hints[parameters[1]]),
        output_codec=codec_for(hints["return"]),
        **policy,
    )


def _require_async(function: Callable[..., object], name: str) -> None:
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"job {name!r} must be an async function")


def _refuse_unknown(options: JobPolicy, known: type[object], name: str) -> None:
    wrong = unknown_option(options, known.__annotations__, f"option of job {name!r}:")
    if wrong is not None:
        raise ConfigurationError(wrong)


def _follow_up(name: str, job: object) -> JobDefinition[FailedRun, Any] | None:
    """The definition that is another one's `on_failure`."""
    if job is None:
        return None
    definition: object = getattr(job, "definition", job)
    told = f"on_failure of job {name!r} must be a job whose input is a FailedRun"
    if not isinstance(definition, JobDefinition):
        raise ConfigurationError(f"{told}, not {job!r}")
    follow_up = cast("JobDefinition[FailedRun, Any]", definition)
    try:
        follow_up.input_codec.validate(SOME_FAILURE, what=f"the input of job {follow_up.name!r}")
    except ValidationError as error:
        raise ConfigurationError(f"{told}; {error}") from None
    return follow_up


AnyJob: TypeAlias = JobDefinition[Any, Any]
"""Jobs of many types together."""


class Registry:
    """The jobs that an instance knows, by name."""

    def __init__(self) -> None:
        self._definitions: dict[str, AnyJob] = {}

    def add(self, definition: AnyJob, /) -> None:
        """Know this job from now on; the same definition again changes nothing.

        Raises:
            JobAlreadyRegisteredError: Another definition has the name.
        """
        if self._definitions.setdefault(definition.name, definition) is not definition:
            raise JobAlreadyRegisteredError(definition.name)

    def find(self, name: str, /) -> AnyJob | None:
        """The definition of this name, if there is one."""
        return self._definitions.get(name)

    def require(self, name: str, /) -> AnyJob:
        """The definition of this name.

        Raises:
            JobNotFoundError: There is none.
        """
        definition = self._definitions.get(name)
        if definition is None:
            raise JobNotFoundError(name)
        return definition

    def names(self) -> tuple[str, ...]:
        """Every name."""
        return tuple(self._definitions)

    def __iter__(self) -> Iterator[AnyJob]:
        return iter(self._definitions.values())
