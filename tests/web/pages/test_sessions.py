"""A session that ends while one looks, in pages with our htmx, with htmx 4 of their own, and with htmx 2."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from durably import Durably
from durably_web import DurablyWeb
from tests.web.pages.test_browser import looking
from tests.web.pages.test_lines import HTMX, host
from tests.web.serving import serving

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("htmx", HTMX)
async def test_a_session_that_ends_leads_to_the_login_once_and_not_into_a_part_of_the_page(
    browser: Browser, durably: Durably, htmx: str
) -> None:
    is_open = True
    refused = 0
    asked: list[str] = []
    login_is_asked, login_opens = asyncio.Event(), asyncio.Event()

    async def who(request: Request) -> str | None:
        nonlocal refused
        if is_open:
            return "ada"
        refused += 1
        if refused > 1:
            await login_is_asked.wait()
        if refused == parts:
            login_opens.set()
        return None

    async def log_in(request: Request) -> Response:
        asked.append(request.url.query)
        login_is_asked.set()
        await login_opens.wait()
        # Nothing depends on it: a way that was begun anew has the time to show.
        await asyncio.sleep(0.2)
        return PlainTextResponse("who are you?")

    web = DurablyWeb(durably, authenticate=who, login_url="/login", prefix="/durably")
    run = await durably.jobs["approve-order"].trigger("A-17")
    app = Starlette(routes=[Route("/login", log_in), Mount("/", host(web, htmx))])
    async with serving(app) as url, looking(browser, allowed="401") as window:
        page = window.page
        await page.goto(f"{url}/runs/{run.id}")
        await expect(page.locator("[data-dw-component=run_progress] *").first).to_be_attached()
        parts = await page.locator("[data-dw-bells]").count()
        is_open = False
        # One part is refused, and while the login is slow to come, all the others.
        await page.evaluate("durablyWeb.resync()")
        await expect(page).to_have_url(re.compile(rf"/login\?next=%2Fruns%2F{run.id}$"))
        await expect(page.locator("body")).to_have_text("who are you?")
    assert parts == 4
    assert asked == [f"next=%2Fruns%2F{run.id}"]
