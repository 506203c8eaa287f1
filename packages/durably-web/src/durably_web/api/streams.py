"""Event streams: what happens, as it happens, in whatever process.

A stream lives for a minute at most, and the client (`EventSource` does so by itself) goes on with a new
one from the last id it has seen: so whoever lost the right to look is stopped, and no server waits long
for a stream's end. Ids are cursors into the rows; nothing is kept for a client that is away.
"""

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

from anyio import (
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    WouldBlock,
    create_memory_object_stream,
    create_task_group,
    current_time,
)
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from sse_starlette import ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from durably import (
    Durably,
    DurablyError,
    LogLine,
    NotRunningError,
    Run,
    RunCoalesced,
    RunDeleted,
    RunFilter,
    RunsSnapshot,
    RunsUpdate,
    RunUpdate,
    RunVanished,
    StepSnapshot,
)
from durably_web.api.news import StepNews
from durably_web.api.pacing import Message, Throttle
from durably_web.api.telling import RunsTeller, RunTeller
from durably_web.api.wire import MILLISECOND, Wire, brief, dump, log_event, step_event
from durably_web.caller import Caller
from durably_web.eventstream import AFTER_ACCIDENTS, AT_ONCE, event_stream
from durably_web.redaction import Redaction

logger: logging.Logger = logging.getLogger("durably.web")

LIFE = 60.0
"""Seconds after which a stream ends and its client goes on with another one."""
HEARTBEAT = 15.0
AHEAD = 100
"""Events that are made before the client has taken those before them."""
MOST_STREAMS = 1000
"""Streams that one handler serves at a time."""

NEVER = 86_400_000
"""Milliseconds after which a client comes again once a run's end is told: a day. The reference's client
never closes its `EventSource`, and takes the 204 that would stop it for a broken connection."""

CURSOR = re.compile(r"[0-9]{1,18}\.[0-9]{1,14}")
EPOCH = datetime.fromtimestamp(0, UTC)
HEADERS = {
    "Cache-Control": "no-cache, no-store, no-transform",
    "Content-Type": "text/event-stream",
    "X-Content-Type-Options": "nosniff",
}

Outbox: TypeAlias = MemoryObjectSendStream[Message]
Inbox: TypeAlias = MemoryObjectReceiveStream[Message]


