"""What a page of somebody else hears of its runs: events of the DOM."""

import asyncio

import pytest
from playwright.async_api import expect
from starlette.requests import Request

from durably import Durably, StepContext
from durably_web import DurablyWeb, allow_local
from tests.web.browser import browsing
from tests.web.pages.test_browser import looking
from tests.web.pages.test_embedding import host
from tests.web.serving import serving

EVENTS = """() => {
    window.heard = [];
    for (const one of ["start", "complete", "fail", "cancel"])
        document.addEventListener(`durably:${one}`, (event) => heard.push(`${one} ${event.detail.runId}`));
}"""


@pytest.mark.parametrize(("filename", "end"), [("good.csv", "complete"), ("bad.csv", "fail")])
async def test_a_page_hears_once_of_each_beginning_and_end(durably: Durably, filename: str, end: str) -> None:
    gate = asyncio.Event()

    @durably.job(name="held")
    async def held(step: StepContext, filename: str) -> None:
        await gate.wait()
        if filename == "bad.csv":
            raise ValueError(filename)

    web = DurablyWeb(durably, authenticate=allow_local, prefix="/durably")
    run = await held.trigger(filename)

    async def page(request: Request) -> str:
        panel = web.ui.lazy.run_panel(run.id, attrs={"data-dw-on-complete": "/order?is=done"})
        return f"<!doctype html><title>theirs</title>{web.ui.assets(request)}<body>{panel}"

    async with browsing() as browser, serving(host(web, page)) as url, looking(browser) as window:
        await window.page.goto(f"{url}/order")
        badge = window.page.locator("[data-dw-component=run_status]")
        await expect(badge).to_have_text("Pending")
        await window.page.evaluate(EVENTS)
        await durably.start()
        await expect(badge).to_have_text("Running")
        assert await window.page.evaluate("heard") == [f"start {run.id}"]
        if end == "fail":
            gate.set()
            await expect(badge).to_have_text("Failed")
            assert await window.page.evaluate("heard") == [f"start {run.id}", f"fail {run.id}"]
            return
        async with window.page.expect_event("framenavigated"):
            gate.set()
        assert window.page.url == f"{url}/order?is=done"
