"""Keeping the leases of a worker whose event loop is blocked, and saying what blocks it.

Heartbeats are sent by the loop. A step that blocks it (a long computation or `time.sleep` in an
`async def`) would stop them, and other workers would execute its runs a second time beside it. So a
thread looks after the loop: while it does not turn, the thread has the store renew the leases, up to
`stall_limit`. Code that keeps the interpreter's lock stops this thread too; nothing helps then.
"""

import asyncio
import logging
import sys
import threading
import traceback
from asyncio.events import Handle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from durably.events import WorkerError
from durably.execution import Execution, current_execution, current_step
from durably.options import WorkerOptions
from durably.tenure import Engine

if TYPE_CHECKING:
    from durably.environment import Ticker
    from durably.stores.values import Answer

TICKS_IN_A_LEASE = 6
FRAMES_SHOWN = 6

logger: logging.Logger = logging.getLogger("durably")


class Watchdog:
    """Looks after one event loop.

    Time is counted in ticks of its own, not by a clock: a process that is paused as a whole, or a
    machine that sleeps, is not a blocked loop.

    Args:
        worker_id: Whose leases are renewed.
        engine: The worker's surroundings.
        options: The length of a lease, and the limit.
        executions: Answers what the worker is executing now.
    """

    def __init__(
        self,
        worker_id: str,
        engine: Engine,
        options: WorkerOptions,
        *,
        executions: Callable[[], Iterable[Execution]],
    ) -> None:
        self._worker_id = worker_id
        self._engine = engine
        self._lease_seconds = options.lease_seconds
        self._stall_limit = options.stall_limit
        self._every = options.lease_seconds / TICKS_IN_A_LEASE
        self._executions = executions
        self._ticker: Ticker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._has_turned = True
        self._missed = 0
        self._has_warned = False
        self._has_given_up = False
        self._is_renewing = False

    def start(self) -> None:
        """Begin to look after the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._ticker = self._engine.environment.ticker("durably-watchdog", self._tick, every=self._every)

    def stop(self) -> None:
        """End."""
        if self._ticker is not None:
            self._ticker.close()

    # On the ticker's thread

    def _tick(self) -> None:
        if self._loop is None or self._loop.is_closed():
            self.stop()
        elif self._has_turned:
            self._has_turned = self._has_warned = self._has_given_up = False
            self._missed = 0
            self._tell(self._turn)
        else:
            self._missed += 1
            self._bridge(self._missed * self._every)

    def _turn(self) -> None:
        self._has_turned = True

    def _bridge(self, blocked: float) -> None:
        """Stand in for the loop, which has been blocked for so many seconds at least."""
        executions = [item for item in tuple(self._executions()) if item.interruption is None]
        if not executions or self._has_given_up:
            return
        if blocked >= self._stall_limit:
            self._has_given_up = True
            self._log(
                logging.ERROR, blocked, executions, "gives up its runs: other workers may take them over"
            )
            return
        self._renew(executions)
        if blocked >= self._lease_seconds / 3 and not self._has_warned:
            self._has_warned = True
            self._log(
                logging.WARNING,
                blocked,
                executions,
                f"keeps its runs for {self._stall_limit - blocked:.1f} s more; "
                "give blocking work to a plain function, which is executed in a thread",
            )

    def _renew(self, executions: Sequence[Execution]) -> None:
        if self._is_renewing:
            # The store is in trouble, or busy: the answer will come.
            return
        self._is_renewing = True
        deadline = self._engine.environment.monotonic() + self._lease_seconds
        try:
            answer = self._engine.store.renew_aside(
                self._worker_id, [item.lease for item in executions], lease_seconds=self._lease_seconds
            )
        except Exception as error:  # noqa: BLE001 - a store that is being closed, say
            self._trouble(error)
        else:
            answer.add_done_callback(partial(self._renewed, executions, deadline))

    def _renewed(
        self, executions: Sequence[Execution], deadline: float, answer: "Future[Mapping[str, Answer]]", /
    ) -> None:
        if (error := answer.exception()) is not None:
            self._trouble(error)
            return
        self._is_renewing = False
        refused = answer.result()
        for item in executions:
            verdict = refused.get(item.lease.run_id, "applied")
            if verdict == "applied":
                item.deadline = max(item.deadline, deadline)
            else:
                self._tell(partial(item.interrupt, verdict))

    def _trouble(self, error: BaseException) -> None:
        self._is_renewing = False
        self._tell(partial(self._engine.bus.publish, WorkerError(context="watchdog", error=error)))

    def _tell(self, what: Callable[[], None]) -> None:
        """Have it called on the loop, once it turns; not at all if it is closed meanwhile."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(what)
            except RuntimeError:
                self.stop()

    def _log(self, level: int, blocked: float, executions: Sequence[Execution], outcome: str) -> None:
        # Documented in spite of its name.
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        logger.log(
            level,
            "the event loop has been blocked for %.1f s by %s; the worker %s\n%s",
            blocked,
            _culprit(frame, executions),
            outcome,
            "".join(traceback.format_stack(frame, FRAMES_SHOWN) if frame is not None else ()).rstrip(),
        )


def _culprit(frame: FrameType | None, executions: Sequence[Execution]) -> str:
    """The run and the step whose code is executing, and where; as far as that can be told."""
    at = (
        "" if frame is None else f", at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    )
    context = next(_contexts(frame), None)
    step = None if context is None else context.get(current_step)
    execution = None if context is None else context.get(current_execution)
    if step is not None:
        return f"step {step.name!r} of run {step.execution.run.id} ({step.execution.run.job_name}){at}"
    if execution is not None:
        return f"run {execution.run.id} ({execution.run.job_name}), between its steps{at}"
    runs = ", ".join(item.run.id for item in executions)
    where = "code that is no run's" if context is not None else "unknown code"
    return f"{where}{at} (runs at work: {runs})"


def _contexts(frame: FrameType | None) -> Iterator[Context]:
    """The context in which a loop of the standard library executes a callback, found on its stack."""
    while frame is not None:
        # Only of the loop's own frames: those of others are none of our business.
        handle = frame.f_locals.get("self") if frame.f_code.co_name == "_run" else None
        context = getattr(handle, "_context", None) if isinstance(handle, Handle) else None
        if isinstance(context, Context):
            yield context
        frame = frame.f_back
