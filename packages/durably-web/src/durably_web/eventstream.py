"""An event stream, as pages and clients of the HTTP interface get one."""

from collections.abc import AsyncIterable, Callable, Coroutine, Mapping
from typing import Final

from anyio import Event
from sse_starlette import EventSourceResponse, ServerSentEvent

PATIENCE: Final = 20.0
"""Seconds after which somebody who does not read is gone."""
FAREWELL: Final = 1.0
"""Seconds that a stream has to end by itself once the server is told to stop."""

# Milliseconds after which a browser comes again.
AFTER_ACCIDENTS: Final = 2000
AT_ONCE: Final = 50


def event_stream(
    events: AsyncIterable[ServerSentEvent],
    *,
    headers: Mapping[str, str],
    beat: ServerSentEvent,
    heartbeat: float,
    beside: Callable[[], Coroutine[None, None, None]],
    shutdown: Event,
) -> EventSourceResponse:
    """The answer that sends these events.

    Args:
        events: What is sent.
        headers: Of the answer.
        beat: A sign of life.
        heartbeat: Seconds between two of them.
        beside: Carried out while events are sent, and cancelled at their end.
        shutdown: Set when the server is told to stop; the events then have `FAREWELL` to end.
    """
    return EventSourceResponse(
        events,
        headers=headers,
        sep="\n",
        ping=heartbeat,
        ping_message_factory=lambda: beat,
        send_timeout=PATIENCE,
        data_sender_callable=beside,
        shutdown_event=shutdown,
        shutdown_grace_period=FAREWELL,
    )
