"""A job's function with a plain context and no store."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any, NoReturn, Protocol, TypeVar, cast

from typing_extensions import Unpack, override

from durably.codec import Codec, codec_for
from durably.environment import RealEnvironment
from durably.errors import (
    DuplicateStepError,
    MapFailed,
    NestedStepError,
    StepError,
    StepFailed,
    ValidationError,
)
from durably.failures import type_name
from durably.jobs import AnyJob, JobDefinition
from durably.mapping import Items
from durably.models import LogLevel, Seconds, StepKind
from durably.options import ChildOptions, Limits
from durably.policies import Policy
from durably.resources import Resources
from durably.steps import Invocable, StepContext, StepLog, outside_a_step

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

RUN_ID = "inline"
LEVELS: Mapping[LogLevel, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

NOTHING: Codec[None] = codec_for(type(None))

_current_step: ContextVar[str | None] = ContextVar("durably_inline_step", default=None)

logger: logging.Logger = logging.getLogger("durably.inline")


class StandIn(Protocol):
    """Answers for the steps of a job that is executed inline."""

    async def __call__(
        self, place: str, kind: StepKind, codec: Codec[Any], really: Callable[[], Awaitable[object]], /
    ) -> object:
        """What the step answers, or raises; `await really()` executes it.

        Args:
            place: The step's name.
            kind: What it is.
            codec: Of what it answers.
            really: What it would do otherwise.
        """
        ...


async def everything_itself(
    place: str, kind: StepKind, codec: Codec[Any], really: Callable[[], Awaitable[object]], /
) -> object:
    """Every step does what it would do."""
    del place, kind, codec
    return await really()


async def run_inline(
    job: JobDefinition[In, Out], input: In, resources: Resources, *, stand_in: StandIn = everything_itself
) -> Out:
    """Execute the job's function here and now; see `JobHandle.run_inline`."""
    link = _Link(job, _validated(job, input), resources, stand_in)
    while True:
        try:
            output = await _call(job, link)
        except _Continued:
            pass
        except Exception:
            if link.successor is None:
                raise
        else:
            if link.successor is None:
                return output
        link = link.successor or link


async def _call(job: JobDefinition[In, Out], link: "_Link") -> Out:
    try:
        output = await job.function(InlineStepContext(link), link.input, **link.resources.given(job))
    except StepFailed as failed:
        # Nobody caught it: whoever debugs wants what was raised, where it was raised.
        original: BaseException = failed
        while isinstance(original, StepFailed) and original.__cause__ is not None:
            original = original.__cause__
        raise original from None
    return job.output_codec.encode(
        output, what=f"the output of job {job.name!r}", limit=Limits().payload_bytes
    )[1]


def _validated(job: AnyJob, input: object) -> object:
    return job.input_codec.validate(input, what=f"the input of job {job.name!r}")


@dataclass(slots=True)
class _Link:
    """One call of the job, and the one after it."""

    job: AnyJob
    input: Any
    resources: Resources
    stand_in: StandIn
    number: int = 1
    successor: "_Link | None" = None
    children: dict[str, tuple[str, object]] = field(default_factory=dict[str, tuple[str, object]])
    """The job and the output of each child, of the links before this one too."""


class _Continued(asyncio.CancelledError):
    """The job goes on as new; to the job it is what it is in a run."""


