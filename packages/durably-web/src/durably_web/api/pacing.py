"""How fast a stream tells: progress at most so often, everything else at once."""

from collections.abc import Callable
from dataclasses import dataclass

from durably_web.api.wire import Wire

ENDINGS = frozenset({"run:complete", "run:fail", "run:cancel", "run:delete"})


@dataclass(frozen=True, slots=True)
class Message:
    """An event to be sent."""

    event: Wire
    id: str | None = None
    """From where a client that has seen it goes on."""
    is_last: bool = False
    """Whether nothing more will ever come of this stream."""


class Throttle:
    """Lets the first progress of a run pass, and then the latest one in each window; others pass at once.

    A run's last progress is sent before its end.

    Args:
        seconds: The window; 0 lets everything pass.
        clock: What time it is, on a clock that never runs backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._held: dict[str, Message] = {}
        self._due: dict[str, float] = {}
        """When each run may tell its next progress."""

    def take(self, message: Message) -> list[Message]:
        """What to send now that this has happened."""
        run_id: str = message.event["runId"]
        if message.event["type"] in ENDINGS:
            self._due.pop(run_id, None)
            held = self._held.pop(run_id, None)
            return [message] if held is None else [held, message]
        if message.event["type"] != "run:progress" or not self._seconds:
            return [message]
        now = self._clock()
        if now < self._due.get(run_id, now):
            self._held[run_id] = message
            return []
        self._due[run_id] = now + self._seconds
        self._held.pop(run_id, None)
        return [message]

    def next_due(self) -> float | None:
        """When something that is held back may be sent; None while nothing is."""
        return min((self._due[run_id] for run_id in self._held), default=None)

    def ripe(self) -> list[Message]:
        """What was held back and may be sent now."""
        now = self._clock()
        ripe = [run_id for run_id in self._held if self._due[run_id] <= now]
        self._due |= dict.fromkeys(ripe, now + self._seconds)
        return [self._held.pop(run_id) for run_id in ripe]

    def rest(self) -> list[Message]:
        """Everything that is held back: the stream ends."""
        held = list(self._held.values())
        self._held.clear()
        return held
