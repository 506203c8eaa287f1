"""Simulated processes: who executes, and whether it still may.

A process is a context variable, so that everything which a process starts belongs to it. What a dead
one had planned is dropped, what a paused one had planned is put off, in order. That is what SIGKILL
and SIGSTOP do, and what no exception can: a killed process executes no `finally`.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import NoReturn

from durably_testing.errors import SimulationError


class Process:
    """A process of a simulation.

    Args:
        name: What a trace calls it.
        id: Its process id.
        is_immune: Whether no fault may strike it.
    """

    def __init__(self, name: str, id: int, *, is_immune: bool = False) -> None:
        self.name: str = name
        self.id: int = id
        self.is_immune: bool = is_immune
        self.is_dead: bool = False
        self.is_paused: bool = False
        self.skew: float = 0.0
        """Seconds by which its wall clock is ahead."""
        self.stall: float = 0.0
        """Seconds for which it was blocked, by its own clocks."""
        self.put_off: list[Turn] = []
        self.accusations: list[str] = []
        """What its code did that no simulation can bear; the world reads it at the end."""
        self.strike_down: Callable[[], object] = self.kill
        """Kill it, and have its place taken as the world does."""

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    def kill(self) -> None:
        """Let it never execute anything again."""
        self.is_dead = True
        self.put_off.clear()

    def pause(self) -> None:
        """Put off whatever it would execute."""
        self.is_paused = True

    def resume(self) -> None:
        """Let it go on where it stood."""
        self.is_paused = False
        put_off, self.put_off = self.put_off, []
        for turn in put_off:
            turn.again()


async def die() -> NoReturn:
    """Kill the simulated process that executes this, at this very point, as a crash of the interpreter would.

    For jobs whose step is to be deadly in a test: `await step.run("convert", die)`.

    Raises:
        SimulationError: Nothing is being simulated.
    """
    process = current_process.get()
    if process is None:
        raise SimulationError(
            "die() kills simulated processes only; call it in a job that simulate() executes"
        )
    process.strike_down()
    await asyncio.get_running_loop().create_future()
    raise AssertionError("the dead came back")


class Turn:
    """A callback of a process, on its way through the loop."""

    __slots__ = ("_args", "_callback", "_loop", "context", "handle", "process")

    def __init__(
        self,
        loop: "TurnLoop",
        process: Process,
        callback: Callable[..., object],
        args: tuple[object, ...],
        context: Context,
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._args = args
        self.process: Process = process
        self.context: Context = context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        """Take it, if its process may."""
        process = self.process
        if not process.is_dead and not process.is_immune:
            self._loop.turning(process)
        is_cancelled = self.handle is not None and self.handle.cancelled()
        if process.is_paused and not (process.is_dead or is_cancelled):
            process.put_off.append(self)
            return
        # The handle refers to this turn: without it, what has been taken needs no garbage collector.
        self.handle = None
        if not (process.is_dead or is_cancelled):
            self._callback(*self._args)

    def again(self) -> None:
        """Queue it once more, under its own handle."""
        self._loop.queue(self)


class TurnLoop(asyncio.BaseEventLoop):
    """A loop whose callbacks know their process."""

    def __init__(self) -> None:
        super().__init__()
        self._immune_timers: list[asyncio.TimerHandle] = []

    def turning(self, process: Process, /) -> None:
        """A turn of this process is about to be taken; it may be killed here."""
        raise NotImplementedError

    def queue(self, turn: Turn, /) -> None:
        """Let a turn that was put off be taken."""
        super().call_soon(turn, context=turn.context)

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """As every loop's; the callback belongs to the process of its context."""
        if context is None:
            context = copy_context()
        process = context.get(current_process)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        turn = Turn(self, process, callback, args, context)
        turn.handle = super().call_soon(turn, context=context)
        return turn.handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As every loop's; the callback belongs to the process of its context."""
        if context is None:
            context = copy_context()
        process = context.get(current_process)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        turn = Turn(self, process, callback, args, context)
        timer = super().call_at(when, turn, context=context)
        turn.handle = timer
        if process.is_immune:
            self._immune_timers.append(timer)
        return timer

    def next_immune_timer(self) -> float | None:
        """When the next timer of a process rings that no fault strikes."""
        now = self.time()
        self._immune_timers = [
            timer for timer in self._immune_timers if not timer.cancelled() and timer.when() > now
        ]
        return min((timer.when() for timer in self._immune_timers), default=None)


current_process: ContextVar[Process | None] = ContextVar("durably_testing_process", default=None)
