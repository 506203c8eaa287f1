"""Components and values in pages of others."""

import re
from collections.abc import Awaitable, Callable, Mapping
from html import unescape
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from jinja2 import DictLoader, Environment
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.templating import Jinja2Templates

from durably import ConfigurationError, Durably, StepContext, define_job
from durably_web import AuthConfig, DurablyWeb, Html, TriggerRequest, WebContext
from durably_web.embedding import Lazy, Ui
from durably_web.kit import COMPONENTS
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.django_app import rendered
from tests.web.pages.jobs import Import
from tests.web.pages.test_safety import TENANTS


def host(web: DurablyWeb[Any], page: Callable[[Request], Awaitable[str]]) -> Starlette:
    """An application with a page of its own, and the dashboard below /durably."""

    async def answer(request: Request) -> Response:
        return HTMLResponse(await page(request))

    return Starlette(routes=[Route("/order", answer), Mount("/durably", web)])


async def failed(durably: Durably, **labels: str) -> str:
    run = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"), labels=labels)
    await durably.process_until_idle()
    return run.id


def fetches(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'hx-get="([^"]+)"', page)]


def test_every_component_can_be_called_in_both_ways() -> None:
    assert {name for name in COMPONENTS if hasattr(Ui, name)} == set(COMPONENTS)
    assert {name for name in COMPONENTS if hasattr(Lazy, name)} == set(COMPONENTS)


async def test_a_component_is_rendered_with_its_data(web: DurablyWeb[str], durably: Durably) -> None:
    run_id = await failed(durably)

    async def page(request: Request) -> str:
        return await web.ui.run_progress(request, run_id, big=True, class_="mine", attrs={"data-x": '"'})

    async with asking(host(web, page)) as client:
        text = (await client.get("/order")).text
        assert text.startswith('<span class="dw dw-run-progress mine" data-dw-component="run_progress"')
        assert 'data-x="&#34;"' in text
        assert "3/3 · row 3" in text
        # Where the dashboard is, Starlette tells; what was asked for is kept.
        [url] = fetches(text)
        assert url == f"/durably/-/run_progress?run_id={run_id}&big=true"
        assert "100 %" in (await client.get(url)).text


async def test_every_component_fetches_what_it_was_rendered_with(
    web: DurablyWeb[str], durably: Durably
) -> None:
    run_id = await failed(durably, org="acme")
    props: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
        "runs_table": (
            (),
            {"labels": {"org": "acme"}, "status": ("failed",), "page_size": 5, "columns": ("run",)},
        ),
        "log_tail": ((run_id,), {"max_lines": 2, "min_level": "warning", "height": "12rem"}),
        "run_io": ((run_id,), {"which": "input", "open_depth": 0}),
        "run_panel": ((run_id,), {"parts": ("status", "logs")}),
        "run_actions": ((run_id,), {"actions": ("delete",)}),
        "trigger_form": (
            ("import-csv",),
            {"initial": {"rows": 9}, "exclude": ("tags", "source"), "options": True},
        ),
        "trigger_button": (("import-csv", {"filename": "a.csv"}, "Import it"), {"class_": "mine"}),
        "job_panel": (("import-csv",), {"auto_resume": False}),
        "job_card": (("import-csv",), {}),
        "throughput_chart": (("import-csv",), {}),
    }

    async def page(request: Request) -> str:
        parts: list[str] = []
        for name, component in COMPONENTS.items():
            args, more = props.get(
                name, ((run_id,) if "run_id" in component.__dataclass_fields__ else (), {})
            )
            parts.append(await getattr(web.ui, name)(request, *args, **more))
        return "\n".join(parts)

    async with asking(host(web, page)) as client:
        text = (await client.get("/order")).text
        assert "Not found" not in text
        for url in fetches(text):
            if "before=" in url:
                continue
            answer = await client.get(url, headers={"hx-current-url": "http://app.example/order"})
            assert answer.status_code == 200, url
        names = re.findall(r'data-dw-component="(\w+)"', text)
        assert set(COMPONENTS) <= set(names)
        assert (
            "row 37 is bad"
            not in text.partition('data-dw-component="runs_table"')[2].partition("data-dw-component")[0]
        )


