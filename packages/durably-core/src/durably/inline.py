"""A job's function with a plain context and no store."""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from inspect import isawaitable
from typing import TypeVar, cast

from typing_extensions import Unpack, override

from durably.codec import Codec
from durably.environment import RealEnvironment
from durably.errors import DuplicateStepError, MapFailed, StepError, StepFailed
from durably.failures import type_name
from durably.jobs import JobDefinition
from durably.mapping import Items
from durably.models import LogLevel, Seconds
from durably.options import ChildOptions, Limits
from durably.policies import Policy
from durably.resources import Resources
from durably.steps import Invocable, StepContext, StepLog

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

RUN_ID = "inline"
LEVELS: Mapping[LogLevel, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_current_step: ContextVar[str | None] = ContextVar("durably_inline_step", default=None)

logger: logging.Logger = logging.getLogger("durably.inline")


async def run_inline(job: JobDefinition[In, Out], input: In, resources: Resources) -> Out:
    """Execute the job's function here and now; see `JobHandle.run_inline`."""
    value = job.input_codec.validate(input, what=f"the input of job {job.name!r}")
    given = resources.given(job)
    try:
        output = await job.function(InlineStepContext(resources), value, **given)
    except StepFailed as failed:
        # Nobody caught it: whoever debugs wants what was raised, where it was raised.
        original: BaseException = failed
        while isinstance(original, StepFailed) and original.__cause__ is not None:
            original = original.__cause__
        raise original from None
    return job.output_codec.encode(
        output, what=f"the output of job {job.name!r}", limit=Limits().payload_bytes
    )[1]


class InlineStepContext(StepContext):
    """Calls steps in place. Plain functions are called on the event loop's own thread."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._log = _InlineLog()
        self._called: dict[str, str] = {}

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
            return f"{RUN_ID}:{step}"
        return f"{RUN_ID}:{self._prefix}" if self._prefix else RUN_ID

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
        self._enter(self._place(name))

    @override
    async def wait_for_signal(
        self, name: str, type_: type[T], /, *, key: str | None = None, timeout: Seconds | None = None
    ) -> T:
        raise StepError(f"run_inline has no signals; {name!r} would wait for ever: trigger the job instead")

    @override
    async def invoke(
        self, name: str, job: Invocable[In, Out], input: In, /, **options: Unpack[ChildOptions]
    ) -> Out:
        self._enter(self._place(name))
        definition = cast("JobDefinition[In, Out]", getattr(job, "definition", job))
        return await run_inline(definition, input, self._resources)

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
        await self.invoke(name, job, input, **options)
        return f"{RUN_ID}/{name}"

    @override
    def _enter(self, place: str, call_site: str = "this one") -> None:
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
        try:
            value = body()
            if isawaitable(value):
                value = await value
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


class _InlineLog(StepLog):
    @override
    def _write(self, level: LogLevel, message: str, fields: dict[str, object]) -> None:
        logger.log(LEVELS[level], message, extra={"fields": fields})
