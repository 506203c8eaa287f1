"""The pages: components put together."""

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import Response

from durably import RunFilter
from durably_web import answers
from durably_web.components.base import Component
from durably_web.components.charts import FailingJobs, StatsTiles, ThroughputChart
from durably_web.components.connection import ConnectionIndicator
from durably_web.components.jobs import JobList, WorkersTable
from durably_web.components.logs import LogTail
from durably_web.components.run import (
    RunActions,
    RunExplanation,
    RunFacts,
    RunFailure,
    RunPayload,
    RunProgress,
    RunStatusBadge,
    StepsWaterfall,
)
from durably_web.components.runs import Column, RunListProps, RunsFilter, RunsTable, StatusTabs
from durably_web.components.triggering import FormShown, TriggerForm
from durably_web.kit import Kit
from durably_web.notices import Question, notice
from durably_web.reading import whole
from durably_web.search import Search
from durably_web.unavailable import NOT_OPEN, UNREACHABLE
from durably_web.visits import Place, Visit

ROWS: Final = 50
TROUBLES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("This cannot be understood", "The address or the form is not one of ours."),
    401: ("Not signed in", "Sign in, and come back."),
    403: ("Not allowed", "You may not do this."),
    404: ("Not found", "There is no such page, run or job, or it was deleted meanwhile."),
    405: ("Not allowed", "This address is not there for that."),
    409: ("Not done", "The run is in another state by now."),
    413: ("Too large", "What you sent has more bytes than are taken."),
    422: ("This cannot be used", "A value does not fit."),
    500: ("Something went wrong", "It is in the server's log under this id."),
    503: (UNREACHABLE, "Nothing is lost. Try again in a moment."),
}
CLOSED: Final = NOT_OPEN, "It is starting or ending, or nobody opens it; its log says more."


