"""What a visitor holds stays: a pressed button, selected text, typed words, unfolded parts, the focus."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from durably import Durably
from durably_web import DurablyWeb, allow_local
from tests.web.browser import browsing
from tests.web.pages.test_browser import looking
from tests.web.patience import PATIENCE
from tests.web.serving import serving

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Desk:
    """A page of the dashboard, and the instance behind it."""

    page: Page
    durably: Durably
    address: str

    async def show(self, path: str) -> None:
        """Go there, and be told from then on."""
        await self.page.goto(self.address + path)
        await expect(self.page.locator(".dw-conn")).to_have_text("Live")

    async def news(self, host: str) -> None:
        """Have a part of the page fetch itself, and wait until it has seen the answer or refused to ask."""
        await self.page.locator(host).evaluate(
            """host => new Promise(done => {
                const end = () => { document.body.removeEventListener("htmx:after:swap", end); done(); };
                document.body.addEventListener("htmx:after:swap", end);
                setTimeout(() => { if ("dwStale" in host.dataset) end(); }, 0);
                host.dispatchEvent(new CustomEvent("dw-refresh", { bubbles: true }));
            })"""
        )


@pytest.fixture
async def desk(durably: Durably) -> AsyncIterator[Desk]:
    app = Starlette(routes=[Mount("/durably", DurablyWeb(durably, authenticate=allow_local))])
    async with serving(app) as url, browsing() as browser, looking(browser) as window:
        yield Desk(window.page, durably, f"{url}/durably")


async def marked(page: Page, selector: str) -> bool:
    """Whether the element is still the one that `mark` was called with."""
    return bool(await page.locator(selector).first.evaluate("element => element.dwMark === true"))


async def mark(page: Page, selector: str) -> None:
    """Know this very element again."""
    await page.locator(selector).first.evaluate("element => { element.dwMark = true; }")


TOP = "document.querySelector('tbody tr:last-child').getBoundingClientRect().top"
LINK = "[data-dw-component=runs_table] tbody a"
TABLE = "[data-dw-component=runs_table]"


async def test_a_link_that_is_pressed_is_not_replaced_before_it_is_let_go(desk: Desk) -> None:
    run = await desk.durably.jobs["approve-order"].trigger("A")
    await desk.show("/runs")
    page = desk.page
    await page.locator(LINK).first.hover()
    await page.mouse.down()
    await mark(page, LINK)
    await desk.news(TABLE)
    assert await marked(page, LINK)
    await page.mouse.up()
    await page.wait_for_url(f"**/runs/{run.id}")


async def test_selected_text_stays_selected_until_it_is_let_go(desk: Desk) -> None:
    run = await desk.durably.jobs["approve-order"].trigger("A")
    await desk.show(f"/runs/{run.id}")
    page, facts = desk.page, "[data-dw-component=run_facts]"
    await page.locator(f"{facts} dd").first.evaluate("element => getSelection().selectAllChildren(element)")
    before = await page.evaluate("getSelection().toString()")
    await mark(page, f"{facts} dl")
    await desk.news(facts)
    assert await page.evaluate("getSelection().toString()") == before
    await page.evaluate("getSelection().removeAllRanges()")
    # What had come meanwhile is fetched now.
    await expect(page.locator(f"{facts}[data-dw-stale]")).to_have_count(0)
    async with asyncio.timeout(PATIENCE):
        while await marked(page, f"{facts} dl"):
            await asyncio.sleep(0.01)


async def test_what_was_unfolded_scrolled_and_focused_is_so_after_it_was_fetched_again(desk: Desk) -> None:
    value = {"outer": {"inner": {"deep": list(range(60))}}}
    run = await desk.durably.jobs["anything"].trigger(value)
    await desk.durably.process_until_idle()
    await desk.page.goto(f"{desk.address}/runs/{run.id}")
    page, output = desk.page, "[data-dw-component=run_io][data-dw-which=output]"
    folds = page.locator(f"{output} details")
    await folds.nth(2).locator("summary").first.click()
    await folds.nth(3).locator("summary").first.click()
    await folds.nth(1).locator("summary").first.focus()
    await page.locator(f"{output} .dw-json").evaluate("element => { element.scrollTop = 7; }")
    opened = await folds.evaluate_all("all => all.map(one => one.open)")
    await mark(page, f"{output} .dw-json")
    await desk.news(output)
    assert not await marked(page, f"{output} .dw-json")
    assert await folds.evaluate_all("all => all.map(one => one.open)") == opened == [True] * 4
    assert await page.locator(f"{output} .dw-json").evaluate("element => element.scrollTop") == 7
    await expect(folds.nth(1).locator("summary").first).to_be_focused()


async def test_a_question_is_answered_for_the_run_as_it_is_by_then(desk: Desk) -> None:
    run = await desk.durably.jobs["approve-order"].trigger("A")
    await desk.show(f"/runs/{run.id}")
    page = desk.page
    await page.get_by_role("button", name="Cancel").click()
    await desk.durably.process_until_idle()
    await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Waiting")
    await page.get_by_role("button", name="Cancel run").click()
    await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Cancelled")


async def test_half_of_an_answer_is_kept_when_the_focus_leaves_it(desk: Desk) -> None:
    run = await desk.durably.jobs["approve-order"].trigger("A")
    await desk.durably.process_until_idle()
    await desk.show(f"/runs/{run.id}")
    page = desk.page
    field = page.get_by_label("What to answer")
    await field.fill("fal")
    await page.locator("h1").click()
    await desk.news("[data-dw-component=run_explanation]")
    await expect(field).to_have_value("fal")


async def test_nothing_moves_when_runs_are_selected_and_news_comes(desk: Desk) -> None:
    order = desk.durably.jobs["approve-order"]
    for name in "ABC":
        await order.trigger(name)
    await desk.show("/runs")
    page = desk.page
    before = await page.evaluate(TOP)
    await expect(page.get_by_role("group", name="Selected runs")).to_be_hidden()
    await page.get_by_label("Select run").last.check()
    await expect(page.get_by_role("group", name="Selected runs")).to_contain_text("1 selected")
    await order.trigger("D")
    await expect(page.get_by_role("button", name="There is news")).to_be_visible()
    assert await page.evaluate(TOP) == before
    await page.get_by_role("button", name="Clear", exact=True).press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(4)
    await expect(page.get_by_role("group", name="Selected runs")).to_be_hidden()
