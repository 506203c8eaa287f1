"""Publishing events to the handlers of this process.

`publish` is synchronous: plain handlers have run when it returns, `async` ones are tasks of the
bus, awaited by nobody but `close`. A handler that raises harms neither the engine nor the others.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from inspect import isawaitable
from typing import TypeAlias

from durably.environment import Environment
from durably.events import Event, EventType

Handler: TypeAlias = Callable[[Event], object]
ErrorHandler: TypeAlias = Callable[[BaseException, Event], object]

logger: logging.Logger = logging.getLogger("durably")


class Bus:
    """The handlers, by event type."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._handlers: defaultdict[EventType, list[Handler]] = defaultdict(list)
        self._error_handlers: list[ErrorHandler] = []
        self._write_handlers: list[Callable[[str], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sequence = 0

    def on(self, event_type: EventType, handler: Handler) -> Callable[[], None]:
        """Call `handler` with each event of this type; answers the function that ends it."""
        return _add(self._handlers[event_type], handler)

    def on_error(self, handler: ErrorHandler) -> Callable[[], None]:
        """Call `handler` with what a handler raised; without one, such errors are logged."""
        return _add(self._error_handlers, handler)

    def on_written(self, handler: Callable[[str], None]) -> None:
        """Call `handler` with the run's id when its owner here has written steps, lines or progress."""
        self._write_handlers.append(handler)

    def written(self, run_id: str) -> None:
        """Something of this run is committed."""
        for handler in self._write_handlers:
            handler(run_id)

    def wants(self, event_type: EventType) -> bool:
        """Whether anyone listens; spares making events on the hot path."""
        return bool(self._handlers.get(event_type))

    def publish(self, event: Event) -> None:
        """Number the event and hand it to its handlers."""
        handlers = self._handlers.get(event.type)
        if not handlers:
            return
        self._sequence += 1
        moment = datetime.fromtimestamp(self._environment.now(), UTC)
        event = replace(event, sequence=self._sequence, created_at=moment)
        for handler in tuple(handlers):
            try:
                result = handler(event)
            except Exception as error:  # noqa: BLE001 - a handler's error is its owner's
                self._report(error, event)
            else:
                if isawaitable(result):
                    self._follow(result, event)

    async def close(self) -> None:
        """Wait for the asynchronous handlers that are still at work."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _follow(self, result: Awaitable[object], event: Event) -> None:
        async def follow() -> None:
            try:
                await result
            except Exception as error:  # noqa: BLE001 - as above
                self._report(error, event)

        task = self._environment.spawn(follow(), name=f"durably:on:{event.type}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _report(self, error: BaseException, event: Event) -> None:
        if not self._error_handlers:
            logger.error("a handler of %s raised", event.type, exc_info=error)
        for handler in tuple(self._error_handlers):
            try:
                handler(error, event)
            except Exception:
                logger.exception("the error handler itself raised")


def _add(handlers: list[Callable[..., object]], handler: Callable[..., object]) -> Callable[[], None]:
    # Wrapped in a cell of its own: the same function added twice is two subscriptions.
    def call(*args: object) -> object:
        return handler(*args)

    handlers.append(call)

    def remove() -> None:
        if call in handlers:
            handlers.remove(call)

    return remove