class Pages:
    """Renders whole pages.

    Args:
        kit: Renders the components.
        csp: The Content-Security-Policy; None leaves it to the host.
    """

    def __init__(self, kit: Kit, *, csp: str | None) -> None:
        self._kit = kit
        self._csp = csp

    async def runs(self, visit: Visit) -> Response:
        """All runs, as far as the URL says."""
        search = Search.from_query(visit.request.query_params)
        if search.id is not None and await visit.caller.find(search.id) is not None:
            return answers.go(visit.urls.run(search.id))
        props: RunListProps = {
            "q": search.q,
            "job_name": search.job_name,
            "status": search.status,
            "labels": search.labels,
            "since": search.since,
            "until": search.until,
        }
        return await self._page(
            visit,
            "runs",
            "runs",
            status_tabs=StatusTabs(**props),
            runs_filter=RunsFilter(**props),
            runs_table=RunsTable(
                **props,
                bulk=True,
                before=search.before,
                after=search.after,
                cursor=search.cursor,
                page_size=ROWS,
            ),
        )

    async def run(self, visit: Visit, run_id: str) -> Response:
        """One run."""
        run = await visit.run(run_id)
        query = visit.request.query_params
        return await self._page(
            visit,
            "run",
            "runs",
            {"run": run},
            run_status=RunStatusBadge(run_id),
            run_actions=RunActions(run_id),
            run_error=RunFailure(run_id),
            run_explanation=RunExplanation(run_id),
            run_progress=RunProgress(run_id, big=True),
            steps_waterfall=StepsWaterfall(
                run_id, unfold=query.get("unfold", "")[:600], at=whole(query.get("at", "")) or 0
            ),
            log_tail=LogTail(run_id, id="dw-log"),
            run_facts=RunFacts(run_id),
            input=RunPayload(run_id, which="input", live=False),
            output=RunPayload(run_id, which="output"),
        )

    async def overview(self, visit: Visit) -> Response:
        """The first page."""
        few: tuple[Column, ...] = ("status", "run", "job", "progress", "duration", "created")
        wrong: tuple[Column, ...] = ("run", "job", "created", "error")
        return await self._page(
            visit,
            "overview",
            "overview",
            {"sees_workers": await visit.caller.sees_workers()},
            stats_tiles=StatsTiles(),
            throughput_chart=ThroughputChart(),
            running=RunsTable(status=("running",), page_size=8, columns=few, brief=True),
            failed=RunsTable(status=("failed",), page_size=5, columns=wrong, brief=True),
            failing_jobs=FailingJobs(),
            workers_table=WorkersTable(compact=True),
        )

    async def jobs(self, visit: Visit) -> Response:
        """All jobs."""
        return await self._page(visit, "jobs", "jobs", job_list=JobList())

    async def workers(self, visit: Visit) -> Response:
        """All workers."""
        return await self._page(visit, "workers", "workers", workers_table=WorkersTable())

    async def job(
        self, visit: Visit, name: str, *, form: FormShown | None = None, status: int = 200
    ) -> Response:
        """One job, with its form; `form` has in it what was sent."""
        handle = visit.durably.get_job(name)
        await visit.check_job(name)
        if handle is None and not await visit.caller.runs(RunFilter(job_name=(name,)), limit=1):
            raise HTTPException(404)
        columns: tuple[Column, ...] = ("status", "run", "duration")
        components: dict[str, Component] = {
            "throughput_chart": ThroughputChart(name),
            "runs_table": RunsTable(job_name=name, page_size=10, columns=columns, brief=True),
        }
        props = TriggerForm(name, options=True, of=visit.request.query_params.get("of") or None)
        if handle is not None and form is None:
            components["trigger_form"] = props
        page = await self._parts(visit, components)
        if form is not None:
            page["trigger_form"] = self._kit.fill(props, form, visit)
        context = {"name": name, "doc": handle.definition.doc if handle is not None else None}
        parts = {"parts": {"trigger_form": None, **page}, "indicator": await self._indicator(visit)}
        text = self._render(visit, "job", "jobs", {**context, **parts})
        return answers.document(text, csp=self._csp, status=status)

    def question(
        self,
        visit: Visit,
        question: Question,
        *,
        action: str,
        back: str,
        fields: Sequence[tuple[str, str]],
    ) -> Response:
        """Are you sure? For browsers without our script."""
        context = {"question": question, "action": action, "back": back, "fields": fields}
        text = self._render(visit, "question", "", context)
        return answers.document(text, csp=self._csp)

    def trouble(self, place: Place, error: HTTPException, *, request_id: str | None = None) -> Response:
        """A page that says what is wrong."""
        is_closed = error.status_code == 503 and error.detail == NOT_OPEN
        title, text = CLOSED if is_closed else TROUBLES.get(error.status_code, TROUBLES[400])
        is_passing = error.status_code >= 500 and place.request.method == "GET"
        again = place.page if is_passing else None
        context = {
            "title": title,
            "text": text,
            "detail": answers.detail(error),
            "request_id": request_id,
            "again": again,
        }
        page = self._render(place, "trouble", "", context)
        return answers.document(page, csp=self._csp, status=error.status_code)

    async def _page(
        self,
        visit: Visit,
        name: str,
        current: str,
        context: Mapping[str, object] | None = None,
        /,
        **components: Component,
    ) -> Response:
        parts = await self._parts(visit, components)
        more = {**(context or {}), "parts": parts, "indicator": await self._indicator(visit)}
        return answers.document(self._render(visit, name, current, more), csp=self._csp)

    async def _parts(self, visit: Visit, components: Mapping[str, Component]) -> dict[str, Markup]:
        return {part: await self._kit.render(one, visit) for part, one in components.items()}

    async def _indicator(self, visit: Visit) -> Markup:
        return await self._kit.render(ConnectionIndicator(), visit)

    def _render(self, place: Place, name: str, current: str, context: Mapping[str, object]) -> Markup:
        return self._kit.page(
            name,
            {
                "visit": place,
                "current": current,
                "notice": notice(place.request.query_params.get("notice")),
                "indicator": "",
                **context,
            },
        )
