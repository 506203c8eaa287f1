"""A request by somebody who was let in."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Any, Final, Protocol, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlsplit

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request

from durably import ConfigurationError, Count, Durably, Run, RunFilter, RunStatus, Statistics, Step
from durably_web.auth import RunOperation
from durably_web.caller import Caller
from durably_web.mistakes import shown
from durably_web.sealing import Seal
from durably_web.urls import Urls, is_path_here, with_query

RECENT: Final = 5.0
"""Seconds for which what was counted is good enough."""
MOST_RECENT: Final = 1000
DAY: Final = timedelta(days=1)

PLACES: Final = frozenset({"before", "after", "cursor", "notice"})
"""What of a page's query does not say what is shown, but where in it."""

T = TypeVar("T")


def page_of(request: Request) -> str:
    """The path of the page that is looked at, also where a part of it is asked for."""
    try:
        current = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        current = urlsplit("")
    if is_path_here(current.path):
        return with_query(current.path, parse_qsl(current.query))
    return with_query(quote(request.scope["path"], safe="/:"), request.query_params.multi_items())


class AnyRequest(Protocol):
    """A request of whatever framework that speaks ASGI: Starlette's, FastAPI's, Litestar's, Django's."""

    @property
    def scope(self) -> Mapping[str, object]:
        """As the server gave it."""
        ...


def request_of(given: object, name: str) -> Request:
    """The request that something is rendered for.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(given, Request):
        return cast("Request", given)
    scope: object = getattr(given, "scope", None)
    if isinstance(scope, dict) and "headers" in scope:
        return Request(cast("dict[str, Any]", scope))
    raise ConfigurationError(
        f"{name} needs the request of the page first, Starlette's or another ASGI framework's; not {shown(given)}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A request, before it is known who sends it: what every page needs."""

    request: Request
    urls: Urls
    now: datetime
    theme: str | None = None
    """What the visitor chose; None: what their system says."""
    csrf: tuple[str, str] | None = None
    """A field and its value that the host wants to see in forms."""

    @property
    def page(self) -> str:
        """The path of the page that is looked at."""
        return page_of(self.request)

    def paged(self, **place: int | str) -> str:
        """The same page at another place of its list: `before=…`, `after=…`; without any: its beginning."""
        path, _, query = self.page.partition("?")
        kept = [(key, value) for key, value in parse_qsl(query) if key not in PLACES]
        return with_query(path, [*kept, *((key, str(value)) for key, value in place.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Place):
    """A request by somebody who was let in: what components are loaded with."""

    durably: Durably
    caller: Caller[Any]
    draw: Callable[[Any, "Visit"], Awaitable[Markup]]
    """Renders a component within another one."""
    recent: "Recent"
    """What was counted a moment ago."""
    seal: Seal
    """Opens what the application has sealed."""
    is_ours: bool = True
    """Whether the page is one of our own, and not a host's with a component in it."""
    _runs: dict[tuple[str, RunOperation], Run] = field(default_factory=dict, repr=False)

    async def run(self, run_id: str, operation: RunOperation = "read") -> Run:
        """The run, if they may do this with it; read once in a visit.

        Raises:
            HTTPException: 404, there is no such run for them; 403, they may not do this with it.
        """
        known = self._runs.get((run_id, operation))
        if known is None:
            known = self._runs[run_id, operation] = await self.caller.run(run_id, operation)
        return known

    async def check_job(self, job_name: str) -> None:
        """Refuse whoever could see no run of this job.

        Raises:
            HTTPException: 404, there is no such job for them.
        """
        if not await self.caller.sees_job(job_name):
            raise HTTPException(404, "Job not found")

    async def steps(self, run_id: str) -> Sequence[Step]:
        """The run's steps, without what they returned."""
        return await self.caller.steps(run_id, results=False)

    async def counts(self, asked: RunFilter, *, cap: int) -> Mapping[RunStatus, Count]:
        """How many runs fit in each status, counted up to `cap`; the answer may be some seconds old."""
        where = await self.caller.scoped(asked)
        return await self.recent.get(
            ("counts", cap, *_key(where)), lambda: self.caller.count_by_status(asked, cap=cap)
        )

    async def statistics(self, asked: RunFilter) -> Statistics:
        """How runs that fit ended in the last 24 hours; the answer may be some seconds old."""
        where = await self.caller.scoped(asked)
        return await self.recent.get(
            ("statistics", *_key(where)), lambda: self.caller.statistics(asked, since=self.now - DAY)
        )


class Recent:
    """What was found a moment ago, for everybody: many pages ask for the same."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, object]] = {}

    def forget(self) -> None:
        """Find everything anew: somebody has changed something, and looks at what became of it."""
        self._known.clear()

    async def get(self, key: Hashable, find: Callable[[], Awaitable[T]]) -> T:
        """What is known under this key, or is found now."""
        now = self._clock()
        found_at, found = self._known.get(key, (-inf, None))
        if now - found_at >= RECENT:
            found = await find()
            if len(self._known) >= MOST_RECENT:
                self._known.clear()
            self._known[key] = now, found
        return cast("T", found)


def _key(where: RunFilter) -> tuple[Hashable, ...]:
    return (
        tuple(where.status),
        tuple(where.job_name),
        frozenset(where.labels.items()),
        where.created_since,
        where.created_before,
        where.is_nothing,
    )