async def test_actions_lead_back_to_the_page_they_stand_on(web: DurablyWeb[str], durably: Durably) -> None:
    run_id = await failed(durably)

    async def page(request: Request) -> str:
        return await web.ui.run_actions(request, run_id)

    async with asking(host(web, page)) as client:
        text = (await client.get("/order?id=7")).text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
        assert fields == {"next": "/order?id=7"}
        assert f'hx-post="/durably/runs/{run_id}/retry"' in text
        part = await client.get(fetches(text)[0], headers={"hx-current-url": "http://app.example/order?id=7"})
        assert 'value="/order?id=7"' in part.text
        done = await client.post(f"/durably/runs/{run_id}/retry", data=fields)
        assert done.headers["location"] == "/order?id=7&notice=retried"


async def test_a_placeholder_needs_no_request_and_reads_nothing(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, prefix="/durably")
    run_id = await failed(durably)
    await durably.close()
    placeholder = web.ui.lazy.log_tail(run_id, height="12rem")
    assert isinstance(placeholder, Html)
    assert placeholder.htmy(None) is placeholder
    assert 'hx-trigger="load, dw-refresh"' in placeholder
    assert f'data-dw-bells="dw-run-{run_id}-log dw-run-{run_id}-status"' in placeholder
    assert "dw-skeleton" in placeholder
    assert fetches(placeholder) == [f"/durably/-/log_tail?run_id={run_id}&height=12rem"]
    still = web.ui.lazy.run_status(run_id, live=False)
    assert "data-dw-bells" not in still


async def test_where_the_dashboard_is_must_be_known(web: DurablyWeb[str]) -> None:
    with pytest.raises(ConfigurationError, match="prefix='/durably'"):
        web.ui.lazy.run_status("a")

    async def page(request: Request) -> str:
        return await web.ui.run_status(request, "a")

    elsewhere = Starlette(routes=[host(web, page).routes[0]])
    async with asking(elsewhere) as client:
        with pytest.raises(ConfigurationError):
            await client.get("/order")


async def test_a_mount_is_found_behind_others_and_below_a_proxy(web: DurablyWeb[str]) -> None:
    async def page(request: Request) -> Response:
        return HTMLResponse(web.ui.assets(request))

    app = Starlette(routes=[Mount("/a", routes=[Route("/order", page), Mount("/b", web)])])
    async with asking(app) as client:
        assert 'data-dw-live="/a/b/-/live"' in (await client.get("/a/order")).text
    transport = httpx2.ASGITransport(app=app, root_path="/proxy")
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.example/proxy") as client:
        assert 'data-dw-live="/proxy/a/b/-/live"' in (await client.get("/a/order")).text


async def test_a_foreign_run_on_a_page_is_not_there(durably: Durably) -> None:
    web = DurablyWeb(durably, auth=TENANTS)
    run_id = await failed(durably, org="globex")

    async def page(request: Request) -> str:
        return await web.ui.run_panel(request, run_id)

    async with asking(host(web, page), user="acme") as client:
        text = (await client.get("/order")).text
    assert "Not found" in text
    assert "bad.csv" not in text


async def test_a_visitor_is_let_in_once_for_all_components_of_a_page(durably: Durably) -> None:
    asked: list[str] = []

    async def count(request: Request) -> str:
        asked.append(request.url.path)
        return "ada"

    web = DurablyWeb(durably, authenticate=count)

    async def page(request: Request) -> str:
        return await web.ui.job_list(request) + await web.ui.stats_tiles(request)

    async with asking(host(web, page)) as client:
        await client.get("/order")
    assert asked == ["/order"]


# In templates


async def test_jinja_templates_have_the_placeholders(web: DurablyWeb[str], tmp_path: Path) -> None:
    (tmp_path / "order.html").write_text(
        "<head>{{ durably.assets(htmx='host') }}</head>{{ progress }}"
        "{{ durably.log_tail(run, height='12rem') }}{{ durably.trigger_form('import-csv', exclude=['tags']) }}"
    )
    templates = Jinja2Templates(tmp_path)
    web.install(templates)

    async def page(request: Request) -> Response:
        progress = await web.ui.run_progress(request, "nobody")
        return templates.TemplateResponse(request, "order.html", {"run": "abc", "progress": progress})

    async with asking(Starlette(routes=[Route("/order", page), Mount("/durably", web)])) as client:
        text = (await client.get("/order")).text
        assert '<div class="dw dw-log-tail" data-dw-component="log_tail"' in text
        assert "&lt;" not in text
        assert "durably-live.js" in text
        assert "Not found" in text
        assert fetches(text)[1:] == [
            "/durably/-/log_tail?run_id=abc&height=12rem",
            "/durably/-/trigger_form?job=import-csv&exclude=%5B%22tags%22%5D",
        ]
        for url in fetches(text)[2:]:
            assert (await client.get(url)).status_code == 200

    bare = Environment(loader=DictLoader({"x": "{{ durably.nonsense(1) }}"}), autoescape=True)
    web.install(bare)
    with pytest.raises(Exception, match="nonsense"):
        bare.get_template("x").render()


