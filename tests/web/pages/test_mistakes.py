"""What the author of a page gets wrong ends in an error that says what, and what to do."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html import unescape
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
from jinja2 import Environment
from litestar import Litestar, Request, get
from markupsafe import Markup
from playwright.async_api import expect
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount

from durably import ConfigurationError, Durably, Run, RunFilter, StepContext
from durably_web import AuthConfig, DurablyWeb, RunOperation, allow_local
from durably_web.kit import Html
from tests.core.unchecked import unchecked
from tests.web.browser import browsing
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.test_browser import looking
from tests.web.pages.test_embedding import host
from tests.web.requests import request
from tests.web.serving import serving

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@pytest.fixture
def web(durably: Durably) -> DurablyWeb[str]:
    return DurablyWeb(durably, authenticate=by_header, prefix="/durably")


def of_ada() -> Any:
    return request(headers={"user": "ada"})


def now(web: DurablyWeb[str], name: str, *args: object, **props: object) -> Awaitable[Html]:
    """A component as people ask for it who use no type checker."""
    made: Awaitable[Html] = unchecked(getattr(web.ui, name))(*args, **props)
    return made


MISTAKES: list[tuple[str, tuple[object, ...], dict[str, object], str]] = [
    ("runs_table", (), {"job_name": ("a",)}, r"runs_table: job_name cannot be \('a',\); it must be a valid string, or None"),
    ("runs_table", (), {"status": ("leased",)}, "status cannot be .*; it must be 'pending', 'running'"),
    ("runs_table", (), {"labels": {"org": 3}}, "labels cannot be {'org': 3}; 3 in it must be a valid string"),
    ("runs_table", (), {"columns": ("id",)}, "columns cannot be .* must be 'status', 'run'"),
    ("runs_table", (), {"since": datetime(2026, 1, 1, tzinfo=UTC)}, "isoformat.* is '2026-01-01T00:00:00"),
    ("runs_table", (), {"page": 2}, r"runs_table: no prop 'page' .*'page_size'.*there are: job_name, .*class_"),
    ("run_progress", ("x",), {"bigg": True}, r"no prop 'bigg' \(did you mean 'big'\?\)"),
    ("run_progress", (), {}, "run_progress: missing a required argument: 'run_id'"),
    ("run_progress", (17,), {}, "run_id cannot be 17; it must be a valid string"),
    ("run_progress", (None,), {}, "run_id cannot be None; it must be a valid string$"),
    ("run_progress", ("x",), {"attrs": {"a b": "x"}}, "'a b' is no name of an attribute"),
    ("run_progress", ("x",), {"attrs": {"class": "x"}}, "'class' has a prop of its own: class_"),
    ("log_tail", ("x",), {"height": 300}, "log_tail: height cannot be 300"),
    ("log_tail", ("x",), {"min_level": "debug"}, "it must be 'info', 'warning' or 'error'"),
    ("run_io", ("x",), {"which": "result"}, "it must be 'input' or 'output'"),
    ("trigger_form", ("approve-order",), {"initial": object()}, "initial cannot be <object"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "props", "said"), MISTAKES)
async def test_a_wrong_prop_is_told_with_what_is_taken(
    web: DurablyWeb[str], name: str, args: tuple[object, ...], props: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await now(web, name, of_ada(), *args, **props)
    with pytest.raises(ConfigurationError, match=said):
        unchecked(getattr(web.ui.lazy, name))(*args, **props)


async def test_a_job_where_its_name_belongs_is_told_with_the_name(
    web: DurablyWeb[str], durably: Durably
) -> None:
    job = durably.jobs["approve-order"]
    run = await job.trigger("A")
    with pytest.raises(ConfigurationError, match=r"job cannot be .* \(its name is 'approve-order'\)"):
        await now(web, "trigger_form", of_ada(), job)
    with pytest.raises(ConfigurationError, match=rf"run_id cannot be .* \(its id is '{run.id}'\)"):
        await now(web, "run_panel", of_ada(), run)
    with pytest.raises(ConfigurationError, match="use_job must be given the job itself, not its name"):
        await unchecked(web.use_job)(of_ada(), "approve-order")
    with pytest.raises(ConfigurationError, match=r"use_job_run must be given a run's id"):
        await unchecked(web.use_job_run)(of_ada(), run)
    for props in ({"labels": ["org"]}, {"job_name": job}):
        with pytest.raises(ConfigurationError, match=r"labels must be a mapping|its name is 'approve-order'"):
            await unchecked(web.use_runs)(of_ada(), **props)


async def test_a_url_is_no_mistake_of_the_author(web: DurablyWeb[str]) -> None:
    async with asking(web) as client:
        answers = [
            await client.get(f"/-/{part}")
            for part in ("runs_table?page_size=x", "runs_table?status=leased", "run_progress", "nothing")
        ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 404]


async def test_one_status_may_be_said_alone(web: DurablyWeb[str], durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    shown = await web.ui.runs_table(of_ada(), status="pending")
    assert run.id in shown
    assert run.id not in await web.ui.runs_table(of_ada(), status="failed")
    async with asking(Starlette(routes=[Mount("/durably", web)])) as client:
        part = await client.get("/durably/-/runs_table?status=pending")
    assert run.id in part.text


class Order(BaseModel):
    id: str


async def test_a_form_begins_with_values_of_any_kind(web: DurablyWeb[str]) -> None:
    assert 'value="A-17"' in await web.ui.trigger_form(of_ada(), "approve-order", initial="A-17")
    lazily = web.ui.lazy.trigger_form("approve-order", initial=Order(id="17"))
    assert "initial=%7B%22id%22%3A+%2217%22%7D" in lazily
    assert "initial=%22true%22" in web.ui.lazy.trigger_form("approve-order", initial="true")


@pytest.mark.parametrize("prop", ["exclude", "fields"])
async def test_a_field_that_there_is_not_is_told_in_the_forms_place(
    web: DurablyWeb[str], durably: Durably, prop: str
) -> None:
    @durably.job
    async def ship(step: StepContext, order: Order) -> None: ...

    form = await now(web, "trigger_form", of_ada(), "ship", **{prop: ("idd",)})
    assert (
        "trigger_form of ship: there is no field &#39;idd&#39; (did you mean &#39;id&#39;?) in its input"
        in form
    )
    assert "<input" not in form


@pytest.mark.parametrize("name", ["approve_order", "aprove-order"])
async def test_a_job_that_is_nearly_one_is_told_in_the_log_once(
    web: DurablyWeb[str], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    for _ in range(2):
        await web.ui.runs_table(of_ada(), job_name=name)
        web.ui.lazy.job_card(name)
        web.ui.lazy.job_card("some-other-job-entirely")
    said = [record.getMessage() for record in caplog.records if record.name == "durably.web"]
    assert said == [f"runs_table: there is no job {name!r} (did you mean 'approve-order'?)"]


# Requests


@pytest.mark.parametrize("given", [(), (None,), ("a-run",)])
async def test_a_forgotten_request_is_told(web: DurablyWeb[str], given: tuple[object, ...]) -> None:
    with pytest.raises(ConfigurationError, match="runs_table needs the request of the page first"):
        await now(web, "runs_table", *given)
    with pytest.raises(ConfigurationError, match="needs the request of the page first"):
        await unchecked(web.use_runs)(*given or (None,))


def test_a_placeholder_takes_no_request(web: DurablyWeb[str]) -> None:
    with pytest.raises(ConfigurationError, match="run_progress: a placeholder takes no request"):
        unchecked(web.ui.lazy.run_progress)(of_ada(), "a-run")


async def test_a_request_of_another_framework_is_taken(web: DurablyWeb[str], durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A")

    @get("/order", media_type="text/html")
    async def order(request: Request[Any, Any, Any]) -> str:
        views = await web.use_runs(request)
        return f"{await web.ui.run_status(request, run.id)} {len(views.runs)}"

    async with asking(cast("ASGIApp", Litestar([order]))) as client:
        page = await client.get("/order")
    assert page.status_code == 200
    assert "Pending" in page.text
    assert page.text.endswith(" 1")


# What is awaited


async def test_a_component_that_was_not_awaited_says_so_in_a_page(web: DurablyWeb[str]) -> None:
    template = Environment(autoescape=True).from_string("{{ progress }}")
    writings: list[Callable[[object], object]] = [str, "{}".format, Markup("{}").format]
    writings.append(lambda part: template.render(progress=part))
    for write in writings:
        with pytest.raises(ConfigurationError, match=r"await web\.ui\.run_status\(request, …\)"):
            write(web.ui.run_status(of_ada(), "x"))
    with pytest.raises(ConfigurationError, match=r"await web\.ui\.trigger_button"):
        str(web.ui.trigger_button(of_ada(), "approve-order", "A"))


async def test_components_are_awaited_side_by_side(web: DurablyWeb[str], durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with asyncio.TaskGroup() as tasks:
        alone = tasks.create_task(web.ui.run_status(of_ada(), run.id))
    both = await asyncio.gather(web.ui.run_status(of_ada(), run.id), web.ui.run_io(of_ada(), run.id))
    assert "Pending" in alone.result()
    assert "Pending" in both[0]
    assert isinstance(both[1], Html)


async def test_one_that_is_given_up_ends(web: DurablyWeb[str]) -> None:
    waiting = web.ui.run_status(of_ada(), "x")
    waiting.close()
    waiting = web.ui.run_status(of_ada(), "x")
    with pytest.raises(KeyError):
        waiting.throw(KeyError())
    waiting.close()


# Renderers and templates


@pytest.mark.parametrize("answer", ["<b>text</b>", None])
async def test_a_renderer_that_answers_no_html_is_told(
    web: DurablyWeb[str], durably: Durably, answer: object
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")

    def status(c: object) -> object:
        return answer

    unchecked(web.component("run_status"))(status)
    with pytest.raises(ConfigurationError, match="the renderer of run_status must answer HTML: Markup"):
        await web.ui.run_status(of_ada(), run.id)


async def a_coroutine(c: object) -> str:
    return ""


def of_nothing() -> str:
    return ""


@pytest.mark.parametrize(
    ("name", "renderer", "said"),
    [
        (of_nothing, None, r"given a name: @web\.component\('run_progress'\)"),
        ("run_progres", None, r"no component 'run_progres' \(did you mean 'run_progress'\?\)"),
        ("run_status", a_coroutine, r"component\('run_status'\) must be a plain function"),
        ("run_status", of_nothing, r"component\('run_status'\) is called as .*\(c\)"),
    ],
)
def test_a_renderer_that_cannot_be_one_is_refused_where_it_is_given(
    web: DurablyWeb[str], name: object, renderer: object, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        unchecked(web.component)(name)(renderer)


@pytest.mark.parametrize("given", ["templates", object()])
def test_what_is_no_environment_is_not_installed_into(web: DurablyWeb[str], given: object) -> None:
    with pytest.raises(ConfigurationError, match="install must be given Jinja2Templates or an Environment"):
        unchecked(web.install)(given)


@pytest.mark.parametrize("htmx", ["2", True, "none"])
def test_an_htmx_that_there_is_not_is_told(web: DurablyWeb[str], htmx: object) -> None:
    with pytest.raises(ConfigurationError, match="htmx must be 'bundle', 'host' or None"):
        unchecked(web.ui.assets)(htmx=htmx)


@pytest.mark.parametrize("htmx", ["host", "bundle"])
async def test_a_page_without_htmx_says_so_to_whoever_looks_into_the_console(
    durably: Durably, htmx: Literal["host", "bundle"]
) -> None:
    web = DurablyWeb(durably, authenticate=allow_local, prefix="/durably")

    async def page(request: Any) -> str:
        return f"<!doctype html><title>x</title>{web.ui.assets(htmx=htmx)}{web.ui.lazy.stats_tiles()}"

    forgot = htmx == "host"
    allowed = "there is no htmx on this page" if forgot else ""
    async with (
        serving(host(web, page)) as url,
        browsing() as browser,
        looking(browser, allowed=allowed) as window,
    ):
        said: list[str] = []
        window.page.on("console", lambda message: said.append(message.text))
        await window.page.goto(f"{url}/order", wait_until="load")
        await expect(window.page.locator(".dw-skeleton" if forgot else ".dw-tile").first).to_be_visible()
        await expect(window.page.locator("html")).to_have_class("dw-js")
        assert any("assets() without htmx" in text for text in said) is forgot


async def test_a_table_on_a_page_of_a_host_turns_its_pages(web: DurablyWeb[str], durably: Durably) -> None:
    runs = [(await durably.jobs["approve-order"].trigger(str(number))).id for number in range(5)]

    async def page(request: Any) -> str:
        return str(await web.ui.runs_table(request, page_size=2))

    async with asking(host(web, page)) as client:
        shown: list[list[str]] = []
        path: str | None = "/order"
        while path:
            text = (await client.get(path)).text
            shown.append([run for run in reversed(runs) if run in text])
            older = re.search(r'href="(/order[^"]*)" rel="next"', text)
            path = older and unescape(older[1])
        lazily = re.search(r'hx-get="([^"]+)"', web.ui.lazy.runs_table(page_size=2))
        assert lazily is not None
        middle = await durably.get_runs(where=RunFilter(), limit=1, offset=1)
        second = {"hx-current-url": f"http://app.example/order?before={middle[0].position}"}
        part = await client.get(unescape(lazily[1]), headers=second)
    assert shown == [runs[:2:-1], runs[2:0:-1], runs[:1]]
    assert [run for run in reversed(runs) if run in part.text] == runs[2:0:-1]


# Who is let in


async def test_an_answer_of_authenticate_is_one_of_the_page_around_too(durably: Durably) -> None:
    answers: dict[str, Response] = {
        "elsewhere": RedirectResponse("/login?next=/order", 303),
        "said": PlainTextResponse("please sign in", 200),
    }

    async def who(request: Any) -> Response:
        return answers[request.headers["user"]]

    web: DurablyWeb[str] = DurablyWeb(durably, authenticate=who)

    async def page(request: Any) -> str:
        return str(await web.ui.job_list(request))

    async with asking(host(web, page)) as client:
        elsewhere = await client.get("/order", headers={"user": "elsewhere"})
        said = await client.get("/order", headers={"user": "said"})
    assert (elsewhere.status_code, elsewhere.headers["location"]) == (303, "/login?next=/order")
    assert said.status_code == 401


async def test_a_refusal_names_the_option_that_refused(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=allow_local, allowed_hosts=["app.example"])
    async with asking(web) as client:
        from_afar = await client.get("/runs", headers={"x-forwarded-for": "10.0.0.7"})
        part = await client.get("/-/runs_table", headers={"x-forwarded-for": "10.0.0.7"})
        by_another_name = await client.get("/runs", headers={"host": "other.example"})
        from_another_page = await client.post("/-/theme", headers={"sec-fetch-site": "cross-site"})
    said = [answer.text for answer in (from_afar, part, by_another_name, from_another_page)]
    names = ["(allow_local)", "(allow_local)", "(allowed_hosts)", "(trusted_origins)"]
    assert [name in text for name, text in zip(names, said, strict=True)] == [True] * 4


async def test_what_is_not_there_is_told_in_the_same_words(durably: Durably) -> None:
    async def may(user: str, run: Run, operation: RunOperation) -> None:
        raise HTTPException(404 if operation == "read" else 403, f"secrets of {user}")

    web = DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, on_run_access=may))
    run = await durably.jobs["approve-order"].trigger("A")
    async with asking(web) as client:
        theirs, nobodys = await client.get(f"/runs/{run.id}"), await client.get("/runs/nobody")
    [said, also] = [answer.text.partition("<main")[2] for answer in (theirs, nobodys)]
    assert said.replace(run.id, "nobody") == also
    assert "secrets" not in said
    # Nor is what the API says put beside the page's own words.
    assert "Run not found" not in said


async def test_whoever_forgot_the_login_is_told_once_in_the_log(
    web: DurablyWeb[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(web, user="") as client:
        assert [(await client.get(path)).status_code for path in ("/runs", "/jobs")] == [401, 401]
    [said] = [record.getMessage() for record in caplog.records if record.name == "durably.web"]
    assert said.startswith("/durably/runs was refused: authenticate knows nobody")
    assert "authenticate=allow_local" in said
