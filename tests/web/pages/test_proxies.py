"""What the documentation prints for nginx, Caddy and Hypercorn, run by them."""

import asyncio
import runpy
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from durably import Durably
from durably_web import DurablyWeb, allow_local, live
from durably_web.api import streams
from tests.docs.pages import DOCS, blocks
from tests.web.pages.test_mounts import links
from tests.web.patience import PATIENCE
from tests.web.proxies import asking, caddy, hypercorn, nginx, printed
from tests.web.serving import serving

pytestmark = pytest.mark.timeout(180)

PROXIES = ("nginx", "caddy")
KEEPING, STRIPPING = 0, 1
"""Which block of `mounting.md` it is."""
BASE = "/tools/durably"


@asynccontextmanager
async def proxy(name: str, folder: Path, upstream: str, at: int = KEEPING) -> AsyncGenerator[str]:
    """A proxy as `mounting.md` configures it; where people see what is behind it."""
    if name == "nginx":
        async with nginx(folder, printed("mounting", "nginx", at), upstream) as address:
            yield address
    else:
        async with caddy(folder, printed("mounting", "caddyfile", at), upstream) as address:
            yield address


@dataclass(frozen=True)
class Place:
    """Where an application of `mounting.md` is, and what its server was told."""

    module: str
    at: int
    server: dict[str, str] = field(default_factory=dict[str, str])


PLACES = {
    "kept": Place("in_starlette", KEEPING),
    "stripped-told-to-the-server": Place("in_fastapi", STRIPPING, {"root_path": "/tools"}),
    "stripped-told-to-the-dashboard": Place("behind_a_proxy", STRIPPING),
}


@pytest.fixture
def applications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The applications of `mounting.md`, in a folder."""
    for block in blocks(DOCS / "howto" / "mounting.md"):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("jobs", None)


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("place", PLACES)
async def test_pages_and_forms_pass_through_a_proxy_as_it_is_printed(
    applications: Path, name: str, place: str
) -> None:
    there = PLACES[place]
    app = runpy.run_path(str(applications / f"{there.module}.py"))["app"]
    async with (
        serving(app, lifespan="on", **there.server) as upstream,
        proxy(name, applications, upstream, there.at) as address,
        asking(address) as client,
    ):
        seen: set[str] = set()
        for path in ("/", "/runs", "/jobs", "/jobs/import-csv", "/workers"):
            page = await client.get(f"{BASE}{path}")
            assert (page.status_code, page.http_version) == (200, "HTTP/2")
            seen |= set(links(page.text)) - {"#dw-main"}
        assert [link for link in seen if not link.startswith(f"{BASE}/")] == []
        assets = [link for link in seen if "/static/" in link]
        assert [(await client.get(link)).status_code for link in assets] == [200, 200, 200]
        if place != "stripped-told-to-the-dashboard":
            assert (await client.get(BASE)).headers["location"] == f"{address}{BASE}/"

        form = f"{BASE}/jobs/import-csv/trigger"
        ours = {"sec-fetch-site": "same-origin"}
        for headers, status in (
            (ours, 303),
            ({"origin": address}, 303),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"origin": "https://app.example"}, 403),
            ({}, 403),
        ):
            answer = await client.post(form, data={"f.": "3"}, headers=headers)
            assert answer.status_code == status, headers
            if status == 303:
                assert (await client.get(answer.headers["location"])).status_code == 200
        for size, status in ((1_100_000, 422), (1_300_000, 413)):
            answer = await client.post(form, data={"_mode": "json", "_json": "x" * size}, headers=ours)
            # A page of ours, not of the proxy's.
            assert (answer.status_code, "dw-" in answer.text) == (status, True)


async def by_header(request: Request) -> str | None:
    return request.headers.get("x-user")


@pytest.fixture
def app(durably: Durably) -> Starlette:
    """Mounted where the proxies expect it."""
    return Starlette(routes=[Mount(BASE, DurablyWeb(durably, authenticate=by_header, api=True))])


@pytest.mark.parametrize("name", PROXIES)
async def test_nobody_is_at_this_machine_by_way_of_a_proxy(
    durably: Durably, tmp_path: Path, name: str
) -> None:
    app = Starlette(routes=[Mount(BASE, DurablyWeb(durably, authenticate=allow_local))])
    async with (
        serving(app) as upstream,
        proxy(name, tmp_path, upstream) as address,
        asking(address) as client,
    ):
        assert (await client.get(f"{upstream}{BASE}/runs")).status_code == 200
        assert (await client.get(f"{BASE}/runs")).status_code == 403


@pytest.mark.parametrize("name", PROXIES)
async def test_streams_come_through_at_once_and_as_they_are(
    app: Starlette, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What proxies hang up after, unless they are told otherwise.
    assert max(live.HEARTBEAT, streams.HEARTBEAT) < 60
    monkeypatch.setattr(live, "HEARTBEAT", 0.1)
    monkeypatch.setattr(streams, "HEARTBEAT", 0.1)
    async with (
        serving(app) as upstream,
        proxy(name, tmp_path, upstream) as address,
        asking(address) as client,
        asyncio.timeout(PATIENCE),
    ):
        for path, first, beat in (
            ("/-/live?topics=runs", ": hello", "event: beat"),
            ("/api/runs/subscribe", "id: ", ": heartbeat"),
        ):
            async with client.stream("GET", f"{BASE}{path}") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert "content-encoding" not in stream.headers
                lines = stream.aiter_lines()
                assert (await anext(lines)).startswith(first)
                async for line in lines:
                    if line == beat:
                        break


async def test_what_the_proxies_compress(app: Starlette, tmp_path: Path) -> None:
    async with (
        serving(app) as upstream,
        nginx(tmp_path, printed("mounting", "nginx"), upstream) as by_nginx,
        caddy(tmp_path, printed("serving", "caddyfile"), upstream) as by_caddy,
    ):
        for address in (by_nginx, by_caddy):
            async with asking(address) as client:
                page = await client.get(f"{BASE}/runs")
                # Too small is not worth it: the icon.
                assets = [link for link in links(page.text) if link.endswith((".css", ".js"))]
                assert len(assets) == 2
                for answer in (page, *[await client.get(link) for link in assets]):
                    assert answer.headers["content-encoding"] in {"gzip", "br", "zstd"}


# In a browser


@asynccontextmanager
async def looking(browser: Browser) -> AsyncGenerator[BrowserContext]:
    """Somebody's windows. Who signed the certificate is not asked."""
    context = await browser.new_context(ignore_https_errors=True, extra_http_headers={"x-user": "ada"})
    context.set_default_timeout(PATIENCE * 1000)
    try:
        yield context
    finally:
        await context.close()


