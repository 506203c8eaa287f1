"""Subscribing to the events of this process, by name and typed."""

from collections.abc import Callable
from typing import Literal, TypeVar, get_args, overload

from durably import events
from durably.bus import Bus, ErrorHandler
from durably.errors import ConfigurationError
from durably.events import EventType

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., object])


class EventSource:
    """Hands the events of a bus to handlers."""

    def __init__(self, bus: Bus) -> None:
        self.__bus = bus

    @overload
    def on(
        self, event_type: Literal["run:trigger"], handler: Callable[[events.RunTriggered], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:coalesced"], handler: Callable[[events.RunCoalesced], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:start"], handler: Callable[[events.RunStarted], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:progress"], handler: Callable[[events.RunProgressed], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:complete"], handler: Callable[[events.RunCompleted], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:fail"], handler: Callable[[events.RunFailed], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:cancel"], handler: Callable[[events.RunCancelled], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:retry"], handler: Callable[[events.RunRetried], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:reattempt"], handler: Callable[[events.RunReattempted], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:continue"], handler: Callable[[events.RunContinued], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:wait"], handler: Callable[[events.RunWaiting], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:release"], handler: Callable[[events.RunReleased], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["run:delete"], handler: Callable[[events.RunDeleted], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["step:start"], handler: Callable[[events.StepStarted], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["step:replay"], handler: Callable[[events.StepReplayed], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["step:complete"], handler: Callable[[events.StepCompleted], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["step:fail"], handler: Callable[[events.StepFailedEvent], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["step:retry"], handler: Callable[[events.StepRetried], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["step:cancel"], handler: Callable[[events.StepCancelled], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["log:write"], handler: Callable[[events.LogWritten], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(
        self, event_type: Literal["worker:error"], handler: Callable[[events.WorkerError], object], /
    ) -> Callable[[], None]: ...
    @overload
    def on(self, event_type: EventType, /) -> Callable[[AnyHandler], AnyHandler]: ...
    def on(
        self, event_type: EventType, handler: Callable[..., object] | None = None, /
    ) -> "Callable[[], None] | Callable[[AnyHandler], AnyHandler]":
        """Call `handler` with each event of this type that happens in this process.

        Plain handlers are called in place, after the commit that the event tells of; `async` ones
        are started and not awaited. Without a handler it is a decorator: `@durably.on("run:fail")`.

        Returns:
            The function that ends the subscription.

        Raises:
            ConfigurationError: There is no such event.
        """
        if event_type not in get_args(EventType):
            raise ConfigurationError(
                f"there is no event {event_type!r}; there are: {', '.join(get_args(EventType))}"
            )
        if handler is not None:
            return self.__bus.on(event_type, handler)

        def subscribe(handler: AnyHandler) -> AnyHandler:
            self.__bus.on(event_type, handler)
            return handler

        return subscribe

    def on_error(self, handler: ErrorHandler, /) -> Callable[[], None]:
        """Call `handler(error, event)` when an event handler raises; answers what ends it."""
        return self.__bus.on_error(handler)
