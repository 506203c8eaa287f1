"""The step context of a run that a worker executes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from typing_extensions import override

from durably.codec import Codec
from durably.environment import Environment
from durably.errors import PayloadTooLargeError, ValidationError
from durably.execution import Execution, current_step
from durably.models import LogEntry, LogLevel, Progress
from durably.options import Limits
from durably.steps import StepContext, StepLog


class DurableStepContext(StepContext):
    """Checkpoints what the job does; see `StepContext` for what it promises."""

    def __init__(self, execution: Execution, environment: Environment, limits: Limits) -> None:
        self._execution = execution
        self._log = _DurableLog(execution, environment, limits)

    @property
    @override
    def run_id(self) -> str:
        return self._execution.run.id

    @property
    @override
    def attempt(self) -> int:
        step = current_step.get()
        return self._execution.lease.generation if step is None else step.attempt

    @property
    @override
    def idempotency_key(self) -> str:
        step = current_step.get()
        return self.run_id if step is None else f"{self.run_id}:{step.name}"

    @property
    @override
    def log(self) -> StepLog:
        return self._log

    @property
    @override
    def is_cancelled(self) -> bool:
        return self._execution.interruption is not None or self._execution.has_ended

    @override
    def raise_if_cancelled(self) -> None:
        self._execution.require_live()

    @override
    async def _run(
        self, name: str, body: Callable[[], object], codec: Codec[object], call_site: str
    ) -> object:
        execution = self._execution
        execution.require_live()
        execution.enter(name, call_site)
        known = await execution.recall(name)
        if known is None:
            return await execution.perform(name, body, codec)
        return codec.decode(
            known.result_json or "null",
            what=f"the stored result of step {name!r} of run {execution.run.id}",
        )

    @override
    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        self._execution.require_live()
        if not (_is_amount(current) and (total is None or _is_amount(total))):
            raise ValidationError("progress takes finite numbers: current, and total or None")
        if not (self._execution.is_replaying and current_step.get() is None):
            self._execution.journal.progress(Progress(current=current, total=total, message=message))


class _DurableLog(StepLog):
    def __init__(self, execution: Execution, environment: Environment, limits: Limits) -> None:
        self._execution = execution
        self._environment = environment
        self._limits = limits

    @override
    def _write(self, level: LogLevel, message: str, fields: dict[str, object]) -> None:
        execution = self._execution
        execution.require_live()
        step = current_step.get()
        if execution.is_replaying and step is None:
            return
        text = json.dumps([message, fields], default=str)
        if len(text) > self._limits.log_bytes:
            raise PayloadTooLargeError("a log line", size=len(text), limit=self._limits.log_bytes)
        stored_fields = cast("dict[str, object]", json.loads(text)[1])
        moment = datetime.fromtimestamp(self._environment.now(), UTC)
        execution.journal.log(
            lambda sequence: LogEntry(
                sequence=sequence,
                level=level,
                message=str(message),
                fields=stored_fields,
                step_name=None if step is None else step.name,
                created_at=moment,
            )
        )


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf")