async def test_many_tabs_are_live_over_the_http_2_of_nginx(
    browser: Browser, app: Starlette, durably: Durably, tmp_path: Path
) -> None:
    async with (
        serving(app) as upstream,
        nginx(tmp_path, printed("mounting", "nginx"), upstream) as address,
        looking(browser) as context,
    ):
        await all_are_live(context, f"{address}{BASE}", durably)


async def test_many_tabs_are_live_over_the_http_2_of_hypercorn(
    browser: Browser, durably: Durably, tmp_path: Path
) -> None:
    # The application of `serving.md` has this database, and another worker's job is as good as its own.
    async with hypercorn(tmp_path) as address, looking(browser) as context:
        await all_are_live(context, f"{address}/durably", durably)


async def all_are_live(context: BrowserContext, dashboard: str, durably: Durably) -> None:
    """More tabs than a browser has connections to a host over HTTP/1.1, and all of them hear."""
    tabs = [await context.new_page() for _ in range(7)]
    await asyncio.gather(*(tab.goto(f"{dashboard}/runs") for tab in tabs))
    for tab in tabs:
        await expect(tab.locator(".dw-conn")).to_have_text("Live")
        assert await tab.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    run = await durably.jobs["approve-order"].trigger("A-17")
    for tab in tabs:
        await expect(tab.locator(f"main a[href$='{run.id}']").first).to_be_visible()


async def test_a_page_outlasts_its_application_behind_a_proxy(
    browser: Browser, app: Starlette, durably: Durably, tmp_path: Path
) -> None:
    before = await durably.jobs["approve-order"].trigger("A-17")
    async with AsyncExitStack() as stack, looking(browser) as context:
        page = await context.new_page()
        await page.clock.install()
        async with serving(app) as upstream:
            address = await stack.enter_async_context(proxy("caddy", tmp_path, upstream))
            await page.goto(f"{address}{BASE}/runs")
            await expect(page.locator(".dw-conn")).to_have_text("Live")
        await expect(page.locator(".dw-conn")).to_have_text("Reconnecting")
        async with asking(address) as client:
            assert (await client.get(f"{BASE}/runs")).status_code == 502
        await page.clock.fast_forward(11_000)
        await expect(page.locator(f"main a[href$='{before.id}']").first).to_be_visible()

        missed = await durably.jobs["approve-order"].trigger("A-18")
        async with serving(app, port=int(upstream.rpartition(":")[2])):
            await page.clock.fast_forward(16_000)
            await expect(page.locator(".dw-conn")).to_have_text("Live")
            await expect(page.locator(f"main a[href$='{missed.id}']").first).to_be_visible()


async def test_a_proxy_that_gathers_a_stream_makes_a_page_slow_and_no_more(
    browser: Browser, app: Starlette, durably: Durably, tmp_path: Path
) -> None:
    # An answer of HTTP/1.0 has no chunks that nginx could hand on.
    location = printed("mounting", "nginx").replace("proxy_http_version 1.1", "proxy_http_version 1.0")
    async with (
        serving(app) as upstream,
        nginx(tmp_path, location, upstream, more="proxy_ignore_headers X-Accel-Buffering;") as address,
        looking(browser) as context,
    ):
        page = await context.new_page()
        await page.clock.install()
        await page.goto(f"{address}{BASE}/runs")
        run = await durably.jobs["approve-order"].trigger("A-17")
        await page.clock.fast_forward(11_000)
        await expect(page.locator(".dw-conn")).to_have_text("Reconnecting")
        await page.clock.fast_forward(11_000)
        await expect(page.locator(f"main a[href$='{run.id}']").first).to_be_visible()
        await expect(page.locator(".dw-conn")).to_have_text("Reconnecting")
