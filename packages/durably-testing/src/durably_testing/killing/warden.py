"""The surviving process's side of its warden: what it is told, and what it tells."""

import asyncio
import json
import os
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict
from typing import Any, Literal, Self, TypeAlias, cast

from durably import RealEnvironment
from durably_testing.killing.mortals import BRIEF, PROGRAM, Brief, Fate

Verb: TypeAlias = Literal["kill", "pause", "wake", "end"]

GIVING_UP = 30.0
"""Seconds that a worker may take to start."""


class KillLoopError(RuntimeError):
    """A worker of a `KillLoop` does not start, or ended by itself; what it said is in the test's output."""


class Mortal:
    """A worker, as seen from outside."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.started: asyncio.Future[int] = loop.create_future()
        """Its process id."""
        self.ready: asyncio.Future[None] = loop.create_future()
        self.paused: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[int] = loop.create_future()
        """Its exit code; a signal's number below zero."""

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, or was paused."""
        return self.gone.done() or self.paused.done()

    async def begins(self, *, within: float) -> None:
        """Wait until it works or has ended, for so many seconds at most."""
        news: set[asyncio.Future[Any]] = {self.ready, self.gone, self.paused}
        await asyncio.wait(news, timeout=within, return_when=asyncio.FIRST_COMPLETED)

    async def ends(self, *, within: float | None = None) -> None:
        """Wait until it is gone or paused, or for so many seconds."""
        ends: set[asyncio.Future[Any]] = {self.gone, self.paused}
        await asyncio.wait(ends, timeout=within, return_when=asyncio.FIRST_COMPLETED)

    async def dies(self, *, within: float) -> None:
        """Wait until it is gone, or for so many seconds."""
        await asyncio.wait({self.gone}, timeout=within)


class WardenProcess:
    """Starts, kills and pauses workers through a process that has imported their jobs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._commands = cast("StreamWriter", process.stdin)
        self._mortals: dict[int, Mortal] = {}
        self._listening = RealEnvironment().spawn(
            self._listen(cast("StreamReader", process.stdout)), name="the warden's words"
        )

    @classmethod
    async def begin(cls, brief: Brief) -> Self:
        """Start a warden."""
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONPATH": path, BRIEF: json.dumps(asdict(brief))}
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, stdin=PIPE, stdout=PIPE, env=environment
            )
        )

    async def close(self) -> None:
        """End the warden, and with it every worker that is left."""
        self._commands.close()
        await self._listening
        await self._process.wait()

    async def start(self, fate: Fate | None = None) -> Mortal:
        """Start a worker with this fate; it is born, but need not be ready yet.

        Raises:
            KillLoopError: The warden is gone.
        """
        mortal = Mortal(len(self._mortals) + 1)
        self._mortals[mortal.number] = mortal
        self._say("start", mortal.number, json.dumps(None if fate is None else asdict(fate)))
        started: set[asyncio.Future[Any]] = {mortal.started, self._listening}
        await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
        if self._listening.done():
            raise KillLoopError("the module of the app cannot be imported, or its process was ended")
        return mortal

    async def start_and_wait(self) -> Mortal:
        """Start a worker without a fate, and wait until it works.

        Raises:
            KillLoopError: It died of itself, or took too long.
        """
        mortal = await self.start()
        await mortal.begins(within=GIVING_UP)
        if not mortal.ready.done():
            how = (
                f"ended with {mortal.gone.result()}" if mortal.gone.done() else f"takes over {GIVING_UP:g} s"
            )
            raise KillLoopError(f"worker {mortal.number} does not start: it {how}")
        return mortal

    def tell(self, verb: Verb, mortal: Mortal) -> None:
        """Have something done to a worker; nothing, if it is gone."""
        self._say(verb, mortal.number)

    def _say(self, *words: object) -> None:
        self._commands.write((" ".join(map(str, words)) + "\n").encode())

    async def _listen(self, told: StreamReader) -> None:
        try:
            async for line in told:
                self._hear(*line.decode().split())
        finally:
            # Nothing more will be heard, of anybody.
            for mortal in self._mortals.values():
                for future in (mortal.started, mortal.ready, mortal.paused, mortal.gone):
                    future.cancel()

    def _hear(self, word: str, number: str, *rest: str) -> None:
        mortal = self._mortals[int(number)]
        match word:
            case "started":
                mortal.started.set_result(int(rest[0]))
            case "ready":
                mortal.ready.set_result(None)
            case "paused":
                mortal.paused.set_result(None)
            case _:
                mortal.gone.set_result(int(rest[0]))
