"""A job's function with a plain context and no store."""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from inspect import isawaitable
from typing import TypeVar, cast

from typing_extensions import Unpack, override

from durably.codec import Codec
from durably.errors import DuplicateStepError, StepError, StepFailed
from durably.failures import type_name
from durably.jobs import JobDefinition
from durably.models import LogLevel, Seconds
from durably.options import ChildOptions, Limits
from durably.steps import Invocable, StepContext, StepLog

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

RUN_ID = "inline"
LEVELS: Mapping[LogLevel, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_current_step: ContextVar[str | None] = ContextVar("durably_inline_step", default=None)

logger: logging.Logger = logging.getLogger("durably.inline")


async def run_inline(job: JobDefinition[In, Out], input: In) -> Out:
    """Execute the job's function here and now; see `JobHandle.run_inline`."""
    value = job.input_codec.validate(input, what=f"the input of job {job.name!r}")
    try:
        output = await job.function(InlineStepContext(), value)
    except StepFailed as failed:
        # Nobody caught it: whoever debugs wants what was raised, where it was raised.
        raise failed.__cause__ or failed from None
    return job.output_codec.encode(
        output, what=f"the output of job {job.name!r}", limit=Limits().payload_bytes
    )[1]


class InlineStepContext(StepContext):
    """Calls steps in place. Plain functions are called on the event loop's own thread."""

    def __init__(self) -> None:
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
        return RUN_ID if step is None else f"{RUN_ID}:{step}"

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
        self._enter(name)

    @override
    async def wait_for_signal(
        self, name: str, type_: type[T], /, *, key: str | None = None, timeout: Seconds | None = None
    ) -> T:
        raise StepError(f"run_inline has no signals; {name!r} would wait for ever: trigger the job instead")

    @override
    async def invoke(
        self, name: str, job: Invocable[In, Out], input: In, /, **options: Unpack[ChildOptions]
    ) -> Out:
        self._enter(name)
        return await run_inline(cast("JobDefinition[In, Out]", getattr(job, "definition", job)), input)

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

    def _enter(self, name: str, call_site: str = "this one") -> None:
        if name in self._called:
            raise DuplicateStepError(name, self._called[name], call_site)
        self._called[name] = call_site

    @override
    async def _run(
        self, name: str, body: Callable[[], object], codec: Codec[object], call_site: str
    ) -> object:
        self._enter(name, call_site)
        token = _current_step.set(name)
        try:
            value = body()
            if isawaitable(value):
                value = await value
            what = f"the result of step {name!r}"
            return codec.encode(value, what=what, limit=Limits().payload_bytes)[1]
        except Exception as error:
            raise StepFailed(name, type_name(error), str(error), 1) from error
        finally:
            _current_step.reset(token)

    @override
    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        return None


class _InlineLog(StepLog):
    @override
    def _write(self, level: LogLevel, message: str, fields: dict[str, object]) -> None:
        logger.log(LEVELS[level], message, extra={"fields": fields})