async def test_django_templates_take_them_as_html(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, prefix="/durably")
    page = rendered("<main>{{ panel }}</main>", panel=web.ui.lazy.run_panel("abc"))
    assert '<main><div class="dw dw-run-panel"' in page


async def test_a_file_of_a_host_takes_the_place_of_ours(durably: Durably, tmp_path: Path) -> None:
    folder = tmp_path / "durably" / "components"
    folder.mkdir(parents=True)
    (folder / "run_progress.html").write_text("<b>{{ c.run.progress.current }} of {{ c.run.job_name }}</b>")
    run_id = await failed(durably)
    by_option = DurablyWeb(durably, authenticate=by_header, templates=tmp_path)
    by_install = DurablyWeb(durably, authenticate=by_header)
    by_install.install(Jinja2Templates(tmp_path))
    for web in (by_option, by_install):
        async with asking(web) as client:
            assert "<b>3.0 of import-csv</b>" in (await client.get(f"/runs/{run_id}")).text


async def test_a_function_takes_the_place_of_a_template(web: DurablyWeb[str], durably: Durably) -> None:
    @web.component("run_progress")
    def progress(c: Any) -> Markup:
        return Markup("<i>{}</i>").format(c.run.job_name)

    run_id = await failed(durably)
    async with asking(web) as client:
        assert "<i>import-csv</i>" in (await client.get(f"/-/run_progress?run_id={run_id}")).text
    assert progress is not None
    with pytest.raises(
        ConfigurationError,
        match=r"no component 'progress' \(did you mean 'run_progress'\?\); there are: conn_indicator",
    ):
        web.component("progress")


async def test_without_our_classes_nothing_of_our_look_is_left(
    web: DurablyWeb[str], durably: Durably
) -> None:
    run_id = await failed(durably)

    async def page(request: Request) -> str:
        return await web.ui.run_panel(request, run_id, unstyled=True, class_="mine", parts=("error",))

    async with asking(host(web, page)) as client:
        text = (await client.get("/order")).text
        assert text.startswith('<div class="mine" data-dw-component="run_panel"')
        inner = (await client.get(fetches(text)[0])).text
    assert "unstyled=true" in fetches(text)[0]
    assert 'class="dw-card"' not in inner


# Fragments are asked for by anybody


@pytest.mark.parametrize(
    "query",
    [
        "run_id=a&nonsense=1",
        "",
        "run_id=a&big=perhaps",
        "run_id=a&attrs={}",
        "run_id=a&class_=x",
        "run_id=a&_=1",
    ],
)
async def test_a_prop_that_cannot_be_used_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/durably/-/run_progress?{query}")).status_code == 400


