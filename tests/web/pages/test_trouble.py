"""A database that cannot be reached, and scripts that are told of it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from starlette.requests import Request

from durably import Durably, RealEnvironment
from durably.spi import SqliteStore
from durably_web import AuthConfig, DurablyWeb, allow_local, create_durably_handler
from durably_web.unavailable import NOT_OPEN, UNREACHABLE
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.jobs import JOBS
from tests.web.pages.test_browser import looking
from tests.web.pages.test_embedding import host
from tests.web.pages.test_lines import HTMX
from tests.web.pages.test_lines import host as live_host
from tests.web.serving import serving


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
async def durably(file: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Durably]:
    """An instance that waits for nobody."""
    monkeypatch.setattr("durably.runs.PATIENCE", 0)
    store = SqliteStore(file, environment=RealEnvironment(), busy_timeout=0.05)
    instance = Durably(store, polling_interval=60, jobs=JOBS)
    await instance.migrate()
    yield instance
    await instance.stop(drain=0)
    await instance.close()


PAGES = ["/", "/runs?q=org=acme", "/jobs", "/jobs/approve-order", "/workers", "/runs/some-run-id"]


async def test_a_stopped_database_is_told_with_a_way_to_try_again_and_recovers(
    web: DurablyWeb[str], durably: Durably, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(web) as client:
        await durably.close()
        for path in PAGES:
            answer = await client.get(path)
            assert (answer.status_code, NOT_OPEN in answer.text) == (503, True), path
            assert f'href="{path.replace("=acme", "%3Dacme")}">Try again<' in answer.text
            assert answer.headers["retry-after"] == "5"
        live = await client.get("/-/live?topics=run:some-run-id")
        part = await client.get("/-/runs_table")
        assert (live.status_code, part.status_code) == (503, 503)
        assert "<html" not in part.text
        # It goes on listening, and takes the place of nothing that is shown.
        assert "data-dw-ended" not in part.text
        assert "data-dw-nothing" in part.text
        # Who forgot to open it reads what to do.
        told = [record.getMessage() for record in caplog.records if record.name == "durably.web"]
        assert len(told) == len(PAGES) + 2
        assert all("`async with durably:` opens it" in line for line in told)
        await durably.migrate()
        assert [(await client.get(path)).status_code for path in PAGES] == [200] * 5 + [404]
        assert (await client.get("/-/runs_table")).status_code == 200


async def test_a_locked_database_is_told_and_nothing_is_done(
    web: DurablyWeb[str], durably: Durably, file: Path
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with asking(web) as client:
        form = {"confirmed": "yes"}
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await client.post(f"/runs/{run.id}/cancel", data=form)
            assert (answer.status_code, UNREACHABLE in answer.text) == (503, True)
            # What was sent is not sent again by following a link.
            assert "Try again<" not in answer.text
            assert (await client.get(f"/runs/{run.id}")).status_code == 200
            other.execute("ROLLBACK")
        answer = await client.post(f"/runs/{run.id}/cancel", data=form)
    assert answer.headers["location"].endswith("notice=cancelled")


async def test_an_unreadable_database_is_told_and_recovers(
    web: DurablyWeb[str], durably: Durably, file: Path
) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = file.read_bytes()
    file.write_bytes(b"no database" * (len(good) // 11))
    async with asking(web) as client:
        for path in ("/runs", "/-/runs_table"):
            answer = await client.get(path)
            assert (answer.status_code, UNREACHABLE in answer.text) == (503, True)
            assert str(file) not in answer.text
        await durably.close()
        file.write_bytes(good)
        await durably.migrate()
        assert (await client.get("/runs")).status_code == 200


async def test_a_page_of_a_host_stands_without_the_database(web: DurablyWeb[str], durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A")

    async def page(request: Request) -> str:
        return f"<h1>Your order</h1>{await web.ui.run_status(request, run.id)}"

    async with asking(host(web, page)) as client:
        await durably.close()
        told = await client.get("/order")
        await durably.migrate()
        shown = await client.get("/order")
    assert (told.status_code, NOT_OPEN in told.text, "Your order" in told.text) == (200, True, True)
    assert "Pending" in shown.text
    # The element is the same, and fetches itself.
    assert told.text.partition(">")[0] == shown.text.partition(">")[0]
    assert f'hx-get="/durably/-/run_status?run_id={run.id}' in told.text


async def test_the_interface_tells_of_a_locked_database_too(durably: Durably, file: Path) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    handler = create_durably_handler(durably, auth=AuthConfig(authenticate=by_header))
    async with asking(handler) as client:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await client.post("/cancel", params={"runId": run.id})
            assert (answer.status_code, answer.json()) == (503, {"error": UNREACHABLE})
            assert answer.headers["retry-after"] == "5"
            other.execute("ROLLBACK")
        answer = await client.post("/cancel", params={"runId": run.id})
        assert (answer.status_code, answer.json()) == (200, {"success": True})


async def test_the_interface_says_so_too(durably: Durably) -> None:
    handler = create_durably_handler(durably, auth=AuthConfig(authenticate=by_header))
    async with asking(handler) as client:
        await durably.close()
        for path in ("/runs", "/run?runId=x", "/subscribe?runId=x"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (503, {"error": NOT_OPEN})
            assert answer.headers["retry-after"] == "5"
        await durably.migrate()
        assert (await client.get("/runs")).status_code == 200


@pytest.mark.parametrize("htmx", HTMX)
async def test_an_open_page_keeps_what_it_shows_and_catches_up(
    browser: Browser, durably: Durably, htmx: str
) -> None:
    web = DurablyWeb(durably, authenticate=allow_local, prefix="/durably")
    run = await durably.jobs["approve-order"].trigger("A")
    async with serving(live_host(web, htmx)) as url, looking(browser, allowed="503|EventSource") as window:
        page = window.page
        await page.clock.install()
        await page.goto(f"{url}/runs/{run.id}")
        status = page.locator("[data-dw-component=run_status]")
        await expect(status).to_contain_text("Pending")
        await expect(page.locator("[data-dw-component] .dw-skeleton")).to_have_count(0)
        await durably.close()
        await page.evaluate("durablyWeb.resync()")
        await expect(page.locator("[data-dw-trouble]")).to_have_count(4)
        await expect(status).to_contain_text("Pending")
        await expect(page.locator("body")).not_to_contain_text(NOT_OPEN)

        # Where nothing is yet it is said.
        await page.reload()
        await expect(page.get_by_text(NOT_OPEN)).to_have_count(4)
        await page.evaluate("durablyWeb.resync()")
        await page.clock.fast_forward(11_000)
        await expect(page.get_by_text(NOT_OPEN)).to_have_count(4)
        await durably.migrate()
        await durably.cancel(run.id)
        await page.clock.fast_forward(11_000)
        await page.evaluate("durablyWeb.resync()")
        await expect(status).to_contain_text("Cancelled")
        await expect(page.locator("body")).not_to_contain_text(NOT_OPEN)
        await expect(page.locator("[data-dw-trouble]")).to_have_count(0)


async def test_a_part_that_met_trouble_is_tried_again_by_itself(browser: Browser, durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=allow_local)
    run = await durably.jobs["approve-order"].trigger("A")
    async with serving(web) as url, looking(browser, allowed="503|EventSource|ERR_FAILED") as window:
        page = window.page
        await page.clock.install()
        # Whatever tells of news is away: what was fetched in vain is fetched again all the same.
        await page.route("**/-/live**", lambda route: route.abort())
        await page.goto(f"{url}/runs/{run.id}")
        status = page.locator("[data-dw-component=run_status]")
        await durably.close()
        await page.evaluate("durablyWeb.resync()")
        await expect(page.locator("[data-dw-component=run_status][data-dw-trouble]")).to_have_text("Pending")
        await durably.migrate()
        await durably.cancel(run.id)
        await page.clock.fast_forward(11_000)
        await expect(status).to_have_text("Cancelled")


# What a script gets is put into a part of a page


@pytest.mark.parametrize(
    "path", ["/runs/{id}/cancel", "/jobs/approve-order/trigger", "/-/press", "/runs/bulk"]
)
async def test_a_script_is_never_answered_with_a_page(durably: Durably, path: str) -> None:
    web = DurablyWeb(durably, authenticate=by_header, login_url="/login")
    run = await durably.jobs["approve-order"].trigger("A")
    url = path.replace("{id}", run.id)
    script = {"hx-request": "true", "hx-current-url": "http://app.example/orders/7"}
    async with asking(web) as client:
        from_elsewhere = await client.post(url, headers={**script, "sec-fetch-site": "cross-site"})
        del client.headers["user"]
        expired = await client.post(url, headers=script)
        by_hand = await client.post(url)
    assert (expired.status_code, expired.headers["hx-redirect"]) == (401, "/login?next=%2Forders%2F7")
    assert (from_elsewhere.status_code, by_hand.status_code) == (403, 401)
    for answer, is_page in ((expired, False), (from_elsewhere, False), (by_hand, True)):
        assert ("<html" in answer.text) == is_page