class InlineStepContext(StepContext):
    """Calls steps in place. Plain functions are called on the event loop's own thread."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._log = _InlineLog()
        self._called: dict[str, str] = {}
        self._cursors: dict[str, str] = {}

    @property
    @override
    def run_id(self) -> str:
        return RUN_ID

    @property
    @override
    def attempt(self) -> int:
        return 1

    @property
    @override
    def idempotency_key(self) -> str:
        step = _current_step.get()
        if step is not None:
            return f"{self._origin}:{step}"
        return f"{self._origin}:{self._prefix}" if self._prefix else self._origin

    @property
    @override
    def _origin(self) -> str:
        return RUN_ID if self._link.number == 1 else f"{RUN_ID}@{self._link.number}"

    @property
    @override
    def log(self) -> StepLog:
        return self._log

    @property
    @override
    def is_cancelled(self) -> bool:
        return False

    @override
    def raise_if_cancelled(self) -> None:
        return None

    @property
    @override
    def suspending(self) -> bool:
        return False

    @override
    async def _sleep(self, name: str, *, duration: float | None = None, until: float | None = None) -> None:
        place = self._place(name)
        self._enter(place)
        await self._link.stand_in(place, "sleep", NOTHING, _no_time)

    @override
    async def wait_for_signal(
        self, name: str, type_: type[T], /, *, key: str | None = None, timeout: Seconds | None = None
    ) -> T:
        async def never_comes() -> NoReturn:
            raise StepError(
                f"run_inline has no signals; {name!r} would wait for ever: trigger the job instead"
            )

        place = self._place(name)
        self._enter(place)
        return cast("T", await self._link.stand_in(place, "signal", codec_for(type_), never_comes))

    @override
    async def invoke(
        self, name: str, job: Invocable[In, Out], input: In, /, **options: Unpack[ChildOptions]
    ) -> Out:
        return await self._invoke("child", self._place(name), job, input)

    async def _invoke(self, kind: StepKind, place: str, job: Invocable[In, Out], input: In) -> Out:
        async def execute() -> Out:
            definition = cast("JobDefinition[In, Out]", getattr(job, "definition", job))
            return await run_inline(definition, input, self._link.resources)

        self._enter(place)
        return cast("Out", await self._link.stand_in(place, kind, job.output_codec, execute))

    @override
    async def spawn(
        self,
        name: str,
        job: Invocable[In, Out],
        input: In,
        /,
        *,
        detached: bool = False,
        **options: Unpack[ChildOptions],
    ) -> str:
        place = self._place(name)
        output = await self._invoke("spawn", place, job, input)
        child_id = f"{self._origin}/{place}"
        self._link.children[child_id] = (job.name, output)
        return child_id

    @override
    async def join(self, name: str, job: Invocable[In, Out], child_id: str, /) -> Out:
        async def find() -> object:
            job_name, output = self._link.children.get(child_id, (None, None))
            if job_name != job.name:
                raise ValidationError(f"{child_id!r} is no child of this run that executes {job.name!r}")
            return output

        place = self._place(name)
        self._enter(place)
        return cast("Out", await self._link.stand_in(place, "child", job.output_codec, find))

    @override
    async def continue_as_new(self, input: object, /) -> NoReturn:
        step = _current_step.get()
        if step is not None:
            raise NestedStepError("continue_as_new", step)
        link = self._link
        if link.successor is None:
            value = _validated(link.job, input)
            link.successor = replace(link, input=value, number=link.number + 1)
        raise _Continued

    @override
    def _enter(self, place: str, call_site: str = "this one") -> None:
        if self._link.successor is not None:
            raise _Continued
        if place in self._called:
            raise DuplicateStepError(place, self._called[place], call_site)
        self._called[place] = call_site

    @override
    async def _run(
        self,
        place: str,
        body: Callable[[], object],
        codec: Codec[object],
        call_site: str,
        policy: Policy | None = None,
    ) -> object:
        # A debugger takes its time, and a unit test has none: no attempts, no timeout.
        del policy
        self._enter(place, call_site)
        token = _current_step.set(place)

        async def call() -> object:
            value = body()
            return await value if isawaitable(value) else value

        try:
            value = await self._link.stand_in(place, "run", codec, call)
            what = f"the result of step {place!r}"
            return codec.encode(value, what=what, limit=Limits().payload_bytes)[1]
        except Exception as error:
            raise StepFailed(place, type_name(error), str(error), 1) from error
        finally:
            _current_step.reset(token)

    @override
    async def _map(self, items: Items) -> list[object]:
        self._enter(items.place, items.call_site)
        results: list[object] = []
        for key, body in items.bodies.items():
            try:
                results.append(await self._run(items.name(key), body, items.codec, items.call_site))
            except StepFailed as error:
                raise MapFailed(items.place, [error], len(items.bodies)) from error
        return results

    @override
    def _now(self) -> datetime:
        return datetime.fromtimestamp(RealEnvironment().now(), UTC)

    @override
    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        return None

    @override
    def save_cursor(self, value: object, /) -> None:
        place = self._current("save_cursor")
        what = f"the cursor of step {place!r}"
        text, _ = codec_for(type(value)).encode(value, what=what, limit=Limits().payload_bytes)
        self._cursors[place] = text

    @override
    def cursor(self, type_: type[T], /) -> T | None:
        place = self._current("cursor")
        text = self._cursors.get(place)
        return None if text is None else codec_for(type_).decode(text, what=f"the cursor of step {place!r}")

    def _current(self, asked: str) -> str:
        place = _current_step.get()
        if place is None:
            raise outside_a_step(asked)
        return place


async def _no_time() -> None:
    """What a sleep takes here."""


class _InlineLog(StepLog):
    @override
    def _write(self, level: LogLevel, message: str, fields: dict[str, object]) -> None:
        logger.log(LEVELS[level], message, extra={"fields": fields})
