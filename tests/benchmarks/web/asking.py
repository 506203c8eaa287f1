"""Asking a dashboard for pages, without a socket in between."""

import gc
import time
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import ASGIApp
from typing_extensions import override

from durably import Durably, RealEnvironment
from durably_web import DurablyWeb
from tests.benchmarks.bench import stopwatch
from tests.benchmarks.web import filling

FORGETTING = 60.0
"""Seconds after which nothing of what was counted is good enough any more."""


class Elsewhen(RealEnvironment):
    """The clocks of a process that began at this instant."""

    def __init__(self, then: float | None) -> None:
        self._ahead = 0.0 if then is None else super().now() - then
        self._skipped = 0.0

    @override
    def now(self) -> float:
        return super().now() - self._ahead

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self._skipped += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    size: int
    """Bytes of the body."""
    seconds: float
    cpu: float
    """Seconds of CPU that this process took meanwhile, with all of its threads."""


class Visitor:
    """Somebody who asks for pages."""

    def __init__(self, app: ASGIApp, durably: Durably, environment: Elsewhen) -> None:
        self.durably = durably
        self._app = app
        self._environment = environment

    def forget(self) -> None:
        """Have the dashboard count anew."""
        self._environment.skip(FORGETTING)

    async def get(self, url: str) -> Answer:
        """Ask for a page and wait for all of it.

        Raises:
            RuntimeError: It is not what a browser would show.
        """
        path, _, query = url.partition("?")
        scope = {
            "type": "http",
            "method": "GET",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("app.example", 80),
            "client": ("127.0.0.1", 5000),
            "headers": [(b"host", b"app.example"), (b"sec-fetch-site", b"same-origin")],
        }
        statuses: list[int] = []
        size = 0

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal size
            statuses.extend([message["status"]] if "status" in message else ())
            size += len(message.get("body", b""))

        worked = time.process_time()
        with stopwatch() as watch:
            await self._app(scope, receive, send)
        worked = time.process_time() - worked
        if statuses != [200]:
            raise RuntimeError(f"{url} answered {statuses}")
        return Answer(size=size, seconds=watch.seconds, cpu=worked)

    async def median(self, url: str, samples: int, *, cold: bool = False) -> Answer:
        """The middle of several answers; with `cold` each is counted anew."""
        await self.get(url)
        gc.collect()
        answers: list[Answer] = []
        for _ in range(samples):
            if cold:
                self.forget()
            answers.append(await self.get(url))
        return Answer(
            size=answers[-1].size,
            seconds=median(answer.seconds for answer in answers),
            cpu=median(answer.cpu for answer in answers),
        )


@dataclass(frozen=True, slots=True)
class Site:
    """A dashboard that is open."""

    web: DurablyWeb[str]
    durably: Durably
    environment: Elsewhen


@asynccontextmanager
async def dashboard(database: Path) -> AsyncGenerator[Site]:
    """A dashboard over this database, for anybody, in a process that executes nothing.

    If we filled the database, its clock is that of then.
    """
    environment = Elsewhen(then=filling.NOW if database.name.startswith(filling.PREFIX) else None)

    async def anybody(_: Request) -> str:
        return "bench"

    async with Durably(
        database, worker=False, environment=environment, jobs=filling.definitions()
    ) as durably:
        yield Site(DurablyWeb(durably, authenticate=anybody), durably, environment)


@asynccontextmanager
async def visiting(database: Path) -> AsyncGenerator[Visitor]:
    """Somebody at a dashboard over this database."""
    async with dashboard(database) as site:
        yield Visitor(site.web, site.durably, site.environment)
