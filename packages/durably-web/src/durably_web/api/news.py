"""Steps and lines of all runs that are executed, for those who follow lists.

The rows tell them run by run. So each run is followed once, for all lists of this process together, and
only while there is a list that is followed.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from durably import (
    Durably,
    DurablyError,
    LogLine,
    NotRunningError,
    Run,
    RunSnapshot,
    RunsSnapshot,
    StepSnapshot,
)

if TYPE_CHECKING:
    import asyncio

logger: logging.Logger = logging.getLogger("durably.web")

MOST_FOLLOWED = 100
"""Runs at a time; of further ones only their beginnings and ends are told."""

Hear: TypeAlias = Callable[[Run, StepSnapshot | LogLine], None]
"""Gets them as they are stored: what somebody sees of them is theirs to decide."""


class StepNews:
    """What the jobs of an instance do."""

    def __init__(self, durably: Durably) -> None:
        self._durably = durably
        self._listeners: list[Hear] = []
        self._look_out: asyncio.Task[None] | None = None
        self._followers: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def heard_by(self, hear: Hear) -> Generator[None]:
        """Tell this listener, too, of each step and line from now on."""
        self._listeners.append(hear)
        if self._look_out is None:
            self._look_out = self._durably.environment.spawn(self._watch(), name="durably:web:steps")
        try:
            yield
        finally:
            self._listeners.remove(hear)
            if not self._listeners:
                self._rest()

    def _rest(self) -> None:
        """Nobody listens any more."""
        tasks = [self._look_out, *self._followers.values()]
        self._look_out = None
        self._followers = {}
        for task in tasks:
            if task is not None:
                task.cancel()

    async def _watch(self) -> None:
        """Follow every run that is executed."""
        since = datetime.fromtimestamp(self._durably.environment.now(), UTC)
        updates = self._durably.subscribe_runs(status=("running", "waiting"), limit=MOST_FOLLOWED)
        try:
            async for update in updates:
                runs = update.runs if isinstance(update, RunsSnapshot) else (update.run,)
                for run in runs:
                    if run.id not in self._followers and len(self._followers) < MOST_FOLLOWED:
                        is_new = run.started_at is not None and run.started_at >= since
                        self._followers[run.id] = self._durably.environment.spawn(
                            self._follow(run, replay=is_new), name=f"durably:web:steps:{run.id}"
                        )
        except NotRunningError:
            logger.debug("the instance was closed")
        except DurablyError:
            logger.exception("the steps of runs are not told any more to those who follow lists")

    async def _follow(self, run: Run, *, replay: bool) -> None:
        followers = self._followers
        try:
            async for update in self._durably.subscribe(run.id, replay=replay):
                if isinstance(update, RunSnapshot):
                    run = update.run
                elif isinstance(update, StepSnapshot | LogLine):
                    self._tell(run, update)
        except DurablyError as error:
            logger.debug("run %s is not followed any more: %s", run.id, error)
        finally:
            followers.pop(run.id, None)

    def _tell(self, run: Run, update: StepSnapshot | LogLine) -> None:
        for hear in tuple(self._listeners):
            hear(run, update)
