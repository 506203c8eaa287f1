"""Names, labels, errors and figures beyond any measure stay in their places."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.async_api import Page, Route, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from durably import Durably, StepContext
from durably_web import DurablyWeb, allow_local
from tests.web.browser import browsing
from tests.web.pages.accessibility import violations
from tests.web.pages.test_browser import NARROW, WIDE, looking
from tests.web.serving import serving

pytestmark = pytest.mark.timeout(180)

LONG = "x" * 200
PATHS = ("/", "/runs", "/jobs", f"/jobs/{LONG}", "/runs/{id}", "/workers")
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shifts += one.value; })
  .observe({ type: "layout-shift", buffered: true });
"""
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))"


@dataclass(frozen=True)
class Extreme:
    """A page of a dashboard, and a run in it that is too much of everything."""

    page: Page
    address: str
    id: str

    async def show(
        self, path: str, width: int = WIDE, *, wait_until: Literal["commit", "load"] = "load"
    ) -> None:
        """Go there."""
        await self.page.set_viewport_size({"width": width, "height": 900})
        await self.page.goto(self.address + path.format(id=self.id), wait_until=wait_until)


@pytest.fixture
async def extreme(durably: Durably) -> AsyncIterator[Extreme]:
    @durably.job(name=LONG)
    async def overdo(step: StepContext, text: str) -> None:
        step.progress(150, 100, text * 10)
        step.log.info(text * 20)
        await step.run(LONG, lambda: None)
        raise ValueError("\n".join(text for _ in range(3000)))

    labels = {f"label-{number}": LONG for number in range(20)}
    run = await durably.jobs[LONG].trigger(LONG, labels=labels, concurrency_key=LONG, idempotency_key=LONG)
    await durably.process_until_idle()
    app = Starlette(routes=[Mount("/durably", DurablyWeb(durably, authenticate=allow_local))])
    async with serving(app) as url, browsing() as browser, looking(browser) as window:
        await window.page.add_init_script(SHIFTS)
        yield Extreme(window.page, f"{url}/durably", run.id)


async def test_nothing_is_wider_than_the_page(extreme: Extreme) -> None:
    page = extreme.page
    for path in PATHS:
        for width in (WIDE, NARROW):
            await extreme.show(path, width)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
        assert await violations(page) == "", path


async def test_the_list_still_tells_when_a_run_was_created(extreme: Extreme) -> None:
    await extreme.show("/runs")
    right = await extreme.page.evaluate("document.querySelector('tbody time').getBoundingClientRect().right")
    assert 0 < right < WIDE
    more = extreme.page.get_by_role("link", name="+18 labels")
    assert "label-19" in (await more.get_attribute("title") or "")


async def test_an_error_leaves_room_for_the_rest_and_shows_its_end(extreme: Extreme) -> None:
    await extreme.show("/runs/{id}")
    page = extreme.page
    box = await page.locator("[data-dw-component=run_error] [role=alert]").bounding_box()
    assert box is not None
    assert box["height"] < 800
    tail = page.get_by_role("group", name="Traceback")
    assert await tail.evaluate(
        "element => element.scrollHeight > element.clientHeight && element.scrollTop === 0"
    )
    percent = await page.get_by_text("100 %").bounding_box()
    assert percent is not None
    assert percent["width"] > 30


async def test_a_telephone_shows_when_steps_were_executed(extreme: Extreme) -> None:
    await extreme.show("/runs/{id}", NARROW)
    box = await extreme.page.locator(".dw-bar").bounding_box()
    assert box is not None
    assert 0 < box["x"] < box["x"] + box["width"] < NARROW


async def test_nothing_moves_when_the_script_comes(extreme: Extreme) -> None:
    page = extreme.page
    has_been_seen = asyncio.Event()

    async def late(route: Route) -> None:
        await has_been_seen.wait()
        await route.continue_()

    await page.route("**/durably-web.js", late)
    for path in ("/runs/{id}", "/runs", "/jobs"):
        for width in (WIDE, NARROW):
            has_been_seen.clear()
            await extreme.show(path, width, wait_until="commit")
            await expect(page.locator("dialog")).to_be_attached()
            await page.evaluate(PAINTED)
            has_been_seen.set()
            await expect(page.locator("html.dw-js")).to_have_count(1)
            await page.evaluate(PAINTED)
            assert await page.evaluate("window.shifts") < 0.001, (path, width)


async def test_progress_is_seen_in_forced_colours(extreme: Extreme) -> None:
    await extreme.page.emulate_media(forced_colors="active")
    await extreme.show("/runs/{id}")
    await expect(extreme.page.locator("progress").first).to_have_css("forced-color-adjust", "none")


async def test_what_is_awaited_is_seen_without_motion(extreme: Extreme) -> None:
    await extreme.page.emulate_media(reduced_motion="reduce")
    await extreme.show("/jobs")
    await extreme.page.evaluate(
        "document.querySelector('main').append(Object.assign(document.createElement('i'), {className: 'dw-skeleton'}))"
    )
    await expect(extreme.page.locator(".dw-skeleton")).to_have_css("opacity", "1")
    await expect(extreme.page.locator(".dw-skeleton")).to_have_css("animation-name", "none")
