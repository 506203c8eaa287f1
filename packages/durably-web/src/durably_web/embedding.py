"""Components in pages of others: rendered now, or as placeholders that fetch themselves."""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    cast,
    overload,
)

from jinja2 import pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from typing_extensions import Unpack

from durably_web.components.base import Component
from durably_web.components.charts import FailingJobs, Sparkline, StatsTiles, ThroughputChart
from durably_web.components.connection import ConnectionIndicator
from durably_web.components.jobs import JobCard, JobList, WorkersTable
from durably_web.components.logs import LogTail
from durably_web.components.panels import JobPanel, RunPanel
from durably_web.components.promised import Promised
from durably_web.components.props import from_python, name_of
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
from durably_web.components.runs import RunsFilter, RunsTable, StatusTabs
from durably_web.components.triggering import TriggerButton, TriggerForm
from durably_web.kit import Html, Kit
from durably_web.urls import Urls
from durably_web.visits import AnyRequest, Visit, request_of

P = ParamSpec("P")
Htmx: TypeAlias = Literal["bundle", "host"]


class Props(TypedDict, total=False):
    """What every component takes."""

    class_: str
    id: str | None
    unstyled: bool
    attrs: Mapping[str, str]


class Host(Protocol):
    """What renders for a page of somebody else."""

    @property
    def kit(self) -> Kit:
        """Renders the components."""
        ...

    async def visit(self, request: AnyRequest) -> Visit:
        """Let in whoever looks at the page."""
        ...

    def point_out(self, component: Component) -> None:
        """Tell the page's author what looks like a mistake."""
        ...

    def seal(self, job: str, input: object, idempotency_key: str | None) -> str:
        """What a button triggers, as nobody else can write it."""
        ...

    def urls(self, request: Request | None) -> Urls:
        """Where the dashboard is, as seen from the page."""
        ...


class _Method(Generic[P]):
    """A component as a method: of `Ui` it renders it with its data, of `Lazy` it gives its placeholder."""

    def __init__(self, component: Callable[P, Component]) -> None:
        self._component = component

    @overload
    def __get__(self, ui: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(
        self, ui: "Ui", owner: type[object]
    ) -> Callable[Concatenate[AnyRequest, P], Coroutine[Any, Any, Html]]: ...
    @overload
    def __get__(self, ui: "Lazy", owner: type[object]) -> Callable[P, Html]: ...
    def __get__(self, ui: "Ui | Lazy | None", owner: type[object]) -> object:
        match ui:
            case None:
                return self
            case Ui():
                return partial(self._promise, ui.host)
            case Lazy():
                return partial(self._placeholder, ui.host, ui.host.urls(ui.request))

    def _promise(self, host: Host, /, *args: object, **props: object) -> Promised[Html]:
        async def render() -> Html:
            request = request_of(args[0] if args else None, name)
            component = from_python(self._component, args[1:], props)
            host.point_out(component)
            return await host.kit.render(component, await host.visit(request))

        name = name_of(self._component)
        return Promised(name, render)

    def _placeholder(self, host: Host, urls: Urls, /, *args: P.args, **props: P.kwargs) -> Html:
        component = from_python(self._component, args, props)
        host.point_out(component)
        return host.kit.placeholder(component, urls)


class _Components:
    """The components, by the names that they have on pages."""

    conn_indicator: Final = _Method(ConnectionIndicator)
    failing_jobs: Final = _Method(FailingJobs)
    job_card: Final = _Method(JobCard)
    job_list: Final = _Method(JobList)
    job_panel: Final = _Method(JobPanel)
    log_tail: Final = _Method(LogTail)
    run_actions: Final = _Method(RunActions)
    run_error: Final = _Method(RunFailure)
    run_explanation: Final = _Method(RunExplanation)
    run_facts: Final = _Method(RunFacts)
    run_io: Final = _Method(RunPayload)
    run_panel: Final = _Method(RunPanel)
    run_progress: Final = _Method(RunProgress)
    run_status: Final = _Method(RunStatusBadge)
    runs_filter: Final = _Method(RunsFilter)
    runs_table: Final = _Method(RunsTable)
    sparkline: Final = _Method(Sparkline)
    stats_tiles: Final = _Method(StatsTiles)
    status_tabs: Final = _Method(StatusTabs)
    steps_waterfall: Final = _Method(StepsWaterfall)
    throughput_chart: Final = _Method(ThroughputChart)
    trigger_form: Final = _Method(TriggerForm)
    workers_table: Final = _Method(WorkersTable)


class Lazy(_Components):
    """Placeholders: no data is read, and whoever looks is let in when the component fetches itself."""

    def __init__(self, host: Host, request: Request | None = None) -> None:
        self.host = host
        self.request = request

    def trigger_button(
        self,
        job: str,
        input: object = None,
        label: str = "Run",
        *,
        idempotency_key: str | None = None,
        **props: Unpack[Props],
    ) -> Html:
        """A button that triggers a run of this job with this input, and with no other.

        Raises:
            ConfigurationError: There is no `secret_key`, no such job, or the input is too large.
            ValidationError: The input does not fit the job.
        """
        button = from_python(TriggerButton, (self.host.seal(job, input, idempotency_key), label), props)
        return self.host.kit.placeholder(button, self.host.urls(self.request))

    def assets(self, *, htmx: Htmx | None = "bundle") -> Html:
        """What a page's head needs for components.

        Args:
            htmx: `bundle`: htmx comes along. `host`: the page has htmx 2 or 4 already. None: the style
                sheet only; nothing follows what happens.
        """
        return self.host.kit.head(self.host.urls(self.request), htmx=htmx)


class Ui(_Components):
    """Components with their data in them, for this request."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.lazy: Lazy = Lazy(host)
        """The same as placeholders, which need no request and nothing to be awaited."""

    def trigger_button(
        self,
        request: AnyRequest,
        job: str,
        input: object = None,
        label: str = "Run",
        *,
        idempotency_key: str | None = None,
        **props: Unpack[Props],
    ) -> Coroutine[Any, Any, Html]:
        """A button that triggers a run of this job with this input, and with no other; see `Lazy.trigger_button`."""

        async def render() -> Html:
            visit = await self.host.visit(request_of(request, "trigger_button"))
            sealed = self.host.seal(job, input, idempotency_key)
            return await self.host.kit.render(from_python(TriggerButton, (sealed, label), props), visit)

        return Promised("trigger_button", render)

    def assets(self, request: Request | None = None, *, htmx: Htmx | None = "bundle") -> Html:
        """What a page's head needs; see `Lazy.assets`."""
        return Lazy(self.host, request).assets(htmx=htmx)


class InTemplates:
    """`durably` in a Jinja template: `{{ durably.run_progress(run_id) }}`, as placeholders."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Callable[..., Html]:
        if name.startswith("_") or not hasattr(Lazy, name):
            raise AttributeError(name)

        @pass_context
        def render(context: Context, /, *args: Any, **props: Any) -> Html:  # noqa: ANN401 - a template's
            request: object = context.get("request")
            lazy = Lazy(self._host, _request(request))
            method: Callable[..., Html] = getattr(lazy, name)
            return method(*args, **props)

        return render


def _request(found: object) -> Request | None:
    return cast("Request", found) if isinstance(found, Request) else None
