"""Lists of runs, and what narrows them."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime
from typing import ClassVar, Final, Literal, Self, TypeAlias, TypedDict, get_args
from urllib.parse import urlsplit

from starlette.datastructures import QueryParams
from typing_extensions import override

from durably import Count, Run, RunFilter, RunStatus, SearchBy
from durably_web import bells
from durably_web.bells import Bell, Topic
from durably_web.bulk import SOURCES, BulkAction
from durably_web.caller import MOST_LISTED
from durably_web.components.base import Component
from durably_web.reading import instant, is_preset
from durably_web.search import Search, Wanted
from durably_web.visits import Visit
from durably_web.wording import STATUSES

MOST_ROWS: Final = MOST_LISTED - 1
"""One more is asked for, which says whether others follow."""
Column: TypeAlias = Literal[
    "status", "run", "job", "labels", "progress", "steps", "duration", "created", "error"
]
COLUMNS: Final[tuple[Column, ...]] = get_args(Column)
CAP: Final = 10_000
"""How far runs are counted."""


class RunListProps(TypedDict, total=False):
    """What narrows a list of runs."""

    job_name: str | None
    status: tuple[RunStatus, ...]
    labels: Mapping[str, str] | None
    q: str
    since: str
    until: str


@dataclass(frozen=True)
class RunList(Component):
    """A component about the runs that fit."""

    _: KW_ONLY
    job_name: str | None = None
    status: RunStatus | tuple[RunStatus, ...] = ()
    """One of them, or several."""
    labels: Mapping[str, str] | None = None
    q: str = ""
    """What somebody searches for: labels as `key=value`, a part of a job's name, of an id or of an error."""
    since: str = ""
    """Runs created since then: `24h`, `7d`, or an instant in ISO 8601, which is UTC unless it says so."""
    until: str = ""
    """Runs created before this instant."""

    @property
    @override
    def about_job(self) -> str | None:
        return self.job_name

    @property
    def search(self) -> Search:
        """What the props ask for."""
        return Search(
            q=self.q,
            job_name=self.job_name,
            status=self.statuses,
            labels=self.labels or {},
            since=self.since,
            until=self.until,
        )

    @property
    def statuses(self) -> tuple[RunStatus, ...]:
        """Those that are asked for."""
        return (self.status,) if isinstance(self.status, str) else self.status

    def wanted(self, visit: Visit) -> Wanted:
        """The runs that the props mean."""
        return self.search.wanted(tuple(visit.durably.jobs), visit.now)

    @override
    def topics(self) -> Sequence[Topic]:
        return (bells.RUNS,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsShown:
    """A page of runs."""

    runs: tuple[Run, ...]
    before: int | None = None
    """Older runs than this one follow."""
    after: int | None = None
    """Newer runs than this one come before, if this is not the first page."""
    is_first: bool
    is_filtered: bool
    has_bulk: bool
    is_brief: bool
    columns: tuple[Column, ...]
    query: Sequence[tuple[str, str]]
    """What is asked for, as a form sends it."""
    bulk_actions: tuple[BulkAction, ...]
    """What may make sense for all that match."""
    page_size: int = 0
    text: str = ""
    """The text that was searched for."""
    by: SearchBy = "error"
    looked_at: int = 0
    """How many runs were searched for it."""
    is_hidden: bool = False
    """Whether errors are not searched, because they may not be for this visitor."""
    cursor: str | None = None
    """Where the search goes on."""


@dataclass(frozen=True)
class RunsTable(RunList):
    """Runs, the newest first."""

    _: KW_ONLY
    page_size: int = 25
    before: int | None = None
    """Only runs older than the one at this position."""
    after: int | None = None
    """Only runs newer than the one at this position, those next to it."""
    cursor: str | None = None
    """Of a search for a text: where it goes on."""
    columns: tuple[Column, ...] = COLUMNS
    """What is told of each."""
    bulk: bool = False
    """Whether runs can be selected."""
    brief: bool = False
    """Whether it leads no further, and says little if it is empty."""

    name: ClassVar[str] = "runs_table"
    is_held: ClassVar[bool] = True

    @override
    def on(self, visit: Visit) -> Self:
        # The links below the table turn its pages, and lead to the page that it is on.
        if visit.is_ours or self.brief or not self._is_first:
            return self
        turned = Search.from_query(QueryParams(urlsplit(visit.page).query))
        return replace(self, before=turned.before, after=turned.after, cursor=turned.cursor)

    @override
    async def load(self, visit: Visit) -> RunsShown:
        wanted = self.wanted(visit)
        size = min(max(self.page_size, 1), MOST_ROWS)
        if wanted.text:
            return await self._searched(visit, wanted, size)
        filter = wanted.filter
        found = await visit.caller.runs(filter, limit=size + 1, before=self.before, after=self.after)
        has_more = len(found) > size
        # What is too many stands where the next page begins.
        shown = found[has_more:] if self.after is not None else found[:size]
        has_newer = has_more if self.after is not None else self.before is not None
        has_older = has_more if self.after is None else True
        return replace(
            self._shown(shown, is_filtered=filter != RunFilter()),
            before=shown[-1].position if shown and has_older else None,
            after=shown[0].position if shown and has_newer else None,
        )

    async def _searched(self, visit: Visit, wanted: Wanted, size: int) -> RunsShown:
        found = await visit.caller.search(
            wanted.text, by=wanted.by, asked=wanted.filter, limit=size, cursor=self.cursor
        )
        return replace(
            self._shown(found.runs, is_filtered=True),
            page_size=size,
            text=wanted.text,
            by=wanted.by,
            looked_at=found.looked_at,
            is_hidden=wanted.by == "error" and not visit.caller.redaction.is_none,
            cursor=found.cursor,
        )

    def _shown(self, runs: Sequence[Run], *, is_filtered: bool) -> RunsShown:
        """The page, without what leads to others."""
        return RunsShown(
            runs=tuple(runs),
            is_first=self._is_first,
            is_filtered=is_filtered,
            has_bulk=self.bulk,
            is_brief=self.brief,
            columns=self._shown_columns,
            query=self._question,
            bulk_actions=self._bulk_actions,
        )

    @property
    def _is_first(self) -> bool:
        return self.before is None and self.after is None and self.cursor is None

    @property
    def _question(self) -> Sequence[tuple[str, str]]:
        search = self.search
        asked = [*search.query, *(("status", status) for status in search.status)]
        return [(key, value) for key, value in asked if value]

    @property
    def _bulk_actions(self) -> tuple[BulkAction, ...]:
        # Further back in a search stands what a search from the beginning may not reach.
        if not self.bulk or self.cursor is not None:
            return ()
        return tuple(
            action for action in SOURCES if not self.statuses or set(self.statuses) & set(SOURCES[action])
        )

    @property
    def _shown_columns(self) -> tuple[Column, ...]:
        return tuple(one for one in self.columns if one != "job" or self.job_name is None)

    @override
    def topics(self) -> Sequence[Topic]:
        # What is older does not move.
        return super().topics() if self._is_first else ()

    @override
    def bells(self) -> Sequence[Bell]:
        if not self._is_first:
            return ()
        # What may be a search through many runs is not made again at every change.
        return (bells.STATS,) if self.search.has_words else (bells.LISTS,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A status, and how many runs are in it."""

    status: RunStatus | None
    count: Count | None
    """None: a text is searched for, and how many there are would cost a search each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TabsShown:
    """The statuses to choose from."""

    tabs: tuple[Tab, ...]
    chosen: RunStatus | None
    query: Sequence[tuple[str, str]]
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
        wanted = self.wanted(visit)
        chosen = self.statuses[0] if len(self.statuses) == 1 else None
        if wanted.text:
            uncounted = tuple(Tab(status=status, count=None) for status in (None, *STATUSES))
            return TabsShown(tabs=uncounted, chosen=chosen, query=self.search.query)
        counts = await visit.counts(replace(wanted.filter, status=()), cap=cap)
        everything = Count(
            number=min(sum(count.number for count in counts.values()), cap),
            is_whole=all(count.is_whole for count in counts.values()),
        )
        tabs = [Tab(status=status, count=counts[status]) for status in STATUSES]
        return TabsShown(
            tabs=(Tab(status=None, count=everything), *tabs),
            chosen=chosen,
            query=self.search.query,
        )

    @override
    def bells(self) -> Sequence[Bell]:
        return (bells.STATS,)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterShown:
    """What runs can be narrowed by."""

    q: str
    job_name: str | None
    status: RunStatus | None
    preset: str
    """`24h`, if the runs of so long are asked for."""
    since: str
    """As a field of HTML has an instant, in UTC."""
    until: str
    labels: Mapping[str, str]
    """Those that are asked for besides."""
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class RunsFilter(RunList):
    """A form whose answers are in the URL of the page."""

    name: ClassVar[str] = "runs_filter"

    @override
    async def load(self, visit: Visit) -> FilterShown:
        return FilterShown(
            q=self.q,
            job_name=self.job_name,
            status=self.statuses[0] if len(self.statuses) == 1 else None,
            preset=self.since if is_preset(self.since) else "",
            since=_field("" if is_preset(self.since) else self.since, visit.now),
            until=_field(self.until, visit.now),
            labels=self.labels or {},
            jobs=tuple([name for name in sorted(visit.durably.jobs) if await visit.caller.sees_job(name)]),
        )

    @override
    def topics(self) -> Sequence[Topic]:
        return ()


def _field(text: str, now: datetime) -> str:
    """An instant as `datetime-local` has it; what is none stays as it is, to be mended."""
    moment = instant(text, now)
    return text if moment is None else f"{moment:%Y-%m-%dT%H:%M}" + (f":{moment:%S}" if moment.second else "")
