"""Rendering components: now, or as placeholders that fetch themselves."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from markupsafe import Markup
from starlette.exceptions import HTTPException

from durably import ConfigurationError, NotRunningError, StoreError
from durably_web import answers
from durably_web.components.base import Component
from durably_web.components.charts import FailingJobs, Sparkline, StatsTiles, ThroughputChart
from durably_web.components.connection import ConnectionIndicator
from durably_web.components.jobs import JobCard, JobList, WorkersTable
from durably_web.components.logs import LogTail
from durably_web.components.panels import JobPanel, RunPanel
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
from durably_web.mistakes import wrong_answer
from durably_web.templating import Templates
from durably_web.unavailable import unavailable
from durably_web.urls import Urls
from durably_web.visits import Visit

COMPONENTS: Final[Mapping[str, type[Component]]] = {
    component.name: component
    for component in (
        ConnectionIndicator,
        FailingJobs,
        JobCard,
        JobList,
        JobPanel,
        LogTail,
        RunActions,
        RunExplanation,
        RunFacts,
        RunFailure,
        RunPanel,
        RunPayload,
        RunProgress,
        RunStatusBadge,
        RunsFilter,
        RunsTable,
        Sparkline,
        StatsTiles,
        StatusTabs,
        StepsWaterfall,
        ThroughputChart,
        TriggerButton,
        TriggerForm,
        WorkersTable,
    )
}
"""By name: each has a URL of its own, where its inside is fetched."""

CLASSES: Final = re.compile(r' class="dw-[^"]*"')
"""Text cannot look like this: its quotes are escaped."""


class HasHtml(Protocol):
    """Anything that says what it is as HTML: Markup, htpy's elements."""

    def __html__(self) -> str:
        """The HTML."""
        ...


class Html(Markup):
    """HTML that any template engine takes as such."""

    __slots__ = ()

    def htmy(self, context: object) -> "Html":
        """As htmy asks for it."""
        return self


def _html(component: Component, made: object) -> str:
    html: Callable[[], str] | None = getattr(made, "__html__", None)
    if html is None:
        wanted = "HTML: Markup, or anything else with __html__"
        raise wrong_answer(f"the renderer of {component.name}", made, wanted)
    return html()


class Kit:
    """Renders components with these templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self.renderers: dict[str, Callable[[Any], HasHtml]] = {}
        """Functions in the place of templates, by component."""

    async def render(self, component: Component, visit: Visit) -> Html:
        """The component with its data; an explanation in its place if there is nothing to show."""
        component = component.on(visit)
        try:
            inner = await self._filled(component, visit)
        except HTTPException as error:
            inner = self.trouble(error)
        except (StoreError, NotRunningError) as error:
            # A page of ours says so as a whole; one of a host has more to tell.
            if visit.is_ours:
                raise
            inner = self.trouble(unavailable(error, component.name))
        return self._host(component, visit.urls, inner, trigger="dw-refresh")

    def placeholder(self, component: Component, urls: Urls) -> Html:
        """The component's element; it fetches what belongs in it."""
        inner = self._templates.render("durably/components/skeleton.html")
        return self._host(component, urls, inner, trigger="load, dw-refresh")

    async def inside(self, component: Component, visit: Visit) -> Markup:
        """What is in the component's element.

        Raises:
            HTTPException: It is not there for this visitor.
        """
        return await self._filled(component.on(visit), visit)

    def fill(self, component: Component, c: object, visit: Visit) -> Markup:
        """A component's template with something to show."""
        renderer = self.renderers.get(component.name)
        if renderer is not None:
            return Markup(_html(component, renderer(c)))  # noqa: S704 - it says that it is HTML
        inner = self._templates.render(component.template, c=c, visit=visit)
        return Markup(CLASSES.sub("", inner)) if component.unstyled else inner  # noqa: S704 - only taken from

    def page(self, name: str, context: Mapping[str, object]) -> Markup:
        """A whole page."""
        return self._templates.render(f"durably/pages/{name}.html", **context)

    def head(self, urls: Urls, *, htmx: str | None) -> Html:
        """What a page's head needs for components.

        Raises:
            ConfigurationError: `htmx` is none of those.
        """
        if htmx not in {"bundle", "host", None}:
            raise ConfigurationError(f"assets: htmx must be 'bundle', 'host' or None; not {htmx!r}")
        return Html(self._templates.render("durably/components/assets.html", urls=urls, htmx=htmx))

    def trouble(self, error: HTTPException) -> Markup:
        """What stands in the place of something that cannot be shown."""
        return self._templates.render(
            "durably/components/error_state.html", error=error, detail=answers.detail(error)
        )

    async def _filled(self, component: Component, visit: Visit) -> Markup:
        return self.fill(component, await component.load(visit), visit)

    def _host(self, component: Component, urls: Urls, inner: Markup, *, trigger: str) -> Html:
        url = urls.fragment(component.name, component.query())
        return Html(
            self._templates.render(
                "durably/host.html",
                c=component,
                url=url if component.live or trigger.startswith("load") else None,
                trigger=trigger,
                inner=inner,
            )
        )
