"""No line of a log is lost or told twice, in pages with our htmx, with htmx 4 of their own, and with htmx 2."""

import asyncio
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from durably import Durably, StepContext
from durably_web import DurablyWeb, allow_local
from tests.volume import limit, volume
from tests.web.pages.test_browser import looking
from tests.web.serving import serving

pytestmark = limit(300)

HTMX = {
    "bundle": None,
    "htmx-4": Path(str(files("durably_web"))) / "static" / "vendor" / "htmx-4.0.1.min.js",
    "htmx-2": Path(__file__).parents[1] / "vendor" / "htmx-2.0.11.min.js",
}
LINES = 12


@pytest.fixture
def chatter(durably: Durably) -> str:
    """A job that logs now and then, quickly; its name."""

    @durably.job(name="chatter")
    async def talk(step: StepContext, seed: int) -> None:
        for number in range(LINES):

            async def say(number: int = number) -> None:
                step.log.info(f"line {number}")
                await asyncio.sleep((seed * 7 + number * 13) % 9 / 250)

            await step.run(f"step-{number}", say)

    return talk.name


def host(web: DurablyWeb[str], htmx: str) -> Starlette:
    """An application with a page of its own, which has components of a run on it."""
    path = HTMX[htmx]

    async def page(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        ours = web.ui.assets(request, htmx="bundle" if path is None else "host")
        theirs = "" if path is None else '<script src="/htmx.js"></script>'
        parts = [
            await web.ui.run_status(request, run_id),
            await web.ui.log_tail(request, run_id, id="log"),
            await web.ui.steps_waterfall(request, run_id),
            web.ui.lazy.run_progress(run_id),
        ]
        # An attribute of theirs that htmx 2 has its descendants inherit.
        return HTMLResponse(
            f"<!doctype html><title>theirs</title>{theirs}{ours}"
            f'<body hx-target="#theirs" hx-swap="outerHTML"><p id="theirs">untouched</p>{"".join(parts)}'
        )

    async def script(request: Request) -> Response:
        assert path is not None
        return Response(path.read_bytes(), media_type="text/javascript")

    return Starlette(
        routes=[Route("/runs/{run_id}", page), Route("/htmx.js", script), Mount("/durably", web)]
    )


@pytest.mark.parametrize("htmx", HTMX)
async def test_every_line_is_shown_once_and_in_order(
    browser: Browser, durably: Durably, chatter: str, htmx: str
) -> None:
    web = DurablyWeb(durably, authenticate=allow_local, prefix="/durably")
    await durably.start()
    async with serving(host(web, htmx)) as url, looking(browser) as window:
        page = window.page
        # By night a thousand runs, with the three of them.
        for seed in range(volume(quick=8, ci=40, nightly=334)):
            run = await durably.jobs[chatter].trigger(seed)
            await page.goto(f"{url}/runs/{run.id}", wait_until="commit")
            await expect(page.locator("[data-dw-status=completed]")).to_be_visible()
            await expect(page.locator(".dw-log-text")).to_have_text([f"line {n}" for n in range(LINES)])
            await expect(page.locator(".dw-waterfall [data-status=completed].dw-badge")).to_have_count(LINES)
            await expect(page.locator("#theirs")).to_have_text("untouched")


async def test_a_burst_of_lines_longer_than_the_page_shows_its_end_and_leads_to_the_rest(
    browser: Browser, durably: Durably
) -> None:
    go = asyncio.Event()

    @durably.job
    async def burst(step: StepContext, lines: int) -> None:
        step.log.info("before")
        await step.run("wait", go.wait)
        for number in range(lines):
            step.log.info(f"line {number}")

    web = DurablyWeb(durably, authenticate=allow_local)
    await durably.start()
    run = await burst.trigger(1200)
    async with serving(web) as url, looking(browser) as window:
        page = window.page
        await page.goto(f"{url}/runs/{run.id}")
        texts = page.locator(".dw-log-text")
        await expect(texts).to_have_text(["before"])
        go.set()
        await expect(texts.last).to_have_text("line 1199")
        # Every line that is left out is above, behind a button; nothing comes twice.
        while await page.get_by_role("button", name="Show earlier lines").count():
            before = await texts.count()
            await page.get_by_role("button", name="Show earlier lines").last.click()
            await expect(texts).not_to_have_count(before)
        shown = await texts.all_text_contents()
        assert sorted(shown) == sorted({"before", *(f"line {n}" for n in range(1200))})
