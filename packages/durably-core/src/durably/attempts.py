"""Executing the body of a step: in its task or on a thread, within a time, again after a failure."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from durably.codec import Codec
from durably.errors import StepFailed, StepTimeoutError
from durably.events import StepCancelled, StepCompleted, StepFailedEvent, StepRetried, StepStarted
from durably.execution import CurrentStep, Execution, current_step
from durably.failures import describe
from durably.models import StepKind
from durably.policies import Policy
from durably.retries import wait_before_next
from durably.stores.values import StepRecord
from durably.tenure import Engine
from durably.waiting import Waiting


class Attempts:
    """Executes the steps of one execution that have no checkpoint yet."""

    def __init__(self, execution: Execution, engine: Engine, waiting: Waiting) -> None:
        self._execution = execution
        self._engine = engine
        self._waiting = waiting

    async def perform(
        self,
        name: str,
        body: Callable[[], object],
        codec: Codec[object],
        policy: Policy | None = None,
        kind: StepKind = "run",
    ) -> object:
        """Execute the body and commit what came of it.

        An attempt that failed is committed before the wait for the next one, so that no crash gives
        it back.

        Raises:
            StepFailed: The body raised or its result cannot be stored; that is committed.
            asyncio.CancelledError: The run is no longer ours, or is suspended until the next attempt.
        """
        execution = self._execution
        execution.leave_replay()
        task = asyncio.current_task()
        while True:
            earlier = execution.left_running(name)
            if earlier is not None and earlier.wake_at is not None:
                await self._waiting.back_off(earlier)
            started = execution.begin(name, kind)
            current = CurrentStep(execution, started, None if earlier is None else earlier.cursor_json)
            token = current_step.set(current)
            execution.body_begins(task)
            try:
                await self._announce(started)
                try:
                    if policy is None or policy.timeout is None:
                        value = await self._call(body)
                    else:
                        value = await self._call_within(policy.timeout, body, current)
                    text, value = codec.encode(
                        value, what=f"the result of step {name!r}", limit=self._engine.limits.payload_bytes
                    )
                except Exception as error:  # noqa: BLE001 - whatever it is, the body has failed
                    failures = 1 + (0 if earlier is None else earlier.failures)
                    delay, reason = self._delay(policy, error, failures)
                    if delay is None:
                        raise await self._fail(started, reason) from reason
                    await self._fail_for_now(current, error, failures, delay)
                else:
                    await self._complete(started, text, value)
                    return value
            except asyncio.CancelledError:
                if execution.interruption != "lost":
                    self._engine.bus.publish(StepCancelled(**execution.about(started)))
                raise
            finally:
                execution.body_ends(task)
                execution.journal.step_ended(name)
                current_step.reset(token)

    async def _announce(self, started: StepRecord) -> None:
        """Note that the body begins, and tell it.

        Raises:
            asyncio.CancelledError: The run is no longer ours: it does not begin.
        """
        execution = self._execution
        execution.journal.step_started(started)
        if execution.is_suspect:
            # If this body kills the process, the row says which one it was.
            await execution.flush(started_before=started.started_at)
        if self._engine.bus.wants("step:start"):
            # Nothing is told of a step that does not begin; and a handler may take its time.
            execution.require_live()
            self._engine.bus.publish(StepStarted(**execution.about(started)))
        execution.require_live()

    async def _call(self, body: Callable[[], object]) -> object:
        if not _is_async(body):
            future = self._engine.threads.submit(partial(_without_stop_iteration, body))
            working = self._execution.working
            working.add(future)
            future.add_done_callback(working.discard)
            result = await asyncio.wrap_future(future)
        else:
            result = body()
        return await result if inspect.isawaitable(result) else result

    async def _call_within(self, seconds: float, body: Callable[[], object], current: CurrentStep) -> object:
        """Call it, and cut it off when its time is up.

        A plain function cannot be cut off: it goes on in its thread, and nobody hears its result.

        Raises:
            StepTimeoutError: Its time is up, whatever the body made of its cancellation.
        """
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                value = await self._call(body)
        except Exception as error:
            # The scope knows its own cancellation from the run's, and from a timeout in the body.
            if scope.expired():
                current.is_over = True
                raise StepTimeoutError(current.name, seconds) from error
            raise
        if scope.expired():
            raise StepTimeoutError(current.name, seconds)
        return value

    def _delay(
        self, policy: Policy | None, error: Exception, failures: int
    ) -> tuple[float | None, Exception]:
        """Seconds until the next attempt, None if there is none; and what the step failed of."""
        if policy is None:
            return None, error
        try:
            chance = self._engine.environment.random()
            return wait_before_next(policy.retry, error, failures, chance=chance), error
        except Exception as broken:  # noqa: BLE001 - a user's function decides what is retried
            return None, broken

    async def _complete(self, started: StepRecord, text: str, value: object) -> None:
        duration = await self._execution.save(started, "completed", result_json=text)
        if self._execution.is_suspect:
            self._execution.clear_suspicion()
        if self._engine.bus.wants("step:complete"):
            about = self._execution.about(started)
            self._engine.bus.publish(StepCompleted(**about, output=value, duration=duration))

    async def _fail(self, started: StepRecord, error: Exception) -> StepFailed:
        """Commit the failure; answers what the job is told."""
        failure = describe(error)
        duration = await self._execution.save_failure(started, failure)
        about = self._execution.about(started)
        self._engine.bus.publish(StepFailedEvent(**about, error=failure, duration=duration))
        return StepFailed(
            started.name, failure.type, failure.message, started.attempt, traceback=failure.traceback
        )

    async def _fail_for_now(self, step: CurrentStep, error: Exception, failures: int, delay: float) -> None:
        """Commit a failure that is followed by another attempt."""
        started = replace(step.started, cursor_json=step.cursor_json)
        failure = describe(error)
        now = self._engine.environment.now()
        # Its mark, written after this, would hide when the next attempt is due.
        self._execution.journal.step_ended(started.name)
        await self._execution.save_attempt(
            replace(started, completed_at=now, wake_at=now + delay, failures=failures, error=failure)
        )
        about = self._execution.about(started)
        self._engine.bus.publish(StepRetried(**about, error=failure, delay=delay))


def _is_async(fn: Callable[..., object]) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def _without_stop_iteration(body: Callable[[], object]) -> object:
    # A future refuses StopIteration as an exception and would never be done.
    try:
        return body()
    except StopIteration as error:
        raise RuntimeError("the step's function raised StopIteration") from error
