"""Other processes, as the benchmark's own one sees them."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu: float
    """Seconds."""
    peak: int
    """Bytes of memory, at most at a time."""
    resident: int = 0
    """Bytes of memory, now; where it can be told."""


class Neighbour:
    """A process that says lines, and hears lines."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def hear(self) -> str:
        """The next line it says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the other process ended unexpectedly")
        return line.decode().strip()

    async def expect(self, word: str) -> None:
        """Wait until it says this."""
        while await self.hear() != word:
            pass

    async def usage(self) -> Usage:
        """What it has used so far."""
        return Usage(**await self.ask("usage"))

    async def ask(self, word: str) -> dict[str, Any]:
        """Say a line; the figures of the one that it answers with."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        answer: dict[str, Any] = json.loads(await self.hear())
        return answer

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.send_signal(signal.SIGKILL)


@asynccontextmanager
async def neighbour(database: Path, *, slots: int = 10) -> AsyncGenerator[Neighbour]:
    """A worker on this database, ready; ended with the block."""
    async with started("tests.benchmarks.neighbour", database, slots) as worker:
        await worker.expect("ready")
        yield worker


@asynccontextmanager
async def started(module: str, *arguments: object) -> AsyncGenerator[Neighbour]:
    """A module in a process of its own; ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments), cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    try:
        yield Neighbour(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def python(code: str, *, bytecode: Path) -> str:
    """What a fresh interpreter prints for this code; the bytecode of what it imports is kept in a folder."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, env=environment, stdout=PIPE
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"a fresh interpreter failed at: {code}")
    return printed.decode().strip()
