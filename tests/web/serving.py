"""A real server, and what its event streams say."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp

from tests.web.patience import PATIENCE


@asynccontextmanager
async def serving(app: ASGIApp, **options: Any) -> AsyncGenerator[str]:
    """Serve it on a port of this machine, a free one if none is said; the address."""
    said: dict[str, Any] = {
        "port": 0,
        "lifespan": "off",
        "log_level": "error",
        "timeout_graceful_shutdown": 2,
    }
    server = uvicorn.Server(uvicorn.Config(app, **{**said, **options}))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
        if task.done():
            await task
    try:
        (listener,) = server.servers
        host, port = listener.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def starting(folder: Path, source: str) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    """Start uvicorn as people do, on the `app` of a program that finds its database in `$DATABASE`.

    Its address, once it answers, and its process, whose complaints can be read.
    """
    (folder / "served.py").write_text(source, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "served:app", "--port", port, "--log-level", "warning",
        env={**os.environ, "PYTHONPATH": path, "DATABASE": f"sqlite:///{folder}/app.db"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(PATIENCE), httpx2.AsyncClient() as client:
            while True:
                try:
                    assert (await client.get(f"{url}/runs")).status_code == 200
                    break
                except httpx2.ConnectError:
                    await asyncio.sleep(0.05)
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass(kw_only=True)
class Told:
    """One message of a stream."""

    data: dict[str, Any] = field(default_factory=dict[str, Any])
    id: str | None = None
    retry: int | None = None

    @property
    def type(self) -> str | None:
        """The event's type; None for a message without an event."""
        return self.data.get("type")


class Ears:
    """One who reads a stream."""

    def __init__(self, response: httpx2.Response, deaf_to: tuple[str, ...] = ()) -> None:
        self.response = response
        self._deaf_to = deaf_to
        self.last_id: str | None = None
        self.raw: list[str] = []
        self._lines = response.aiter_lines()

    async def next(self) -> Told | None:
        """The next message; None at the end."""
        told = Told()
        is_empty = True
        async for line in self._lines:
            self.raw.append(line)
            name, _, value = line.partition(": ")
            match name:
                case "data":
                    told.data = json.loads(value)
                case "id":
                    told.id = self.last_id = value
                case "retry":
                    told.retry = int(value)
                case "" if not line:
                    if is_empty or (told.type or "").startswith(self._deaf_to or ("-",)):
                        told, is_empty = Told(), True
                        continue
                    return told
                case _:
                    continue
            is_empty = False
        return None

    async def events(self) -> AsyncIterator[Told]:
        """The messages that carry an event, to the end."""
        while (told := await self.next()) is not None:
            if told.data:
                yield told

    async def rest(self) -> list[Told]:
        """All events to the end."""
        return [told async for told in self.events()]

    async def until(self, type: str) -> list[Told]:
        """The events up to the first of this type."""
        found: list[Told] = []
        async for told in self.events():
            found.append(told)
            if told.type == type:
                return found
        raise AssertionError(f"no {type} came, but {[told.type for told in found]}")


@asynccontextmanager
async def listening(
    client: httpx2.AsyncClient,
    url: str,
    *,
    last_id: str | None = None,
    deaf_to: tuple[str, ...] = (),
    **headers: str,
) -> AsyncGenerator[Ears]:
    """Open a stream, and pass over events whose types begin so."""
    if last_id is not None:
        headers["last-event-id"] = last_id
    async with client.stream("GET", url, headers=headers) as response:
        yield Ears(response, deaf_to)