async def test_a_component_that_does_not_exist_is_not_found(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/durably/-/nonsense")).status_code == 404


# Values


async def test_values_are_what_the_reference_s_hooks_give(durably: Durably) -> None:
    async def number(step: StepContext, input: int) -> int:
        step.log.info("counting")
        return input

    handle = durably.register(define_job(name="number", input=int, output=int, run=number))
    web = DurablyWeb(durably, authenticate=by_header)
    seen: list[object] = []

    async def page(request: Request) -> str:
        nothing = await web.use_job(request, handle)
        assert (nothing.current, nothing.current_run_id) == (None, None)
        first, second = await handle.trigger(1), await handle.trigger(2)
        pending = await web.use_job(request, handle)
        assert pending.current is not None
        assert (pending.current_run_id, pending.current.is_pending, pending.current.is_active) == (
            second.id,
            True,
            True,
        )
        await durably.process_until_idle()
        newest = await web.use_job(request, handle, initial_run_id=first.id)
        same = await web.use_job(request, handle, initial_run_id=first.id, follow_latest=False)
        assert newest.current is not None
        assert same.current is not None
        assert (newest.current.output, same.current.output) == (2, 1)
        assert (await web.use_job(request, handle, auto_resume=True)).current is None
        other = await web.use_job(request, handle, initial_run_id=await failed(durably))
        assert other.current is None

        view = await web.use_job_run(request, first.id)
        assert view is not None
        assert (view.id, view.status, view.is_completed, view.is_terminal, view.error) == (
            first.id,
            "completed",
            True,
            True,
            None,
        )
        assert view.progress is None
        assert [view.is_leased, view.is_failed, view.is_cancelled] == [False] * 3
        assert [line.message for line in view.logs] == ["counting"]
        assert [line.message for line in await web.use_job_logs(request, first.id)] == ["counting"]
        assert await web.use_job_run(request, None) is None
        assert list(await web.use_job_logs(request, "nobody")) == []
        assert (await web.use_job_run(request, first.id, max_logs=0)) is not None

        one = await web.use_runs(request, job_name="number", page_size=1)
        two = await web.use_runs(request, job_name="number", page_size=1, page=1)
        assert ([run.id for run in one.runs], one.has_more) == ([second.id], True)
        assert ([run.id for run in two.runs], two.has_more, two.page) == ([first.id], False, 1)
        assert (await web.use_runs(request, status="pending")).runs == ()

        actions = await web.actions(request)
        assert (await actions.get_run("nobody")) is None
        new = await actions.retrigger(first.id)
        assert (await actions.cancel(new.id)).status == "cancelled"
        assert (await actions.retry(new.id)).status == "pending"
        assert list(await actions.get_steps(first.id)) == []
        await actions.delete_run(first.id)
        assert await actions.get_run(first.id) is None
        seen.append(actions)
        return "done"

    async with asking(host(web, page)) as client:
        assert (await client.get("/order")).text == "done"
    assert seen


async def test_a_page_triggers_and_signals_as_its_visitor(durably: Durably) -> None:
    def of_ada(user: str, asked: TriggerRequest) -> bool:
        return asked.labels == {"by": "ada"} and asked.input != "secret"

    auth = AuthConfig(
        authenticate=by_header,
        trigger_labels=lambda user: {"by": user},
        on_trigger=of_ada,
        on_run_access=lambda user, run, operation: operation != "signal" or user == "ada",
    )
    web = DurablyWeb(durably, auth=auth)
    job = durably.jobs["approve-order"]
    found: list[tuple[str, Mapping[str, str]]] = []

    async def page(request: Request) -> str:
        actions = await web.actions(request)
        run = await actions.trigger(job, "A", idempotency_key="once")
        found.append((run.id, run.labels))
        await actions.signal(run.id, "approved", payload=True)
        return "done"

    async with asking(host(web, page)) as client:
        for _ in range(2):
            assert (await client.get("/order")).text == "done"
        assert (await client.get("/order", headers={"user": "bob"})).status_code == 403
    assert found == [found[0]] * 2
    assert found[0][1] == {"by": "ada"}
    assert [run.id for run in await durably.get_runs()] == [found[0][0]]


async def test_a_failed_run_has_its_reason(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header)
    run_id = await failed(durably)

    async def page(request: Request) -> str:
        view = await web.use_job_run(request, run_id)
        assert view is not None
        return str(view.error)

    async with asking(host(web, page)) as client:
        assert (await client.get("/order")).text == "row 37: amount is negative"


async def test_fastapi_depends_on_who_asks(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header)
    app = FastAPI()
    app.mount("/durably", web)

    @app.post("/runs/{run_id}/stop")
    async def stop(run_id: str, context: Annotated[WebContext[str], Depends(web.context)]) -> dict[str, str]:
        run = await context.actions.cancel(run_id)
        return {"by": context.ctx, "status": run.status, "jobs": str(len(context.durably.jobs))}

    run = await durably.jobs["approve-order"].trigger("A")
    async with asking(app) as client:
        assert (await client.post(f"/runs/{run.id}/stop")).json() == {
            "by": "ada",
            "status": "cancelled",
            "jobs": "4",
        }
        del client.headers["user"]
        assert (await client.post(f"/runs/{run.id}/stop")).status_code == 401
