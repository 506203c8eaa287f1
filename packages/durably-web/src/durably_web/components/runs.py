"""Lists of runs, and what narrows them."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Final, Literal, TypeAlias, TypedDict

from typing_extensions import override

from durably import Count, Run, RunFilter, RunStatus
from durably_web.components.base import Component, Topic
from durably_web.search import Search
from durably_web.visits import Visit
from durably_web.wording import STATUSES

MOST_ROWS: Final = 200
Column: TypeAlias = Literal[
    "status", "run", "job", "labels", "progress", "steps", "duration", "created", "error"
]
COLUMNS: Final[tuple[Column, ...]] = (
    "status", "run", "job", "labels", "progress", "steps", "duration", "created", "error",
)  # fmt: skip
CAP: Final = 10_000
"""How far runs are counted."""


class RunListProps(TypedDict, total=False):
    """What narrows a list of runs."""

    job_name: str | None
    status: tuple[RunStatus, ...]
    q: str


@dataclass(frozen=True)
class RunList(Component):
    """A component about the runs that fit."""

    _: KW_ONLY
    job_name: str | None = None
    status: tuple[RunStatus, ...] = ()
    labels: Mapping[str, str] | None = None
    q: str = ""
    """What somebody searches for: labels as `key=value`, or a part of a job's name."""

    async def wanted(self, visit: Visit) -> RunFilter:
        """The filter that the props mean."""
        search = Search(q=self.q, job_name=self.job_name, status=self.status, labels=self.labels or {})
        return search.filter(tuple(visit.durably.jobs))

    @override
    def topics(self) -> Sequence[Topic]:
        return ("runs",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsShown:
    """A page of runs."""

    runs: tuple[Run, ...]
    before: int | None
    """Older runs than this one follow."""
    is_first: bool
    is_filtered: bool
    has_bulk: bool
    is_brief: bool
    after: int | None
    """Newer runs than this one come before, if this is not the first page."""
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class RunsTable(RunList):
    """Runs, the newest first."""

    _: KW_ONLY
    page_size: int = 25
    before: int | None = None
    """Only runs older than the one at this position."""
    after: int | None = None
    """Only runs newer than the one at this position, those next to it."""
    columns: tuple[Column, ...] = COLUMNS
    """What is told of each."""
    bulk: bool = False
    """Whether runs can be selected."""
    brief: bool = False
    """Whether it leads no further, and says little if it is empty."""

    name: ClassVar[str] = "runs_table"
    is_held: ClassVar[bool] = True

    @override
    async def load(self, visit: Visit) -> RunsShown:
        filter = await self.wanted(visit)
        size = min(max(self.page_size, 1), MOST_ROWS)
        found = await visit.caller.runs(filter, limit=size + 1, before=self.before, after=self.after)
        has_more = len(found) > size
        # What is too many stands where the next page begins.
        shown = found[has_more:] if self.after is not None else found[:size]
        has_newer = has_more if self.after is not None else self.before is not None
        has_older = has_more if self.after is None else True
        return RunsShown(
            runs=tuple(shown),
            before=shown[-1].position if shown and has_older else None,
            after=shown[0].position if shown and has_newer else None,
            is_first=self._is_first,
            is_filtered=filter != RunFilter(),
            has_bulk=self.bulk,
            is_brief=self.brief,
            columns=tuple(one for one in self.columns if one != "job" or self.job_name is None),
        )

    @property
    def _is_first(self) -> bool:
        return self.before is None and self.after is None

    @override
    def topics(self) -> Sequence[Topic]:
        # What is older does not move.
        return super().topics() if self._is_first else ()

    @override
    def bells(self) -> Sequence[str]:
        return ("dw-runs",) if self._is_first else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A status, and how many runs are in it."""

    status: RunStatus | None
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class TabsShown:
    """The statuses to choose from."""

    tabs: tuple[Tab, ...]
    chosen: RunStatus | None
    query: Mapping[str, str]
    """The rest of what is filtered by."""


@dataclass(frozen=True)
class StatusTabs(RunList):
    """How many runs are in each status."""

    _: KW_ONLY
    limit: int = CAP
    """How far is counted."""

    name: ClassVar[str] = "status_tabs"

    @override
    async def load(self, visit: Visit) -> TabsShown:
        cap = min(max(self.limit, 1), CAP)
        others = replace(await self.wanted(visit), status=())
        counts = await visit.counts(others, cap=cap)
        everything = Count(
            number=min(sum(count.number for count in counts.values()), cap),
            is_whole=all(count.is_whole for count in counts.values()),
        )
        tabs = [Tab(status=status, count=counts[status]) for status in STATUSES]
        return TabsShown(
            tabs=(Tab(status=None, count=everything), *tabs),
            chosen=self.status[0] if len(self.status) == 1 else None,
            query={"q": self.q, "job": self.job_name or ""},
        )

    @override
    def bells(self) -> Sequence[str]:
        return ("dw-stats",)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterShown:
    """What runs can be narrowed by."""

    q: str
    job_name: str | None
    status: RunStatus | None
    jobs: tuple[str, ...]
    has_bulk: bool


@dataclass(frozen=True)
class RunsFilter(RunList):
    """A form whose answers are in the URL of the page."""

    _: KW_ONLY
    bulk: bool = False

    name: ClassVar[str] = "runs_filter"

    @override
    async def load(self, visit: Visit) -> FilterShown:
        return FilterShown(
            q=self.q,
            job_name=self.job_name,
            status=self.status[0] if len(self.status) == 1 else None,
            jobs=tuple(sorted(visit.durably.jobs)),
            has_bulk=self.bulk,
        )

    @override
    def topics(self) -> Sequence[Topic]:
        return ()
