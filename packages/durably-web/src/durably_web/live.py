"""The stream on which a page is told what to fetch.

It lives for ten minutes at most, and the browser goes on with a new one where it was: so whoever lost the
right to look is stopped, and no server waits long for a stream's end.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from anyio import CancelScope, Event, current_time, sleep
from sse_starlette import ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from durably import RunFilter
from durably_web import bells
from durably_web.caller import Caller
from durably_web.doorbell import Hub, Listener
from durably_web.eventstream import AFTER_ACCIDENTS, AT_ONCE, event_stream

LIFE: Final = 600.0
"""Seconds after which a stream ends and the page goes on with another one."""
HEARTBEAT: Final = 45.0
"""Seconds between two signs of life: proxies hang up after a minute, and so does our script."""
STATS_EVERY: Final = 5.0
"""Seconds between two rings for what is counted."""
MOST_TOPICS: Final = 32
MOST_STREAMS: Final = 2000
PACE: Final = 0.1
"""Seconds in which names gather after some were told …"""
CROWD: Final = 0.01
"""… or this many for each page that listens: a thousand of them fetch every ten seconds."""

CURSOR: Final = re.compile(r"[0-9.]{1,40}")
HEADERS: Final = {"cache-control": "no-store, no-transform", "x-content-type-options": "nosniff"}


async def live(request: Request, caller: Caller[Any], hub: Hub) -> Response:
    """The stream that this page asks for.

    Raises:
        HTTPException: 400, there are no topics, or too many; 503, too many pages listen.
    """
    topics = list(dict.fromkeys(request.query_params.get("topics", "").split()))
    if not topics or len(topics) > MOST_TOPICS:
        raise HTTPException(400, f"topics: give 1 to {MOST_TOPICS}")
    if hub.size >= MOST_STREAMS:
        raise HTTPException(503, "Too many pages listen", headers={"retry-after": "15"})
    allowed = [topic for topic in topics if await _may_hear(caller, topic)]
    where = await caller.scoped(RunFilter(), subscribing=True)
    listener = Listener(allowed, where)
    for topic in set(topics) - set(allowed):
        # It is gone, or never was: the page finds out which when it fetches.
        listener.ring(*bells.of_topic(topic))
    seen = _seen(request.headers.get("last-event-id") or request.query_params.get("after", ""))
    shutdown = Event()

    async def farewell() -> None:
        await shutdown.wait()
        listener.end()

    return event_stream(
        _events(hub, listener, seen, shutdown),
        headers=HEADERS,
        beat=ServerSentEvent("-", event="beat", sep="\n"),
        heartbeat=HEARTBEAT,
        beside=farewell,
        shutdown=shutdown,
    )


async def _may_hear(caller: Caller[Any], topic: bells.Topic) -> bool:
    if topic == bells.RUNS:
        return True
    run_id = bells.run_of(topic)
    if run_id is None:
        raise HTTPException(400, "topics: there are runs and run:ID")
    try:
        await caller.run(run_id, "subscribe")
    except HTTPException as error:
        if error.status_code in {403, 404}:
            return False
        raise
    return True


async def _events(
    hub: Hub, listener: Listener, seen: Mapping[str, str], shutdown: Event
) -> AsyncGenerator[ServerSentEvent]:
    # At once: some proxies and middlewares hold the headers back until then.
    yield ServerSentEvent(comment="hello", retry=AFTER_ACCIDENTS, sep="\n")
    end = current_time() + LIFE
    stats_due = 0.0
    with hub.listening(listener):
        await hub.catch_up(listener, seen)
        is_first = True
        while current_time() < end and not listener.is_over:
            names = listener.take()
            if bells.STATS in names and current_time() < stats_due:
                names.discard(bells.STATS)
                late = True
            else:
                late = False
                stats_due = current_time() + STATS_EVERY if bells.STATS in names else stats_due
            if names or is_first:
                is_first = False
                # A message without data would not be one.
                text = " ".join(sorted(names)) or "-"
                yield ServerSentEvent(text, id=_told(hub.cursors(listener)), sep="\n")
                await sleep(max(PACE, CROWD * hub.size))
            if late:
                listener.names.add(bells.STATS)
            with CancelScope(deadline=min(end, stats_due) if late else end):
                await listener.wait()
    if not shutdown.is_set():
        yield ServerSentEvent(retry=AT_ONCE, sep="\n")


def _told(cursors: Mapping[str, str]) -> str:
    return " ".join(f"{topic}={cursor}" for topic, cursor in cursors.items())


def _seen(text: str) -> Mapping[str, str]:
    """What a page says it has been told; whatever it says, it is only compared."""
    pairs = (part.rpartition("=") for part in text[:8000].split())
    return {topic: cursor for topic, _, cursor in pairs if CURSOR.fullmatch(cursor)}
