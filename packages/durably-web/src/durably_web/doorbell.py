"""What is watched for the open pages: one subscription for each thing, however many pages look at it.

A page is told names only ("dw-run-…-log"), and fetches what listens to them. So a name that is told
twice costs a fetch, one that is told to nobody costs nothing, and what a page may see is decided where
it fetches.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Final

from durably import (
    Durably,
    DurablyError,
    LogLine,
    Run,
    RunDeleted,
    RunFilter,
    RunSnapshot,
    RunsSnapshot,
    RunUpdate,
    RunVanished,
    StepSnapshot,
)
from durably_web import bells
from durably_web.bells import Bell, RunPart, Topic

logger: logging.Logger = logging.getLogger("durably.web")

UNKNOWN: Final = "?"


class Listener:
    """An open page: the names that ring for it and were not told yet. Bounded by what can ring at all."""

    def __init__(self, topics: Collection[Topic], where: RunFilter) -> None:
        self.topics: frozenset[Topic] = frozenset(topics)
        self.where: RunFilter = where
        """Of all runs, those that it may hear of."""
        self.names: set[Bell] = set()
        self._rung = asyncio.Event()
        self.is_over: bool = False
        """Whether nothing will ring any more."""

    def ring(self, *names: Bell) -> None:
        """Tell it these names, with the others that wait."""
        self.names.update(names)
        self._rung.set()

    def end(self) -> None:
        """There will be no more news."""
        self.is_over = True
        self._rung.set()

    async def wait(self) -> None:
        """Until something rings."""
        await self._rung.wait()
        self._rung.clear()

    def take(self) -> set[Bell]:
        """The names, to be told now."""
        names, self.names = self.names, set()
        return names


class Hub:
    """Everyone who listens, and what is watched for them."""

    def __init__(self, durably: Durably) -> None:
        self._durably = durably
        self._listeners: set[Listener] = set()
        self._sources: dict[Topic, _Source] = {}

    @property
    def size(self) -> int:
        """How many pages listen."""
        return len(self._listeners)

    @contextmanager
    def listening(self, listener: Listener) -> Generator[None]:
        """Have the listener told what happens to its topics, for as long as this lasts."""
        self._listeners.add(listener)
        try:
            for topic in listener.topics:
                self._source(topic).listeners.add(listener)
            yield
        finally:
            self._listeners.discard(listener)
            for topic in listener.topics:
                self._leave(topic, listener)

    async def catch_up(self, listener: Listener, seen: Mapping[Topic, str]) -> None:
        """Ring for what happened since the page saw this; for everything, if it does not say."""
        for topic in listener.topics:
            source = self._sources.get(topic)
            present = UNKNOWN if source is None else await source.present()
            if present == UNKNOWN or seen.get(topic) != present:
                listener.ring(*bells.of_topic(topic))

    def cursors(self, listener: Listener) -> Mapping[Topic, str]:
        """How far the listener has been told, by topic."""
        known = ((topic, self._sources.get(topic)) for topic in sorted(listener.topics))
        return {topic: source.cursor for topic, source in known if source and source.cursor != UNKNOWN}

    def _source(self, topic: Topic) -> "_Source":
        source = self._sources.get(topic)
        if source is None:
            source = self._sources[topic] = _Source(self._durably, topic)
            source.begin()
        elif source.is_over:
            # The run had ended; somebody may have sent it back to work.
            source.end()
            source.begin()
        return source

    def _leave(self, topic: Topic, listener: Listener) -> None:
        source = self._sources.get(topic)
        if source is None:
            return
        source.listeners.discard(listener)
        if not source.listeners:
            del self._sources[topic]
            source.end()


class _Source:
    """One subscription, and those who hear of it."""

    def __init__(self, durably: Durably, topic: Topic) -> None:
        self.listeners: set[Listener] = set()
        self.cursor: str = UNKNOWN
        """How far it has come."""
        self._durably = durably
        self._topic = topic
        self._has_begun = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop: Callable[[], None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it tells nothing more: the run has ended."""
        return self._task is not None and self._task.done()

    def begin(self) -> None:
        """Watch, from now on."""
        self.cursor = UNKNOWN
        self._has_begun.clear()
        self._task = self._durably.environment.spawn(self._watch(), name=f"durably-web:{self._topic}")
        if self._topic == bells.RUNS:
            # Deletions change no row that is left: they are told as far as they happen here.
            self._stop = self._durably.on("run:delete", self._deleted)

    def end(self) -> None:
        """Nobody listens any more."""
        if self._task is not None:
            self._task.cancel()
        if self._stop is not None:
            self._stop()

    async def present(self) -> str:
        """How far it is, once that is known."""
        await self._has_begun.wait()
        return self.cursor

    async def _watch(self) -> None:
        try:
            run_id = bells.run_of(self._topic)
            await (self._watch_runs() if run_id is None else self._watch_run(run_id))
        except DurablyError:
            # The run is gone, or the instance was closed: the pages find out when they fetch.
            logger.debug("nothing more is told of %s", self._topic, exc_info=True)
            self._tell(*bells.of_topic(self._topic))
        except Exception:
            logger.exception("nothing more is told of %s", self._topic)
            for listener in self.listeners:
                listener.end()
        finally:
            self._has_begun.set()

    async def _watch_runs(self) -> None:
        async for update in self._durably.subscribe_runs(limit=0):
            self.cursor = update.cursor
            if not isinstance(update, RunsSnapshot):
                self._changed(update.run)
            elif self._has_begun.is_set():
                self._tell(*bells.of_topic(bells.RUNS))
            self._has_begun.set()

    async def _watch_run(self, run_id: str) -> None:
        known: Run | None = None
        async for update in self._durably.subscribe(run_id, replay=False):
            if known is not None:
                self._tell(bells.of_run(run_id, _part(update, known)))
            if isinstance(update, RunSnapshot):
                known = update.run
            self.cursor = update.cursor
            self._has_begun.set()
        if not (known is not None and known.is_terminal):
            self._tell(*bells.of_topic(self._topic))

    def _changed(self, run: Run) -> None:
        self._ring_those(lambda where: where.fits(run), run.job_name)

    def _deleted(self, event: RunDeleted) -> None:
        self._ring_those(lambda where: where.covers(event.job_name, event.labels), event.job_name)

    def _ring_those(self, hears: Callable[[RunFilter], bool], job_name: str) -> None:
        for listener in self.listeners:
            if hears(listener.where):
                listener.ring(bells.LISTS, bells.STATS, bells.of_job(job_name))

    def _tell(self, *names: Bell) -> None:
        for listener in self.listeners:
            listener.ring(*names)


def _part(update: RunUpdate, known: Run) -> RunPart:
    match update:
        case RunSnapshot(run=run):
            is_same = (run.status, run.attempt, run.lease_owner) == (
                known.status, known.attempt, known.lease_owner,
            )  # fmt: skip
            return "progress" if is_same else "status"
        case StepSnapshot():
            return "step"
        case LogLine():
            return "log"
        case RunVanished():
            return "status"
