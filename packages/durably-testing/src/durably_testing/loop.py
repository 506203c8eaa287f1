"""An event loop on which time costs nothing.

It is its own selector: where a loop would wait for the next timer, this one is at once at that time.
So a day of sleeping passes in the time that its timers take, and the same calls in the same order
give the same history.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

from typing_extensions import override

from durably_testing.errors import RealWorldError, SimulationError
from durably_testing.processes import Process, TurnLoop

T = TypeVar("T")

MOST_TURNS_AT_ONCE = 200_000
"""Turns of the loop that may pass without any time passing."""


class SimLoop(TurnLoop):
    """The loop of one history.

    Args:
        turning: Called before each turn of a process that a fault may strike.
        asleep: Answers how far time may jump where the next timer is that far off; for the hours in
            which nothing happens.
    """

    def __init__(self, *, turning: Callable[[Process], None], asleep: Callable[[float], float]) -> None:
        super().__init__()
        self._selector = self
        self._now = 0.0
        self._turns_now = 0
        self._on_turn = turning
        self._asleep = asleep
        self._is_ending = False
        self._work: list[Coroutine[Any, Any, Any]] = []
        self.set_task_factory(_Factory(self._work))
        self.set_exception_handler(_forget)

    @override
    def time(self) -> float:
        return self._now

    @override
    def turning(self, process: Process, /) -> None:
        self._on_turn(process)

    # What a loop asks of its selector

    def select(self, timeout: float | None) -> list[object]:
        """Let time pass until the next timer."""
        if timeout is None:
            raise SimulationError(
                "nothing can ever happen any more: everybody waits, and nobody for the clock. Does the job "
                "await something that only another thread or process could end?"
            )
        if timeout > 0:
            self._now += self._asleep(timeout)
            self._turns_now = 0
        else:
            self._turns_now += 1
            if self._turns_now > MOST_TURNS_AT_ONCE:
                raise SimulationError(
                    f"{MOST_TURNS_AT_ONCE:,} turns of the loop have passed and no time: something goes round "
                    "in circles without ever sleeping"
                )
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call."""

    def keep(self, work: Coroutine[Any, Any, Any], /) -> None:
        """Close this at the end too: whoever was to await it may die before."""
        self._work.append(work)

    def end(self) -> None:
        """Close what is left of the coroutines, in the order in which they came, and the loop.

        The processes are dead by now: what their `finally` blocks do is refused by everything that
        counts.
        """
        self._is_ending = True
        for work in self._work:
            # What a dead process's code raises reaches nobody.
            with suppress(BaseException):
                work.close()
        self._work.clear()
        self.close()

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[object, None]) -> None:
        """Close what nobody iterates over any more; at the end there is no turn left for it."""
        if self.is_closed():
            return
        closing = generator.aclose()
        if self._is_ending:
            with suppress(BaseException):
                closing.send(None)
        else:
            self.call_soon(self.create_task, closing)

    # The real world

    @override
    def run_in_executor(self, executor: object, func: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        """At once: there are no threads, and a function that computes needs none."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)
        return future


def _refuse(*args: object, **options: object) -> object:
    raise RealWorldError("the network or another process")


_REAL_WORLD = (
    "create_connection", "create_server", "create_unix_connection", "create_unix_server", "start_tls", "sendfile",
    "create_datagram_endpoint", "connect_accepted_socket", "subprocess_exec", "subprocess_shell",
    "connect_read_pipe", "connect_write_pipe", "sock_recv", "sock_sendall", "sock_connect", "sock_accept",
    "getaddrinfo", "getnameinfo",
)  # fmt: skip
for _verb in _REAL_WORLD:
    setattr(SimLoop, _verb, _refuse)


class _Factory:
    """Makes tasks, and keeps their coroutines: those of the dead must be closed, not collected."""

    def __init__(self, work: list[Coroutine[Any, Any, Any]]) -> None:
        self._work = work

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        # It is still pending when its process dies, and nobody needs to be told.
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - no promise of asyncio's, as the name says
        self._work.append(work)
        return task


def _forget(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody retrieved is in the trace, if it matters."""


def outside_of_loops(call: Callable[[], T]) -> T:
    """Call it where no event loop is running: here, or on a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)

    thread = Thread(target=work, name="durably-simulation")
    thread.start()
    thread.join()
    return future.result()
