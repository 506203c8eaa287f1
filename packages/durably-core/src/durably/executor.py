"""Carrying one claimed run from its claim to its verdict."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from math import inf
from typing import assert_never

from durably.context import DurableStepContext
from durably.errors import RunTimeoutError, StoreError
from durably.events import (
    RunCompleted,
    RunContinued,
    RunEvent,
    RunReattempted,
    RunReleased,
    RunStarted,
    RunWaiting,
    subject,
)
from durably.execution import Execution, current_execution, numbered
from durably.failures import describe
from durably.jobs import AnyJob
from durably.lifecycle import Ending, verdict
from durably.retries import wait_before_next
from durably.stores.values import Answer, Completed, Continued, Failed, Outcome, Reattempt
from durably.tenure import Engine

LONGEST_HOLD = 3600.0
"""Seconds for which a run is kept from others when its thread outlives its worker's stop."""


class Executor:
    """Executes runs; keeps nothing of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def carry(self, execution: Execution, job: AnyJob) -> None:
        """Execute the job and write its outcome. Never raises for what the job does."""
        begun = self._engine.environment.monotonic()
        self._publish_start(execution)
        step = DurableStepContext(execution, self._engine, job)
        root = self._engine.environment.spawn(
            self._body(execution, job, step), name=f"durably:{job.name}:{execution.run.id}"
        )
        execution.root = root
        timer = self._time(execution, job)
        if execution.interruption is not None:
            root.cancel()
        try:
            await asyncio.wait({root})
        except asyncio.CancelledError:
            # The program's loop is being closed: the run is left to its lease.
            execution.interrupt("lost")
            root.cancel()
            raise
        finally:
            branches = execution.end()
            if timer is not None:
                timer.cancel()
            await step.close()
        if branches:
            execution.report(
                "job", RuntimeError(f"the job ended while {branches} of its steps were executing")
            )
        await self._settle(execution, job, root, begun)

    def _time(self, execution: Execution, job: AnyJob) -> "asyncio.Task[None] | None":
        """See that the execution ends when the run's time is up."""
        ends_at = _ends_at(execution, job)
        if ends_at is None:
            return None
        seconds = ends_at - self._engine.environment.now()
        if seconds <= 0:
            execution.interrupt("overdue")
            return None

        async def end() -> None:
            await self._engine.environment.sleep(seconds)
            execution.interrupt("overdue")

        return self._engine.environment.spawn(end(), name=f"durably:timeout:{execution.run.id}")

    async def _body(self, execution: Execution, job: AnyJob, step: DurableStepContext) -> object:
        current_execution.set(execution)
        run = execution.run
        input = job.input_codec.decode(run.input_json, what=f"the input of run {run.id}")
        output = await job.function(step, input, **self._engine.resources.given(job))
        text, _ = job.output_codec.encode(
            output,
            what=f"the output of job {job.name!r}",
            limit=self._engine.limits.payload_bytes,
        )
        return text

    async def _settle(
        self,
        execution: Execution,
        job: AnyJob,
        root: "asyncio.Task[object]",
        begun: float,
    ) -> None:
        run = execution.run
        ending, error = _ending(root)
        decision = verdict(execution.interruption, ending)
        if decision in {"complete", "fail", "continue"} and run.concurrency_key is not None:
            # A thread whose time was up works on: until it has ended, the key is not free for the next.
            await _threads_of(execution)
        match decision:
            case "complete":
                text = str(root.result())
                if await self._finish(
                    execution, Completed(output_json=text, keep_results=self._engine.keep_results)
                ):
                    self._engine.bus.publish(
                        RunCompleted(
                            **subject(run),
                            output=job.output_codec.decode(text, what="the output"),
                            duration=self._engine.environment.monotonic() - begun,
                        )
                    )
            case "fail":
                if execution.interruption == "overdue":
                    error = RunTimeoutError(job.name, job.timeout or 0.0)
                await self._fail(execution, job, error or RuntimeError("unknown"))
            case "continue":
                await self._continue(execution)
            case "suspend":
                await self._suspend(execution, job)
            case "release":
                await self._release(execution)
            case "abandon":
                # Slot and memory stay taken until the body's thread has ended (S24).
                await _threads_of(execution)
            case _:
                assert_never(decision)

    async def _fail(self, execution: Execution, job: AnyJob, error: BaseException) -> None:
        """End the run as failed, or let the job begin again if it may."""
        delay, error = self._delay(execution, job, error)
        failure = describe(error)
        failure = replace(failure, steps=execution.failed_beside(failure.steps))
        about = subject(execution.run)
        attempt = execution.run.attempt
        if delay is None:
            if await self._finish(execution, Failed(error=failure)):
                self._engine.tell_failed(execution.run, failure)
        elif await self._finish(execution, Reattempt(error=failure, attempt=attempt, delay=delay)):
            event = RunReattempted(**about, attempt=attempt, error=failure, delay=delay)
            self._tell_passage(execution, event)

    def _delay(
        self, execution: Execution, job: AnyJob, error: BaseException
    ) -> tuple[float | None, BaseException]:
        """Seconds until the next attempt at the job, None if there is none; and what it failed of."""
        if execution.interruption is not None or not isinstance(error, Exception):
            return None, error
        environment = self._engine.environment
        try:
            delay = wait_before_next(job.retry, error, execution.run.attempt, chance=environment.random())
        except Exception as broken:  # noqa: BLE001 - a user's function decides what is retried
            return None, broken
        ends_at = _ends_at(execution, job)
        if delay is not None and ends_at is not None and environment.now() + delay >= ends_at:
            # Its time would be up before it begins.
            delay = None
        return delay, error

    async def _continue(self, execution: Execution) -> None:
        """End the link, so that the job begins anew with its next input."""
        run = execution.run
        if await self._finish(execution, Continued(input_json=execution.next_input, link=run.link)):
            self._tell_passage(execution, RunContinued(**subject(run), link=run.link + 1))

    async def _finish(self, execution: Execution, outcome: Outcome) -> bool:
        """Write the outcome; answers whether it stands."""
        page = execution.journal.page()

        def write() -> Coroutine[object, object, Answer]:
            return self._engine.store.finish(execution.lease, outcome, page.notes)

        answer: Answer
        try:
            answer = await execution.insist("outcome", write)
        except (StoreError, asyncio.CancelledError):
            # Not written in time: the run resumes from its checkpoints once the store is well.
            answer = "lost"
        if answer == "lost":
            execution.interruption = "lost"
        if answer == "applied":
            execution.publish_page(page)
        elif answer == "cancelled":
            await self._let_go(execution)
        return answer == "applied"

    async def _suspend(self, execution: Execution, job: AnyJob) -> None:
        """Park the run on its waits; it is somebody's again once one of them has ended."""
        waits = numbered(execution.parked_on, execution.journal.number(len(execution.parked_on)))
        page = execution.journal.page()

        def write() -> Coroutine[object, object, Answer]:
            return self._engine.store.suspend(
                execution.lease, waits, page.notes, until=_ends_at(execution, job)
            )

        answer: Answer
        try:
            answer = await execution.insist("suspension", write)
        except (StoreError, asyncio.CancelledError):
            answer = "lost"
        if answer == "applied":
            execution.publish_page(page)
            names = tuple(wait.step.name for wait in waits)
            self._tell_passage(execution, RunWaiting(**subject(execution.run), steps=names))
        elif answer == "cancelled":
            await self._let_go(execution)
        else:
            execution.interruption = "lost"

    async def _release(self, execution: Execution) -> None:
        """Hand the run back, or let go of a cancelled one, once no thread of it works any more.

        When the worker stops it does not wait for threads: the run is kept from others until the
        process ends (S25).
        """
        if execution.interruption == "cancelled":
            await _threads_of(execution)
            await self._let_go(execution)
            return
        await self._quietly(execution, lambda: execution.flush(started_before=-inf))
        if execution.working:
            await self._quietly(
                execution,
                lambda: self._engine.store.hold([execution.lease], seconds=LONGEST_HOLD),
            )
        elif await self._let_go(execution):
            self._tell_passage(execution, RunReleased(**subject(execution.run)))

    async def _let_go(self, execution: Execution) -> bool:
        return await self._quietly(execution, lambda: self._engine.store.release([execution.lease]))

    async def _quietly(
        self, execution: Execution, write: Callable[[], Coroutine[object, object, None]]
    ) -> bool:
        try:
            await execution.insist("release", write)
        except (StoreError, asyncio.CancelledError):
            # The lease will run out instead.
            return False
        return True

    def _tell_passage(self, execution: Execution, event: RunEvent) -> None:
        """Tell that this execution is over and the run is not.

        Where the store's answer came so late that this worker has claimed the run anew, what happened since
        was told before: then it is not told any more.
        """
        if execution.interruption != "lost":
            self._engine.bus.publish(event)

    def _publish_start(self, execution: Execution) -> None:
        run = execution.run
        self._engine.bus.publish(
            RunStarted(
                **subject(run),
                generation=execution.lease.generation,
                resumed=execution.resumes,
            )
        )


def _ending(root: "asyncio.Task[object]") -> tuple[Ending, BaseException | None]:
    if root.cancelled():
        return "raised", asyncio.CancelledError("the job cancelled itself")
    error = root.exception()
    return ("returned", None) if error is None else ("raised", error)


def _ends_at(execution: Execution, job: AnyJob) -> float | None:
    """The instant at which the run's time is up, by the wall clock: it outlives processes."""
    since = execution.run.timed_from
    return None if job.timeout is None or since is None else since.timestamp() + job.timeout


async def _threads_of(execution: Execution) -> None:
    """Wait until no plain function of the run is executing."""
    loop = asyncio.get_running_loop()
    for future in tuple(execution.working):
        ended = asyncio.Event()
        future.add_done_callback(partial(_tell, loop, ended))
        await ended.wait()


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Event, _: "Future[object]", /) -> None:
    loop.call_soon_threadsafe(ended.set)
