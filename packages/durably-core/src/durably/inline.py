"""A job's function with a plain context and no store."""

import logging
from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import TypeVar

from typing_extensions import override

from durably.codec import Codec
from durably.errors import DuplicateStepError
from durably.jobs import JobDefinition
from durably.models import LogLevel
from durably.options import Limits
from durably.steps import StepContext, StepLog

In = TypeVar("In")
Out = TypeVar("Out")

RUN_ID = "inline"
LEVELS: Mapping[LogLevel, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

logger: logging.Logger = logging.getLogger("durably.inline")


async def run_inline(job: JobDefinition[In, Out], input: In) -> Out:
    """Execute the job's function here and now; see `JobHandle.run_inline`."""
    value = job.input_codec.validate(input, what=f"the input of job {job.name!r}")
    output = await job.function(InlineStepContext(), value)
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
        return RUN_ID

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

    @override
    async def _run(
        self, name: str, body: Callable[[], object], codec: Codec[object], call_site: str
    ) -> object:
        if name in self._called:
            raise DuplicateStepError(name, self._called[name], call_site)
        self._called[name] = call_site
        value = body()
        if isawaitable(value):
            value = await value
        return codec.encode(value, what=f"the result of step {name!r}", limit=Limits().payload_bytes)[1]

    @override
    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        return None


class _InlineLog(StepLog):
    @override
    def _write(self, level: LogLevel, message: str, fields: dict[str, object]) -> None:
        logger.log(LEVELS[level], message, extra={"fields": fields})
