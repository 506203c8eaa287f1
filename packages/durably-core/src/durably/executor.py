"""Carrying one claimed run from its claim to its verdict."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import assert_never

from durably.context import DurableStepContext
from durably.errors import StoreError
from durably.events import RunCompleted, RunFailed, RunReleased, RunStarted, RunWaiting, subject
from durably.execution import Engine, Execution, current_execution
from durably.failures import describe
from durably.jobs import AnyJob
from durably.lifecycle import Ending, verdict
from durably.stores.base import Answer, Completed, Failed, Outcome

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
        step = DurableStepContext(execution, self._engine)
        root = self._engine.environment.spawn(
            self._body(execution, job, step), name=f"durably:{job.name}:{execution.run.id}"
        )
        execution.root = root
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
            await step.close()
        if branches:
            execution.report(
                "job", RuntimeError(f"the job ended while {branches} of its steps were executing")
            )
        await self._settle(execution, job, root, begun)

    async def _body(self, execution: Execution, job: AnyJob, step: DurableStepContext) -> object:
        current_execution.set(execution)
        run = execution.run
        input = job.input_codec.decode(run.input_json, what=f"the stored input of run {run.id}")
        output = await job.function(step, input)
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
                failure = describe(error or RuntimeError("unknown"))
                failure = replace(failure, steps=execution.failed_beside(failure.steps))
                if await self._finish(execution, Failed(error=failure)):
                    self._engine.bus.publish(
                        RunFailed(
                            **subject(run),
                            error=failure,
                        )
                    )
            case "suspend":
                await self._suspend(execution)
            case "release":
                await self._release(execution)
            case "abandon":
                # Slot and memory stay taken until the body's thread has ended (S24).
                await _threads_of(execution)
            case _:
                assert_never(decision)

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

    async def _suspend(self, execution: Execution) -> None:
        """Park the run on its waits; it is somebody's again once one of them has ended."""
        page = execution.journal.page()

        def write() -> Coroutine[object, object, Answer]:
            return self._engine.store.suspend(execution.lease, execution.parked_on, page.notes)

        answer: Answer
        try:
            answer = await execution.insist("suspension", write)
        except (StoreError, asyncio.CancelledError):
            answer = "lost"
        if answer == "applied":
            execution.publish_page(page)
            waits = tuple(wait.step.name for wait in execution.parked_on)
            self._engine.bus.publish(RunWaiting(**subject(execution.run), steps=waits))
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
        elif execution.working:
            await self._quietly(
                execution,
                lambda: self._engine.store.hold([execution.lease], seconds=LONGEST_HOLD),
            )
        elif await self._let_go(execution):
            run = execution.run
            self._engine.bus.publish(
                RunReleased(
                    **subject(run),
                )
            )

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


async def _threads_of(execution: Execution) -> None:
    """Wait until no plain function of the run is executing."""
    loop = asyncio.get_running_loop()
    for future in tuple(execution.working):
        ended = asyncio.Event()
        future.add_done_callback(partial(_tell, loop, ended))
        await ended.wait()


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Event, _: "Future[object]", /) -> None:
    loop.call_soon_threadsafe(ended.set)