class Streams:
    """The open streams of one handler.

    Args:
        durably: Where the events come from.
        throttle: Seconds between two progresses of a run in one stream.
    """

    def __init__(self, durably: Durably, *, throttle: float) -> None:
        self._durably = durably
        self._throttle = throttle
        self._steps = StepNews(durably)
        self.open: int = 0
        """How many there are."""

    @contextmanager
    def counted(self) -> Generator[None]:
        """Count a stream for as long as it is open."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def of_run(self, caller: Caller[Any], run_id: str, last_id: str | None) -> ASGIApp:
        """Follow one run to its end; 204 to a client that has seen it end."""
        after = _cursor(last_id)
        run = await caller.run(run_id, "subscribe")
        updates = await caller.subscribe(run_id, after=after)
        teller = RunTeller()
        missed = [] if after is None else [Message(event) for event in teller.present(run)]
        if run.is_terminal and after is not None:
            first = await anext(updates, None)
            if first is None:
                return Response(status_code=204)
            missed = _messages(teller, first)

        async def tell(outbox: Outbox) -> None:
            for message in missed:
                await outbox.send(message)
            await _tell_run(outbox, teller, updates)

        return self._stream(tell, opening=ServerSentEvent(retry=AFTER_ACCIDENTS, sep="\n"))

    async def of_runs(self, caller: Caller[Any], asked: RunFilter, last_id: str | None) -> ASGIApp:
        """Follow all runs that fit, from now on or from where the client was."""
        where = await caller.scoped(asked, subscribing=True)
        cursor = _cursor(last_id)
        if cursor is None:
            since = datetime.fromtimestamp(self._durably.environment.now(), UTC)
            updates = await caller.subscribe_runs(asked, limit=0)
            id: str | None = _id_of_list((await anext(updates)).cursor, since)
        else:
            change, _, moment = cursor.partition(".")
            since = EPOCH + int(moment) * MILLISECOND
            updates = await caller.subscribe_runs(asked, after=change)
            id = None

        async def tell(outbox: Outbox) -> None:
            with self._hints(outbox, where, caller.redaction):
                await _tell_runs(outbox, since, updates)

        return self._stream(tell, opening=ServerSentEvent(id=id, retry=AFTER_ACCIDENTS, sep="\n"))

    def _hints(self, outbox: Outbox, where: RunFilter, redaction: Redaction[Any]) -> ExitStack:
        """Tell what the runs' own rows do not, in no strict order beside what they do tell.

        Steps and lines in any process; what leaves no row, as far as it happens in this one.
        """

        def tell(event: Wire) -> None:
            try:
                outbox.send_nowait(Message(event))
            except WouldBlock:
                logger.debug("a client that does not keep up misses %s", event["type"])

        def hear(run: Run, update: StepSnapshot | LogLine) -> None:
            if not where.fits(run):
                return
            if isinstance(update, LogLine):
                tell(brief(log_event(run, redaction.line(run, update.entry))))
            else:
                tell(brief(step_event(run, redaction.step(run, update.step))))

        def happened(event: RunCoalesced | RunDeleted) -> None:
            if where.covers(event.job_name, event.labels):
                facts = {"runId": event.run_id, "jobName": event.job_name, "labels": dict(event.labels)}
                tell({"type": event.type, **facts})

        stack = ExitStack()
        stack.enter_context(self._steps.heard_by(hear))
        stack.callback(self._durably.on("run:coalesced", happened))
        stack.callback(self._durably.on("run:delete", happened))
        return stack

    def _stream(self, tell: Callable[[Outbox], Awaitable[None]], *, opening: ServerSentEvent) -> ASGIApp:
        if self.open >= MOST_STREAMS:
            raise HTTPException(503, "Too many streams are open", headers={"Retry-After": "5"})
        return _Stream(self, tell, opening=opening, throttle=self._throttle)


class _Stream:
    """One stream, as an ASGI application. Whatever ends it, nothing of it is left."""

    def __init__(
        self,
        streams: Streams,
        tell: Callable[[Outbox], Awaitable[None]],
        *,
        opening: ServerSentEvent,
        throttle: float,
    ) -> None:
        self._streams = streams
        self._tell = tell
        self._opening = opening
        self._throttle = throttle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outbox, inbox = create_memory_object_stream[Message](AHEAD)
        shutdown = Event()
        response = event_stream(
            self._chunks(inbox),
            headers=HEADERS,
            beat=ServerSentEvent(comment="heartbeat", sep="\n"),
            heartbeat=HEARTBEAT,
            beside=partial(self._produce, outbox, shutdown),
            shutdown=shutdown,
        )
        with self._streams.counted(), outbox, inbox:
            await response(scope, receive, send)

    async def _produce(self, outbox: Outbox, shutdown: Event) -> None:
        """Make the events, no faster than they are taken, until there are no more or the server stops."""
        async with create_task_group() as group:
            group.start_soon(self._tell_until_the_end, outbox)
            await shutdown.wait()
            outbox.close()

    async def _tell_until_the_end(self, outbox: Outbox) -> None:
        with outbox:
            try:
                await self._tell(outbox)
            except (ClosedResourceError, NotRunningError):
                logger.debug("an event stream ends: the server stops, or the instance was closed")
            except DurablyError:
                logger.exception("an event stream ended early; its client will come again")

    async def _chunks(self, inbox: Inbox) -> AsyncGenerator[ServerSentEvent]:
        # At once: some proxies and middlewares hold the headers back until then.
        yield self._opening
        throttle = Throttle(self._throttle, current_time)
        end = current_time() + LIFE
        while current_time() < end:
            due = throttle.next_due()
            message: Message | None = None
            with CancelScope(deadline=end if due is None else min(due, end)):
                try:
                    message = await inbox.receive()
                except EndOfStream:
                    break
            for one in throttle.ripe() if message is None else throttle.take(message):
                yield _encode(one)
        else:
            yield ServerSentEvent(retry=AT_ONCE, sep="\n")
        for one in throttle.rest():
            yield _encode(one)


async def _tell_run(outbox: Outbox, teller: RunTeller, updates: AsyncIterator[RunUpdate]) -> None:
    id: str | None = None
    async for update in updates:
        id = update.cursor
        for message in _messages(teller, update):
            await outbox.send(message)
    for message in _numbered(teller.end(), id, is_last=True):
        await outbox.send(message)


async def _tell_runs(outbox: Outbox, since: datetime, updates: AsyncIterator[RunsUpdate]) -> None:
    teller = RunsTeller(since)
    async for update in updates:
        if isinstance(update, RunsSnapshot):
            # The client's id is of a database that was replaced: go by its moment instead.
            runs = [run for run in reversed(update.runs) if run.updated_at >= since]
        else:
            runs = [update.run]
        events = [brief(event) for run in runs for event in teller.tell(run)]
        moment = max((run.updated_at for run in runs), default=EPOCH)
        for message in _numbered(events, _id_of_list(update.cursor, moment)):
            await outbox.send(message)


def _messages(teller: RunTeller, update: RunUpdate) -> list[Message]:
    # How the run stands is told again to whoever comes back: only steps and lines have ids.
    id = update.cursor if isinstance(update, StepSnapshot | LogLine) else None
    return _numbered(teller.tell(update), id, is_last=isinstance(update, RunVanished))


def _numbered(events: Sequence[Wire], id: str | None, *, is_last: bool = False) -> list[Message]:
    """The last of them has the id: a client that has seen it has seen all.

    Progress has none: it may be sent late, and would lead the client back.
    """
    numbers = [number for number, event in enumerate(events) if event["type"] != "run:progress"][-1:]
    return [
        Message(event, id=id, is_last=is_last) if number in numbers else Message(event)
        for number, event in enumerate(events)
    ]


def _encode(message: Message) -> ServerSentEvent:
    return ServerSentEvent(
        dump(message.event).decode(), id=message.id, retry=NEVER if message.is_last else None, sep="\n"
    )


def _cursor(last_id: str | None) -> str | None:
    """What a client says it has seen, if that can be."""
    return last_id if last_id is not None and CURSOR.fullmatch(last_id) else None


def _id_of_list(cursor: str, moment: datetime) -> str:
    return f"{cursor}.{(moment - EPOCH) // MILLISECOND}"
