"""What a store tells those who watch its runs: each verb is one consistent read.

The rows are the only log of events: a watcher keeps a cursor (the change number of what it has
seen, and the sequence number of a run's tail) and reads on from there, in whatever process it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from durably.filters import RunFilter
from durably.models import LogEntry, Run, Step, WorkerInfo
from durably.statistics import JobStatistics

Entry: TypeAlias = Step | LogEntry


@dataclass(frozen=True, slots=True)
class Seen:
    """How far somebody has looked."""

    run_id: str | None
    """The run; None: all runs of the store."""
    change: int | None = None
    """The number of the last change seen; None: only the run's end matters."""
    sequence: int = 0
    """The number of the last step or log line seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What came to a run since somebody looked."""

    run: Run | None
    """The run as it stands, if it has changed since."""
    is_terminal: bool
    entries: Sequence[Entry]
    """Steps and log lines by their sequence."""
    is_whole: bool
    """Whether these are all there are."""
    sequence: int
    """How far the tail is known with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Runs, and how far a look at the changes has come with them."""

    runs: Sequence[Run]
    change: int
    is_present: bool
    """Whether these are the newest runs, and not the changed ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What decides whether a run is executed."""

    now: datetime
    run: Run
    timer_at: datetime | None
    """When somebody must look at it; None: it is ready, or queues, or nobody needs to."""
    steps: Sequence[Step]
    """Those that are running: executed now, or waited for."""
    workers: Sequence[WorkerInfo]
    suspects: Mapping[str, str]
    """By worker, the run that it must execute alone (S26)."""
    holder: Run | None
    """Who holds the run's key, or is to take it first; None: there is no key, or it is its own."""
    ahead: int
    """Runs before it in its key's queue, the holder excepted; counted up to `MOST_AHEAD`."""


MOST_AHEAD = 10_000


class Watched(Protocol):
    """The part of a store that is looked at and not changed."""

    async def news(self, seen: Sequence[Seen], /) -> Sequence[Seen]:
        """Those who have not seen everything, or whose run has ended or does not exist."""
        ...

    async def follow(self, run_id: str, /, *, change: int, after: int | None, limit: int) -> Tail | None:
        """What came after these numbers, at most `limit` entries; None: there is no such run.

        With `after=None`: no entries, but how far they go.
        """
        ...

    async def survey(self, filter: RunFilter, /, *, after: int | None, limit: int) -> Survey:
        """Runs that changed after this number, in the order of their changes.

        Without a number, or with one that this store has not reached: the newest runs, newest first.
        """
        ...

    async def endings(
        self, filter: RunFilter, /, *, since: float, parts: int, cap: int
    ) -> tuple[float, Sequence[JobStatistics], bool]:
        """How runs ended since this instant: until when, by job, and whether these are all of them.

        At most `cap` runs are looked at, the newest ones.
        """
        ...

    async def facts(self, run_id: str, /) -> Facts | None:
        """What decides whether this run is executed; None: there is no such run."""
        ...
