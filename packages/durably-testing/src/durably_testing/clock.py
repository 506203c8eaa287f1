"""A clock that stands still until a test moves it."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TypeAlias

from durably import Durably, Seconds, ValidationError

Span: TypeAlias = Seconds | str
"""A duration: seconds, a timedelta, or words like `"90s"`, `"1h30m"`, `"14d"`."""

_UNITS = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_EPOCH = datetime.fromtimestamp(0, UTC)


class VirtualClock:
    """Time that passes only when a test says so; every instance that has it lives in the same time.

    Args:
        start: Where its wall clock begins; default: now, to the second.

    Raises:
        ValidationError: `start` has no timezone.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is None:
            start = datetime.now(UTC).replace(microsecond=0)
        elif start.tzinfo is None:
            raise ValidationError(f"start needs a timezone, e.g. tzinfo=UTC; {start.isoformat()} has none")
        # Whole microseconds: the same instant is always the same number.
        self._wall = (start - _EPOCH) // timedelta(microseconds=1)
        self._passed = 0
        self._skews: dict[object, int] = {}
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._movers: list[Callable[[], None]] = []
        self._hearers: list[Callable[[], object]] = []
        self.random: Random = Random(0)
        """What the instances draw their ids and jitter from: the same in every test."""

    def __repr__(self) -> str:
        return f"<VirtualClock {self.now().isoformat()}>"

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return _EPOCH + timedelta(microseconds=self._wall + self._passed)

    def advance(self, by: Span, /) -> None:
        """Let time pass: whoever sleeps for no longer than this wakes up.

        From any thread, also from a step's body, which thereby takes that long.

        Raises:
            ValidationError: It is negative, or no duration.
        """
        until = self._passed + _microseconds(by)
        if until < self._passed:
            raise ValidationError(f"time does not run backwards, so not by {by!r}; jump sets the wall clock")
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, sleeper = heappop(self._sleepers)
            self._passed = max(self._passed, at)
            _wake(sleeper)
        self._passed = until
        for listener in tuple(self._movers):
            listener()

    def jump(self, by: Span, /) -> None:
        """Set the wall clock forwards or back, as a person or a time server does: no time passes.

        Raises:
            ValidationError: It is no duration.
        """
        self._wall += _microseconds(by)

    def skew(self, durably: Durably, by: Span, /) -> None:
        """Let the wall clock of one instance be ahead of the others', or, negative, behind.

        Raises:
            ValidationError: It is no duration.
        """
        self._skews[durably.environment] = _microseconds(by)

    # For environments

    def wall(self, environment: object, /) -> float:
        """What an instance's wall clock shows: seconds since the epoch."""
        return (self._wall + self._passed + self._skews.get(environment, 0)) / 1e6

    def monotonic(self) -> float:
        """Seconds that have passed."""
        return self._passed / 1e6

    async def sleep(self, seconds: float, /) -> None:
        """Return once so much time has passed."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._passed + _microseconds(seconds), next(self._numbers), sleeper))
        await sleeper

    def next_timer(self) -> float | None:
        """Seconds until the next sleeper wakes up; None: nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heappop(self._sleepers)
        return (self._sleepers[0][0] - self._passed) / 1e6 if self._sleepers else None

    def news(self, *, besides: Callable[[], object] | None) -> None:
        """Somebody has written something: tell everybody else."""
        for hearer in tuple(self._hearers):
            if hearer is not besides:
                hearer()

    def on_news(self, hearer: Callable[[], object], /) -> Callable[[], None]:
        """Call it whenever somebody else has written something; answers the function that ends it."""
        self._hearers.append(hearer)
        return partial(self._hearers.remove, hearer)

    def on_move(self, listener: Callable[[], None], /) -> None:
        """Call it after every `advance`, on the thread that called that."""
        self._movers.append(listener)


def seconds_of(span: Span, /) -> float:
    """A duration in seconds.

    Raises:
        ValidationError: It is none.
    """
    return _microseconds(span) / 1e6


def _microseconds(span: Span) -> int:
    if isinstance(span, timedelta):
        return span // timedelta(microseconds=1)
    if isinstance(span, str):
        text = span.replace(" ", "")
        sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
        if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
            raise ValidationError(f"{span!r} is no duration; write e.g. '90s', '15m', '1h30m', '14d'")
        return sign * sum(round(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))
    return round(span * 1e6)


def _wake(sleeper: "asyncio.Future[None]") -> None:
    def wake() -> None:
        if not sleeper.done():
            sleeper.set_result(None)

    # A test may have left its loop.
    with suppress(RuntimeError):
        sleeper.get_loop().call_soon_threadsafe(wake)
