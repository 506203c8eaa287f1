"""Streams with nothing behind them, in a process of their own: `python -m tests.benchmarks.web.bare`.

Says its address, answers each line of its standard input with what it has used so far, and ends with it.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durably_web.live import HEARTBEAT, LIFE
from tests.benchmarks.neighbour import say, usage
from tests.web.serving import serving


async def live(_: Request) -> Response:
    async def nothing() -> AsyncGenerator[ServerSentEvent]:
        yield ServerSentEvent("-", id="1")
        await asyncio.sleep(LIFE)

    return EventSourceResponse(
        nothing(), ping=HEARTBEAT, ping_message_factory=lambda: ServerSentEvent("-", event="beat")
    )


async def serve() -> None:
    async with serving(Starlette(routes=[Route("/-/live", live)])) as url:
        say(url)
        while await asyncio.to_thread(sys.stdin.readline):
            say(usage())


if __name__ == "__main__":
    asyncio.run(serve())
