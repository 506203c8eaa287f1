"""The dashboard in each framework, at each kind of place, behind each kind of proxy."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any, cast

import httpx2
import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from durably import ConfigurationError, Durably
from durably_web import DurablyWeb
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.django_app import asgi_application
from tests.web.pages.jobs import Import

Build = Callable[[Durably], ASGIApp]


def web(durably: Durably, prefix: str | None = None) -> DurablyWeb[str]:
    return DurablyWeb(durably, authenticate=by_header, prefix=prefix)


def stripping(app: ASGIApp, prefix: str, *, root_path: str | None = None) -> ASGIApp:
    """A proxy that takes a part of the path away; the server may have been told (`--root-path`)."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(prefix)
        told = {} if root_path is None else {"root_path": root_path, "path": root_path + path}
        await app({**scope, "path": path, "raw_path": path.encode(), **told}, receive, send)

    return proxy


def fastapi(durably: Durably, **options: Any) -> ASGIApp:
    app = FastAPI(**options)
    app.mount("/durably", web(durably))
    return app


def nested(durably: Durably) -> ASGIApp:
    return Starlette(routes=[Mount("/tools", Starlette(routes=[Mount("/durably", web(durably))]))])


def litestar(durably: Durably, path: str = "/durably") -> ASGIApp:
    board = web(durably, prefix=path)

    @asgi(path, is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await board(scope, receive, send)

    return cast("ASGIApp", Litestar([mounted]))


def in_django(durably: Durably) -> ASGIApp:
    return web(durably).wrap(asgi_application(), "/durably")


@dataclass(frozen=True)
class Place:
    build: Build
    base: str


PLACES = {
    "alone": Place(web, ""),
    "starlette-root": Place(lambda durably: Starlette(routes=[Mount("/", web(durably))]), ""),
    "starlette": Place(lambda durably: Starlette(routes=[Mount("/durably", web(durably))]), "/durably"),
    "starlette-nested": Place(nested, "/tools/durably"),
    "fastapi": Place(fastapi, "/durably"),
    "fastapi-root-path-behind-a-stripping-proxy": Place(
        lambda durably: stripping(fastapi(durably, root_path="/proxy"), "/proxy"), "/proxy/durably"
    ),
    "uvicorn-root-path-behind-a-stripping-proxy": Place(
        lambda durably: stripping(
            Starlette(routes=[Mount("/durably", web(durably))]), "/proxy", root_path="/proxy"
        ),
        "/proxy/durably",
    ),
    "a-stripping-proxy-that-nobody-told-of": Place(
        lambda durably: stripping(
            Starlette(routes=[Mount("/durably", web(durably, "/proxy/durably"))]), "/proxy"
        ),
        "/proxy/durably",
    ),
    "a-keeping-proxy": Place(
        lambda durably: Starlette(routes=[Mount("/proxy/durably", web(durably))]), "/proxy/durably"
    ),
    "litestar": Place(litestar, "/durably"),
    "litestar-nested": Place(lambda durably: litestar(durably, "/tools/durably"), "/tools/durably"),
    "django": Place(in_django, "/durably"),
    "django-behind-a-stripping-proxy": Place(
        lambda durably: stripping(in_django(durably), "/proxy", root_path="/proxy"), "/proxy/durably"
    ),
}


def links(page: str) -> Iterator[str]:
    for link in re.findall(r'\s(?:href|src|action|hx-get|hx-post|data-dw-live)="([^"]*)"', page):
        yield unescape(link)


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("name", PLACES)
async def test_every_link_of_a_mounted_dashboard_leads_to_it(durably: Durably, name: str) -> None:
    place = PLACES[name]
    run = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"))
    await durably.process_until_idle()
    async with asking(place.build(durably)) as client:
        for path in ("/", "/runs", f"/runs/{run.id}", "/jobs", "/jobs/import-csv", "/workers"):
            answer = await client.get(place.base + path, follow_redirects=True)
            assert answer.status_code == 200, (name, path)
            found = set(links(answer.text))
            assert found
            for link in found - {"#dw-main"}:
                assert link.startswith(f"{place.base}/"), link
        page = (await client.get(f"{place.base}/runs/{run.id}")).text
        parts = [link for link in links(page) if "/-/" in link and "live" not in link and "theme" not in link]
        assets = [link for link in links(page) if "/static/" in link]
        assert len(parts) > 5
        assert len(assets) == 3
        for link in (*parts, *assets):
            assert (await client.get(link)).status_code == 200, link
        done = await client.post(f"{place.base}/runs/{run.id}/retry")
        assert done.headers["location"] == f"{place.base}/runs/{run.id}?notice=retried"
        for missing in ("/nowhere", "/runs/nobody", "/-/nothing", "/static/x/nothing"):
            assert (await client.get(place.base + missing)).status_code == 404, missing


@pytest.mark.parametrize("name", ["starlette", "fastapi", "litestar", "django"])
@pytest.mark.parametrize(
    "path", ["//runs", "/./runs", "/%2e%2e/runs", "/runs/", "/runs//", "/static/../runs", "/-/../runs"]
)
async def test_no_spelling_of_a_path_goes_past_the_authentication(
    durably: Durably, name: str, path: str
) -> None:
    await durably.jobs["approve-order"].trigger("A", labels={"secret": "hush"})
    place = PLACES[name]
    async with asking(place.build(durably)) as client:
        del client.headers["user"]
        answer = await client.get(httpx2.URL("http://app.example", raw_path=(place.base + path).encode()))
        assert answer.status_code in {401, 404, 307}
        assert "hush" not in answer.text


async def test_what_is_not_below_the_mount_is_the_applications(durably: Durably) -> None:
    async with asking(in_django(durably)) as client:
        assert (await client.get("/hello")).text == "hello from django"
        assert (await client.get("/durably-else")).status_code == 404
        assert "Durably" in (await client.get("/durably")).text


async def test_two_dashboards_in_one_application_are_strangers(durably: Durably) -> None:
    app = Starlette(routes=[Mount("/a", web(durably)), Mount("/b", web(durably))])
    async with asking(app) as client:
        for base in ("/a", "/b"):
            page = (await client.get(f"{base}/runs")).text
            assert {link.split("/")[1] for link in links(page) if link.startswith("/")} == {base[1:]}


@pytest.mark.parametrize("path", ["", "/", "durably", "/durably/"])
def test_wrapping_needs_a_path_of_its_own(durably: Durably, path: str) -> None:
    with pytest.raises(ConfigurationError, match="'/durably'"):
        web(durably).wrap(web(durably), path)


async def test_a_server_may_serve_it_alone(durably: Durably) -> None:
    said: list[str] = []
    events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(events)}

    async def send(message: Any) -> None:
        said.append(message["type"])

    await web(durably)({"type": "lifespan"}, receive, send)
    await web(durably)({"type": "websocket", "path": "/"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


async def test_a_prefix_that_contradicts_the_mount_is_told_once(
    durably: Durably, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(Starlette(routes=[Mount("/durably", web(durably, prefix="/dashboard"))])) as client:
        for _ in range(2):
            assert 'href="/dashboard/runs"' in (await client.get("/durably/runs")).text
    [told] = [record.getMessage() for record in caplog.records if record.name == "durably.web"]
    assert "is mounted at '/durably', and its links lead to prefix='/dashboard'" in told
