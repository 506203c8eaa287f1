"""Following runs from their rows: subscriptions that resume, in any process.

There is no queue between writer and reader. A subscription is a cursor into the rows: however slow
its consumer, it holds one portion of them, and is told the present state when it comes back.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from types import TracebackType
from typing import Self, TypeVar

from typing_extensions import override

from durably.bus import Bus
from durably.environment import Environment
from durably.errors import RunNotFoundError, ValidationError
from durably.events import WorkerError
from durably.filters import RunFilter
from durably.insistence import insist
from durably.models import Run, Step
from durably.stores.base import Store
from durably.stores.watching import Entry, Seen, Survey, Tail
from durably.updates import (
    LogLine,
    RunSnapshot,
    RunsSnapshot,
    RunsUpdate,
    RunUpdate,
    RunVanished,
    StepSnapshot,
)
from durably.waiters import Waiters

T = TypeVar("T")
Update = TypeVar("Update")

PORTION = 100
"""Steps, lines or runs that are read at a time."""
PACE = 0.02
"""Seconds between two looks, in which further news gathers, so that a busy run costs few reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a subscription needs around it."""

    store: Store
    bus: Bus
    environment: Environment
    waiters: Waiters
    typed: Callable[[Run], Run]
    """Has a run's payloads read by its job, if that is known here."""

    async def read(self, call: Callable[[], Awaitable[T]]) -> T:
        """Read, again and again while the store is in passing trouble."""
        return await insist(call, until=lambda: inf, environment=self.environment, report=self._report)

    def _report(self, error: BaseException) -> None:
        self.bus.publish(WorkerError(context="subscribe", error=error))


class Subscription(AsyncIterator[Update]):
    """Updates as they happen: `async for update in subscription`.

    For one consumer at a time. A consumer that is cancelled, or just stops asking, leaves nothing
    behind; `async with` is possible and not needed.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._portion: deque[Update] = deque()
        self._is_over = False

    @override
    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> Update:
        while not self._portion:
            if self._is_over:
                raise StopAsyncIteration
            await self._fetch()
        return self._portion.popleft()

    async def aclose(self) -> None:
        """End it: it tells nothing more."""
        self._is_over = True
        self._portion.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _fetch(self) -> None:
        """Look until there is something to tell, or nothing will come any more."""
        clock = self._around.environment.monotonic
        with self._around.waiters.watch(self._run_id) as watch:
            while True:
                looked_at = clock()
                await self._look()
                if self._portion or self._is_over:
                    return
                await watch.wait(self._seen())
                # What comes after a quiet time is told at once.
                pause = looked_at + PACE - clock()
                if pause > 0:
                    await self._around.environment.sleep(pause)

    @property
    @abstractmethod
    def _run_id(self) -> str | None: ...

    @abstractmethod
    def _seen(self) -> Seen: ...

    @abstractmethod
    async def _look(self) -> None: ...


class RunSubscription(Subscription[RunUpdate]):
    """One run: its state, its steps and its log."""

    def __init__(
        self, surroundings: Surroundings, run_id: str, after: str | None, *, replay: bool = True
    ) -> None:
        super().__init__(surroundings)
        self._id = run_id
        self._has_begun = False
        self._change, self._sequence = _numbers(after, 2)
        self._replays = replay or after is not None

    @property
    @override
    def _run_id(self) -> str:
        return self._id

    @override
    def _seen(self) -> Seen:
        return Seen(self._id, self._change, self._sequence)

    @override
    async def _look(self) -> None:
        tail = await self._around.read(
            partial(
                self._around.store.follow,
                self._id,
                change=self._change,
                after=self._sequence if self._replays or self._has_begun else None,
                limit=PORTION,
            )
        )
        if tail is not None:
            self._tell(tail)
        elif self._has_begun:
            self._portion.append(RunVanished(run_id=self._id, cursor=self._cursor))
            self._is_over = True
        else:
            raise RunNotFoundError(self._id)
        self._has_begun = True

    def _tell(self, tail: Tail) -> None:
        """The present state goes before the tail, unless it is the end of what was followed."""
        run = tail.run
        if not tail.entries:
            self._sequence = tail.sequence
        if run is not None and (self._change == 0 or not tail.is_terminal):
            self._tell_run(run)
            run = None
        for entry in tail.entries:
            self._tell_entry(entry)
        if tail.is_terminal and tail.is_whole:
            if run is not None:
                self._tell_run(run)
            self._is_over = True

    def _tell_run(self, run: Run) -> None:
        self._change = run.change
        self._portion.append(RunSnapshot(run=self._around.typed(run), cursor=self._cursor))

    def _tell_entry(self, entry: Entry) -> None:
        self._sequence = entry.sequence
        if isinstance(entry, Step):
            self._portion.append(StepSnapshot(run_id=self._id, step=entry, cursor=self._cursor))
        else:
            self._portion.append(LogLine(run_id=self._id, entry=entry, cursor=self._cursor))

    @property
    def _cursor(self) -> str:
        return f"{self._change}.{self._sequence}"


class RunsSubscription(Subscription[RunsUpdate]):
    """All runs that fit a filter."""

    def __init__(
        self, surroundings: Surroundings, filter: RunFilter, *, limit: int, after: str | None
    ) -> None:
        super().__init__(surroundings)
        self._filter = filter
        self._limit = limit
        (number,) = _numbers(after, 1)
        self._change: int | None = None if after is None else number

    @property
    @override
    def _run_id(self) -> None:
        return None

    @override
    def _seen(self) -> Seen:
        return Seen(None, self._change)

    @override
    async def _look(self) -> None:
        limit = self._limit if self._change is None else PORTION
        survey = await self._around.read(
            partial(self._around.store.survey, self._filter, after=self._change, limit=limit)
        )
        self._tell(survey)

    def _tell(self, survey: Survey) -> None:
        runs = tuple(map(self._around.typed, survey.runs))
        self._change = survey.change
        if survey.is_present:
            self._portion.append(RunsSnapshot(runs=runs, cursor=str(survey.change)))
        else:
            self._portion.extend(RunSnapshot(run=run, cursor=str(run.change)) for run in runs)


def _numbers(cursor: str | None, count: int) -> tuple[int, ...]:
    """The numbers in a cursor; zeros without one.

    Raises:
        ValidationError: It is no cursor of such a subscription.
    """
    if cursor is None:
        return (0,) * count
    parts = str(cursor).split(".")
    if len(parts) != count or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValidationError(
            f"after: {cursor!r} is no cursor of this subscription; give back one that an update carried",
            fields=("after",),
        )
    return tuple(map(int, parts))
