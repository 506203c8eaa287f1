"""The step context of a run that a worker executes."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import NoReturn, TypeVar, cast
from uuid import UUID, uuid5

from typing_extensions import Unpack, override

from durably.attempts import Attempts
from durably.codec import Codec, codec_for
from durably.environment import Environment
from durably.errors import PayloadTooLargeError, StepError, ValidationError
from durably.execution import CurrentStep, Execution, current_step
from durably.jobs import AnyJob
from durably.mapping import KEYS, Items, execute
from durably.models import LogEntry, LogLevel, Progress, Seconds, StepKind
from durably.options import (
    ChildOptions,
    Limits,
    TriggerOptions,
    check_key,
    check_run_id,
    seconds,
    trigger_options,
)
from durably.policies import Policy
from durably.steps import Invocable, StepContext, StepLog, outside_a_step
from durably.stores.values import NewRun, StepRecord
from durably.tenure import Engine
from durably.waiting import Waiting
from durably.wishes import Wish, input_text, new_run

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

CHILDREN = UUID("6f0c3c1e-8a56-5d1b-9a0f-5b8f1d6c2a77")
"""The namespace of children's ids."""
UNTYPED_TEXT: Codec[str] = codec_for(str)


class DurableStepContext(StepContext):
    """Checkpoints what the job does; see `StepContext` for what it promises."""

    def __init__(self, execution: Execution, engine: Engine, job: AnyJob) -> None:
        environment, limits = engine.environment, engine.limits
        self._execution = execution
        self._job = job
        self._environment = environment
        self._limits = limits
        self._waiting = Waiting(execution, engine)
        self._attempts = Attempts(execution, engine, self._waiting)
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
        if step is not None:
            return f"{self._origin}:{step.name}"
        return f"{self._origin}:{self._prefix}" if self._prefix else self._origin

    @property
    @override
    def _origin(self) -> str:
        return self._execution.origin

    @property
    @override
    def log(self) -> StepLog:
        return self._log

    @property
    @override
    def is_cancelled(self) -> bool:
        step = current_step.get()
        is_over = step is not None and step.is_over
        return is_over or self._execution.interruption is not None or self._execution.has_ended

    @override
    def raise_if_cancelled(self) -> None:
        self._execution.require_live()
        if (step := current_step.get()) is not None and step.is_over:
            raise asyncio.CancelledError(f"step {step.name!r}: its time is up")

    @override
    async def _run(
        self,
        place: str,
        body: Callable[[], object],
        codec: Codec[object],
        call_site: str,
        policy: Policy | None = None,
        kind: StepKind = "run",
    ) -> object:
        execution = self._execution
        execution.require_live()
        execution.enter(place, call_site)
        known = await execution.recall(place, kind)
        if known is None:
            return await self._attempts.perform(place, body, codec, policy, kind)
        return codec.decode(
            known.result_json or "null", what=f"the result of step {place!r} of run {execution.run.id}"
        )

    @override
    async def _map(self, items: Items) -> list[object]:
        keys = await self._run(items.place, _answering(list(items.bodies)), KEYS, items.call_site, kind="map")
        results = await execute(
            items,
            cast("list[str]", keys),
            call=lambda place, body: self._run(place, body, items.codec, items.call_site, items.policy),
            ended=self._execution.has_ended_well,
        )
        self._execution.require_live()
        return results

    @override
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._environment.now(), UTC)

    @override
    def _enter(self, place: str, call_site: str) -> None:
        self._execution.require_live()
        self._execution.enter(place, call_site)

    @property
    @override
    def suspending(self) -> bool:
        return self._execution.interruption == "suspended"

    @override
    async def _sleep(self, name: str, *, duration: float | None = None, until: float | None = None) -> None:
        name = self._place(name)
        if (await self._recall(name, "sleep")) is None:
            if until is None:
                until = self._environment.now() + (duration or 0.0)
            await self._waiting.wait(self._execution.begin(name, "sleep", wake_at=until))

    @override
    async def wait_for_signal(
        self, name: str, type_: type[T], /, *, key: str | None = None, timeout: Seconds | None = None
    ) -> T:
        check_key(key, "key")
        limit = None if timeout is None else seconds(timeout, "timeout", problem=ValidationError)
        name = self._place(name)
        ended = await self._recall(name, "signal")
        if ended is None:
            wake_at = None if limit is None else self._environment.now() + limit
            ended = await self._end_of(self._execution.begin(name, "signal", wake_at=wake_at, signal_key=key))
        return codec_for(type_).decode(
            ended.result_json or "null", what=f"the payload of signal {name!r} of run {self.run_id}"
        )

    @override
    async def invoke(
        self, name: str, job: Invocable[In, Out], input: In, /, **options: Unpack[ChildOptions]
    ) -> Out:
        name = self._place(name)
        ended = await self._recall(name, "child")
        if ended is None:
            child = self._child(name, job, input, options, detached=False)
            ended = await self._end_of(self._execution.begin(name, "child", child_id=child.id), child=child)
        return job.output_codec.decode(
            ended.result_json or "null",
            what=f"the output of job {job.name!r}, invoked as step {name!r} of run {self.run_id},",
        )

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
        name = self._place(name)
        ended = await self._recall(name, "spawn")
        if ended is None:
            child = self._child(name, job, input, options, detached=detached)
            ended = await self._end_of(self._execution.begin(name, "spawn", child_id=child.id), child=child)
        return UNTYPED_TEXT.decode(ended.result_json or "null", what=f"the child of step {name!r}")

    @override
    async def join(self, name: str, job: Invocable[In, Out], child_id: str, /) -> Out:
        check_run_id(child_id)
        name = self._place(name)
        ended = await self._recall(name, "child")
        if ended is None:
            step = self._execution.begin(name, "child", child_id=child_id)
            ended = await self._end_of(step, joins=job.name)
        return job.output_codec.decode(
            ended.result_json or "null",
            what=f"the output of job {job.name!r}, joined as step {name!r} of run {self.run_id},",
        )

    @override
    async def continue_as_new(self, input: object, /) -> NoReturn:
        execution = self._execution
        execution.require_live()
        execution.refuse_in_step("continue_as_new")
        if execution.is_executing or self._waiting.is_waiting:
            raise StepError(
                f"run {self.run_id} cannot continue as new while other steps of it are executing or "
                "waiting; leave the gather or the TaskGroup first"
            )
        execution.continue_with(input_text(self._job, input, limits=self._limits))
        await self._environment.sleep(0)
        raise asyncio.CancelledError(f"run {self.run_id}: continued")

    async def close(self) -> None:
        """Let go of what waits in memory."""
        await self._waiting.close()

    async def _recall(self, place: str, kind: StepKind) -> StepRecord | None:
        """Take note of a wait's call; answers its checkpoint, if it has one."""
        self._enter(place, "a wait of this name")
        return await self._execution.recall(place, kind)

    async def _end_of(
        self, step: StepRecord, *, child: NewRun | None = None, joins: str | None = None
    ) -> StepRecord:
        ended = await self._waiting.wait(step, child=child, joins=joins)
        if ended.error is not None:
            raise await self._execution.told(ended)
        return ended

    def _child(
        self,
        name: str,
        job: Invocable[In, Out],
        input: In,
        options: ChildOptions,
        *,
        detached: bool,
    ) -> NewRun:
        checked = trigger_options(cast("TriggerOptions", options))
        if checked.idempotency_key is not None or checked.coalesce is not None:
            raise ValidationError(
                "a child takes no idempotency_key and no coalesce: it is triggered once, by its step's name",
                fields=("idempotency_key" if checked.coalesce is None else "coalesce",),
            )
        # Made from the step's place, so that storing it again finds the child that is there.
        return new_run(
            job,
            Wish(input, checked),
            id=str(uuid5(CHILDREN, f"{self._origin}/{name}")),
            limits=self._limits,
            parent_id=self.run_id,
            is_detached=detached,
        )

    @override
    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        self._execution.require_live()
        if not (_is_amount(current) and (total is None or _is_amount(total))):
            raise ValidationError("progress takes finite numbers: current, and total or None")
        if not (self._execution.is_replaying and current_step.get() is None):
            self._execution.journal.progress(Progress(current=current, total=total, message=message))

    @override
    def save_cursor(self, value: object, /) -> None:
        step = self._current("save_cursor")
        self.raise_if_cancelled()
        what = f"the cursor of step {step.name!r}"
        text, _ = codec_for(type(value)).encode(value, what=what, limit=self._limits.payload_bytes)
        if text != step.cursor_json:
            step.cursor_json = text
            self._execution.journal.cursor(step.started, text)

    @override
    def cursor(self, type_: type[T], /) -> T | None:
        step = self._current("cursor")
        text = step.cursor_json
        return (
            None if text is None else codec_for(type_).decode(text, what=f"the cursor of step {step.name!r}")
        )

    def _current(self, asked: str) -> CurrentStep:
        """The step whose body is asking."""
        self._execution.require_live()
        step = current_step.get()
        if step is None:
            raise outside_a_step(asked)
        return step


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


def _answering(value: T) -> Callable[[], Coroutine[object, object, T]]:
    async def answer() -> T:
        return value

    return answer
