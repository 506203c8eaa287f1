"""The pages in a real browser: how they look to a machine, and what they do while one looks."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from durably import Durably, Run, StepContext
from durably_web import DurablyWeb, allow_local, live
from tests.web.pages.accessibility import violations
from tests.web.pages.jobs import Import
from tests.web.pages.test_safety import HOSTILE, hostile_run
from tests.web.patience import PATIENCE
from tests.web.serving import serving

pytestmark = pytest.mark.timeout(180)

NARROW, WIDE = 390, 1360
REPORTS = """
window.reports = [];
document.addEventListener("securitypolicyviolation", (event) => window.reports.push(event.violatedDirective + " " + event.blockedURI));
"""


@pytest.fixture
def web(durably: Durably) -> DurablyWeb[str]:
    return DurablyWeb(durably, authenticate=allow_local)


@pytest.fixture
async def address(web: DurablyWeb[str]) -> AsyncIterator[str]:
    """The dashboard's address on this machine."""
    async with serving(Starlette(routes=[Mount("/durably", web)])) as url:
        yield f"{url}/durably"


class Window:
    """A page, and everything that went wrong in it."""

    def __init__(self, page: Page, *, allowed: str = "") -> None:
        self.page = page
        self.allowed = allowed
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda message: (
                self.errors.append(message.text) if message.type in {"error", "warning"} else None
            ),
        )

    async def line(self) -> list[str]:
        """What the page says of its connection."""
        return await self.page.locator(".dw-conn").all_text_contents()

    async def settled(self) -> None:
        """Nothing went wrong."""
        reports: list[str] = await self.page.evaluate("window.reports || []")
        wrong = [error for error in self.errors if not self.allowed or not re.search(self.allowed, error)]
        assert wrong + reports == []


@asynccontextmanager
async def looking(
    browser: Browser,
    *,
    width: int = WIDE,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
    allowed: str = "",
) -> AsyncGenerator[Window]:
    """A window in which nothing may go wrong but what is allowed."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    context.set_default_timeout(PATIENCE * 1000)
    if scripts:
        await context.add_init_script(REPORTS)
    window = Window(await context.new_page(), allowed=allowed)
    try:
        yield window
        if scripts:
            await window.settled()
    except AssertionError as error:
        error.add_note(f"said in the page: {window.errors}; its line: {await window.line()}")
        raise
    finally:
        await context.close()


async def world(durably: Durably) -> dict[str, Run]:
    """A run in each status, with something to see in it."""
    job, order = durably.jobs["import-csv"], durably.jobs["approve-order"]
    runs = {
        "failed": await job.trigger(Import(filename="bad.csv"), labels={"org": "acme", "env": "prod"}),
        "completed": await job.trigger(Import(filename="good.csv", tags=["a"]), labels={"org": "globex"}),
        "waiting": await order.trigger("A-17", labels={"org": "acme"}),
        "retried": await durably.jobs["flaky"].trigger(1),
    }
    await durably.start()
    await durably.wait_for_run(runs["retried"].id, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while await durably.get_runs(status=("running", "pending")):
            await asyncio.sleep(0.01)
    await durably.stop()
    runs["pending"] = await job.trigger(Import(filename="late.csv"), delay=3600)
    runs["cancelled"] = await job.trigger(Import(filename="off.csv"))
    await durably.cancel(runs["cancelled"].id)
    return runs


PAGES = {
    "overview": "/",
    "runs": "/runs",
    "runs-empty": "/runs?q=nobody",
    "jobs": "/jobs",
    "job": "/jobs/import-csv",
    "workers": "/workers",
    **{
        f"run-{status}": f"/runs/{{{status}}}"
        for status in ("failed", "completed", "waiting", "retried", "pending")
    },
    "missing": "/runs/nobody",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_and_fits(
    browser: Browser, address: str, durably: Durably, scheme: Literal["light", "dark"]
) -> None:
    runs = await world(durably)
    async with looking(browser, scheme=scheme, allowed="404") as window:
        for name, path in PAGES.items():
            for width in (WIDE, NARROW):
                await window.page.set_viewport_size({"width": width, "height": 900})
                await window.page.goto(
                    address + path.format(**{status: run.id for status, run in runs.items()})
                )
                assert await window.page.evaluate("document.documentElement.scrollWidth") <= width, (
                    name,
                    width,
                )
            assert await violations(window.page) == "", name


async def test_a_form_with_errors_is_accessible_and_says_what_is_wrong(
    browser: Browser, address: str
) -> None:
    async with looking(browser, allowed="422") as window:
        page = window.page
        await page.goto(f"{address}/jobs/import-csv")
        await page.get_by_label("File name").fill("a.csv")
        await page.get_by_label("Rows to import").fill("0")
        await page.evaluate("document.querySelector('form.dw-form').noValidate = true")
        await page.get_by_role("button", name="Trigger run").click()
        summary = page.get_by_role("alert")
        await expect(summary).to_be_focused()
        await expect(page.get_by_label("Rows to import")).to_have_attribute("aria-invalid", "true")
        await expect(page.get_by_text("Input should be greater than or equal to 1")).to_be_visible()
        assert await violations(page) == ""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that lets the held job go on."""
    return tmp_path / "go"


@pytest.fixture
def held(durably: Durably, gate: Path) -> str:
    """A job that stops in the middle until the gate is there; its name."""

    @durably.job(name="held")
    async def hold(step: StepContext, lines: int) -> str:
        async def talk() -> None:
            for number in range(lines):
                step.log.info(f"line {number}")
                step.progress(number + 1, lines, f"line {number}")

        async def wait() -> None:
            while not gate.exists():
                await asyncio.sleep(0.005)

        await step.run("talk", talk)
        await step.run("wait", wait)
        step.log.info("the end")
        return "the answer"

    return hold.name


def lines(page: Page) -> object:
    return page.locator(".dw-log-text")


async def test_a_page_follows_its_run(
    browser: Browser, address: str, durably: Durably, held: str, gate: Path
) -> None:
    run = await durably.jobs[held].trigger(5)
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/runs/{run.id}")
        badge = page.locator("[data-dw-component=run_status]")
        await expect(badge).to_have_text("Pending")
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        await durably.start()
        await expect(badge).to_have_text("Running")
        await expect(page.locator(".dw-log-text")).to_have_text([f"line {n}" for n in range(5)])
        await expect(page.locator(".dw-waterfall tbody tr")).to_have_count(2)
        await expect(page.locator(".dw-progress-text")).to_contain_text("5/5")
        # What goes on reaches to the end of an axis that grows.
        axis = page.locator("[data-dw-part='1']")
        await expect(axis).not_to_have_text(await axis.text_content() or "")
        ends = "bar => parseFloat(bar.getAttribute('x')) + parseFloat(bar.getAttribute('width'))"
        assert await page.locator(".dw-bar[data-dw-grows]").evaluate(ends) == pytest.approx(100)
        gate.touch()
        await expect(badge).to_have_text("Completed")
        await expect(page.locator(".dw-log-text").last).to_have_text("the end")
        await expect(page.locator("[data-dw-component=run_io][data-dw-which=output]")).to_contain_text(
            "the answer"
        )
        await expect(page.get_by_role("button", name="Re-run")).to_be_visible()
        # It is said once, to those who do not see it; and nobody listens any more.
        await expect(page.locator("#dw-speaker")).to_have_text("Completed")
        await expect(page.locator(".dw-conn")).to_have_attribute("data-state", "idle")


async def test_a_list_follows_all_runs_but_leaves_alone_what_is_selected(
    browser: Browser, address: str, durably: Durably
) -> None:
    order = durably.jobs["approve-order"]
    await order.trigger("A")
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/runs")
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(1)
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        await order.trigger("B")
        await expect(rows).to_have_count(2)
        await rows.last.get_by_role("checkbox").check()
        await expect(page.get_by_role("button", name="Cancel selected")).to_be_enabled()
        await order.trigger("C")
        news = page.get_by_role("button", name="There is news")
        await expect(news).to_be_visible()
        await expect(rows).to_have_count(2)
        await expect(rows.last.get_by_role("checkbox")).to_be_checked()
        await news.click()
        await expect(rows).to_have_count(3)
        await expect(news).to_be_hidden()


async def test_what_cannot_be_undone_is_asked_in_a_dialog(
    browser: Browser, address: str, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/runs/{run.id}")
        await page.get_by_role("button", name="Cancel").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Cancel this run?")
        assert await violations(page) == ""
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Pending")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Cancel run").click()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Cancelled")
        await expect(page.get_by_text("The run was cancelled.")).to_be_visible()
        # Sent back to work it is followed again, and selected with others it is cancelled again.
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Pending")
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        await page.goto(f"{address}/runs")
        await page.get_by_label("Select all runs on this page").check()
        await page.get_by_role("button", name="Cancel selected").click()
        await expect(dialog).to_contain_text("Cancel 1 selected run?")
        await page.get_by_role("button", name="Cancel runs").click()
        await expect(page.get_by_text("1 run was cancelled.")).to_be_visible()


async def test_an_approval_is_given_in_the_page(browser: Browser, address: str, durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A-17")
    await durably.start()
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/runs/{run.id}")
        await page.get_by_role("button", name="Send “approval”").click()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Completed")
        await expect(page.locator("[data-dw-which=output]")).to_contain_text("A-17: yes")


async def test_a_form_triggers_a_run_and_shows_it(browser: Browser, address: str, durably: Durably) -> None:
    await durably.start()
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/jobs/import-csv")
        await page.get_by_label("File name").fill("customers.csv")
        await page.get_by_label("Notify me").check()
        await page.get_by_label("Tags").fill("one\ntwo")
        await page.get_by_role("button", name="Edit as JSON").click()
        text = page.get_by_label("Input, as JSON")
        await expect(text).to_have_value(re.compile(r'"two"'))
        await page.get_by_role("button", name="Edit as form").click()
        await expect(page.get_by_label("Tags")).to_have_value("one\ntwo")
        await page.get_by_role("button", name="Trigger run").click()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Completed")
        await expect(page.locator("[data-dw-which=input]")).to_contain_text('"customers.csv"')
        await page.get_by_role("link", name="Edit input").click()
        await expect(page.get_by_label("File name")).to_have_value("customers.csv")
        await expect(page.get_by_label("Notify me")).to_be_checked()


async def test_every_page_works_without_scripts(browser: Browser, address: str, durably: Durably) -> None:
    await durably.start()
    async with looking(browser, scripts=False) as window:
        page = window.page
        await page.goto(f"{address}/jobs/approve-order")
        await page.get_by_role("textbox", name="Order").fill("A-17")
        await page.get_by_role("button", name="Trigger run").click()
        await expect(page.locator("h1")).to_have_text("approve-order")
        run_page = page.url.partition("?")[0]
        run = (await durably.get_runs())[0]
        async with asyncio.timeout(PATIENCE):
            while (await durably.get_runs())[0].status != "waiting":
                await asyncio.sleep(0.01)
        await page.goto(run_page)
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Waiting")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_text("Cancel this run?")).to_be_visible()
        await page.get_by_role("button", name="Cancel run").click()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Cancelled")
        await page.goto(f"{address}/runs")
        await page.get_by_role("combobox", name="Status").select_option("failed")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.get_by_text("No runs match")).to_be_visible()
        await page.get_by_role("link", name="Clear the filters").click()
        await page.get_by_role("checkbox").first.check()
        await page.get_by_role("button", name="Retry selected").click()
        await page.get_by_role("button", name="Retry", exact=True).click()
        await expect(page.get_by_text("1 run was retried.")).to_be_visible()
        await page.get_by_label("Theme").select_option("dark")
        await page.get_by_role("button", name="Set").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert run.id


async def arrived(page: Page, title: str) -> None:
    """A page is there, and its script listens to keys."""
    await expect(page.locator("html.dw-js h1")).to_have_text(title)


async def test_keys_lead_to_the_pages(browser: Browser, address: str) -> None:
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/jobs")
        await arrived(page, "Jobs")
        for key, title in (("r", "Runs"), ("o", "Overview"), ("w", "Workers"), ("j", "Jobs")):
            await page.keyboard.press(key)
            await arrived(page, title)
        await page.keyboard.press("Alt+r")
        await arrived(page, "Jobs")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_contain_text("Search runs")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await page.keyboard.press("r")
        await arrived(page, "Runs")
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type("jobs")
        await expect(page.get_by_role("searchbox")).to_have_value("jobs")


async def test_a_key_searches_from_every_page(browser: Browser, address: str) -> None:
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/jobs")
        await arrived(page, "Jobs")
        await page.keyboard.press("/")
        await arrived(page, "Runs")
        await expect(page.get_by_role("searchbox")).to_be_focused()


async def test_steps_that_are_alike_open_in_their_place_and_stay_open(
    browser: Browser, address: str, durably: Durably
) -> None:
    @durably.job(name="sync-shop")
    async def sync(step: StepContext, count: int) -> None:
        for number in range(count):
            await step.run(f"sync-item-{number + 1}", lambda: None)
        await step.wait_for_signal("go", bool)
        await step.run("last", lambda: None)

    run = await sync.trigger(150)
    await durably.process_until_idle()
    async with looking(browser) as window:
        page = window.page
        await page.goto(f"{address}/runs/{run.id}")
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        rows = page.locator(".dw-waterfall tbody tr")
        await expect(rows).to_have_count(2)
        fold = page.get_by_role("link", name="sync-item-1 … sync-item-150")
        await fold.press("Enter")
        await expect(rows).to_have_count(103)
        await expect(page.get_by_text("1 to 100 of 150")).to_be_visible()
        # A keyboard is where it was, and a reload would show the same.
        await expect(fold).to_be_focused()
        await expect(fold).to_have_attribute("aria-expanded", "true")
        assert "unfold=sync-item-%23" in page.url
        assert await violations(page) == ""
        await page.get_by_role("link", name="Later").click()
        await expect(rows).to_have_count(53)
        # What happens does not close it.
        await durably.signal("go", True, run_id=run.id)
        await durably.process_until_idle()
        await expect(page.locator(".dw-waterfall").get_by_text("last")).to_be_visible()
        await expect(page.get_by_text("101 to 150 of 150")).to_be_visible()
        await fold.click()
        await expect(rows).to_have_count(3)
        assert "unfold" not in page.url


async def test_runs_are_narrowed_by_time_with_a_script_and_without(
    browser: Browser, address: str, durably: Durably
) -> None:
    await durably.jobs["approve-order"].trigger("A-17")
    for scripts in (True, False):
        async with looking(browser, scripts=scripts, width=NARROW) as window:
            page = window.page
            await page.goto(f"{address}/runs")
            since = page.get_by_label("From (UTC)")
            await expect(since).to_be_hidden()
            await page.get_by_label("Created").select_option("exact times")
            await since.fill("2999-01-01T00:00")
            await page.get_by_role("button", name="Filter").click()
            await expect(page.get_by_text("No runs match")).to_be_visible()
            await expect(since).to_have_value("2999-01-01T00:00")
            assert not scripts or await violations(page) == ""
            await page.get_by_label("Created").select_option("last hour")
            if not scripts:
                await page.get_by_role("button", name="Filter").click()
            await expect(page.locator("tbody tr")).to_have_count(1)
            await expect(since).to_be_hidden()


async def test_all_that_match_are_cancelled_with_a_script_and_without(
    browser: Browser, address: str, durably: Durably
) -> None:
    for scripts in (True, False):
        await durably.jobs["approve-order"].batch_trigger(["A", "B", "C"])
        async with looking(browser, scripts=scripts) as window:
            page = window.page
            await page.goto(f"{address}/runs?q=order")
            await page.get_by_role("button", name="Cancel all…").click()
            await expect(page.locator("h1")).to_have_text("Cancel 3 runs that match?")
            assert not scripts or await violations(page) == ""
            await page.get_by_role("button", name="Cancel runs").click()
            await expect(page.get_by_text("3 runs were cancelled.")).to_be_visible()


async def test_the_chosen_theme_stays(browser: Browser, address: str) -> None:
    async with looking(browser, scheme="dark") as window:
        page = window.page
        await page.goto(f"{address}/jobs")
        dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        await page.get_by_label("Theme").select_option("light")
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert light != dark
        await page.goto(f"{address}/runs")
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("text", HOSTILE)
async def test_text_stays_text_in_a_browser(
    browser: Browser, address: str, durably: Durably, text: str
) -> None:
    run_id = await hostile_run(durably, text)
    async with looking(browser) as window:
        page = window.page
        for path in ("/", "/runs", "/jobs", "/jobs/hostile", f"/jobs/hostile?of={run_id}", f"/runs/{run_id}"):
            await page.goto(address + path)
            await expect(page.locator("main")).to_be_visible()
        await expect(page.locator("[data-dw-component=run_error]")).to_contain_text("ValueError")
        assert await page.locator("main img, main script, [onerror], [onload], [onmouseover]").count() == 0


# When the connection is not what it should be


async def test_a_proxy_that_eats_the_stream_is_no_more_than_slow(
    browser: Browser, address: str, durably: Durably, held: str, gate: Path
) -> None:
    run = await durably.jobs[held].trigger(3)
    await durably.start()

    async def eat(route: Route) -> None:
        await route.fulfill(status=200, content_type="text/html", body="<h1>Log in</h1>")

    async with looking(browser, allowed="MIME type|EventSource") as window:
        page = window.page
        await page.clock.install()
        await page.route("**/-/live**", eat)
        await page.goto(f"{address}/runs/{run.id}")
        await expect(page.locator(".dw-conn")).to_have_text("Reconnecting")
        gate.touch()
        await durably.wait_for_run(run.id, timeout=PATIENCE)
        await page.clock.fast_forward(11_000)
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Completed")
        await expect(page.locator(".dw-log-text")).to_have_text(["line 0", "line 1", "line 2", "the end"])


async def test_a_proxy_that_holds_the_stream_back_is_noticed_by_its_silence(
    browser: Browser, address: str, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    is_asked, is_over = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        is_asked.set()
        await is_over.wait()
        await route.abort()

    async with looking(browser, allowed="EventSource|ERR_FAILED") as window:
        page = window.page
        await page.clock.install()
        await page.route("**/-/live**", hold)
        await page.goto(f"{address}/runs/{run.id}")
        await asyncio.wait_for(is_asked.wait(), PATIENCE)
        await durably.cancel(run.id)
        await page.clock.pause_at(await page.evaluate("Date.now() / 1000 + 11"))
        await expect(page.locator(".dw-conn")).to_have_text("Reconnecting")
        await page.clock.run_for(11_000)
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Cancelled")
        is_over.set()


REFUSED = """
window.refused = window.fetched = 0;
const Real = EventSource;
window.EventSource = class extends Real {
  constructor(url) { super(url); this.addEventListener("error", () => { window.refused += 1; }); }
};
document.addEventListener("dw-refresh", () => { window.fetched += 1; });
"""


async def test_a_page_whose_stream_is_refused_again_and_again_fetches_every_ten_seconds(
    browser: Browser, address: str
) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")

    async with looking(browser, allowed="EventSource|502") as window:
        page = window.page
        await page.clock.install()
        await page.clock.pause_at(1_900_000_000)
        await page.add_init_script(REFUSED)
        await page.route("**/-/live**", refuse)
        await page.goto(f"{address}/runs")
        for times in (1, 2, 3):
            async with asyncio.timeout(PATIENCE):
                while await page.evaluate("window.refused") < times:
                    await asyncio.sleep(0.02)
            await page.clock.run_for(15_000)
        parts = await page.locator("[data-dw-bells]").count()
        assert parts
        assert await page.evaluate("window.fetched") == 4 * parts


@pytest.fixture
def short_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams end after a moment."""
    monkeypatch.setattr(live, "LIFE", 0.3)


@pytest.mark.usefixtures("short_streams")
async def test_a_page_catches_up_after_its_stream_was_cut(
    browser: Browser, address: str, durably: Durably, held: str, gate: Path
) -> None:
    run = await durably.jobs[held].trigger(3)
    asked: list[str] = []
    async with looking(browser) as window:
        page = window.page
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{address}/runs/{run.id}")
        async with asyncio.timeout(PATIENCE):
            while sum("/-/live" in url for url in asked) < 4:
                await asyncio.sleep(0.02)
        # Several streams came and went; nothing happened, and nothing was fetched but once.
        fetched = [url for url in asked if "/-/log_tail" in url]
        assert len(fetched) == 1
        await durably.start()
        gate.touch()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Completed")
        await expect(page.locator(".dw-log-text")).to_have_text(["line 0", "line 1", "line 2", "the end"])


async def test_a_run_that_ends_before_its_page_listens_is_shown_as_it_ended(
    browser: Browser, address: str, durably: Durably, held: str, gate: Path
) -> None:
    run = await durably.jobs[held].trigger(2)
    ended = asyncio.Event()

    async def late(route: Route) -> None:
        await ended.wait()
        await route.continue_()

    async with looking(browser) as window:
        page = window.page
        await page.route("**/-/live**", late)
        await page.goto(f"{address}/runs/{run.id}")
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Pending")
        gate.touch()
        await durably.start()
        await durably.wait_for_run(run.id, timeout=PATIENCE)
        ended.set()
        await expect(page.locator("[data-dw-component=run_status]")).to_have_text("Completed")
        await expect(page.locator(".dw-log-text")).to_have_text(["line 0", "line 1", "the end"])


async def test_a_run_that_is_deleted_while_one_looks_says_so(
    browser: Browser, address: str, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with looking(browser, allowed="404") as window:
        page = window.page
        await page.goto(f"{address}/runs/{run.id}")
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        other = await page.context.new_page()
        await other.goto(f"{address}/runs/{run.id}")
        await durably.cancel(run.id)
        await durably.delete_run(run.id)
        await expect(page.get_by_text("it was deleted meanwhile").first).to_be_visible()


async def test_no_part_goes_on_showing_how_a_run_ended_that_is_gone(
    browser: Browser, address: str, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    is_answered, is_gone = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        """The status is read before the run is deleted, and comes after it; all else is asked for after it."""
        if "/run_status" in route.request.url and not is_answered.is_set():
            answer = await route.fetch()
            is_answered.set()
            await is_gone.wait()
            await route.fulfill(response=answer)
        else:
            await is_gone.wait()
            await route.continue_()

    async with looking(browser, allowed="404") as window:
        page = window.page
        await page.goto(f"{address}/runs/{run.id}")
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        await page.route(re.compile("/-/(?!live)"), hold)
        await durably.cancel(run.id)
        await is_answered.wait()
        await durably.delete_run(run.id)
        is_gone.set()
        await expect(page.locator("[data-dw-component=run_status]")).to_contain_text("deleted meanwhile")
        await expect(page.locator("[data-dw-status=cancelled]")).to_have_count(0)


async def test_seven_tabs_at_once_are_no_trouble(browser: Browser, address: str, durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with looking(browser) as window:
        context: BrowserContext = window.page.context
        tabs = [await context.new_page() for _ in range(7)]
        for tab in tabs:
            # In a headless browser every tab is visible: the connections must suffice all the same.
            await tab.goto(f"{address}/runs/{run.id}", wait_until="commit")
        await expect(tabs[0].locator("[data-dw-component=run_status]")).to_have_text("Pending")
        for tab in tabs[:5]:
            await tab.close()
        await durably.cancel(run.id)
        for tab in tabs[5:]:
            await expect(tab.locator("[data-dw-component=run_status]")).to_have_text("Cancelled")


LOOK = """(away) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => away });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_page_that_nobody_looks_at_gives_its_connection_back_and_catches_up(
    browser: Browser, address: str, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")

    def is_watched() -> bool:
        return any(task.get_name() == f"durably-web:run:{run.id}" for task in asyncio.all_tasks())

    async with looking(browser) as window:
        page = window.page
        await page.clock.install()
        await page.goto(f"{address}/runs/{run.id}")
        await expect(page.locator(".dw-conn")).to_have_text("Live")
        assert is_watched()
        await page.evaluate(LOOK, True)
        await page.clock.run_for(2_100)
        async with asyncio.timeout(PATIENCE):
            while is_watched():
                await asyncio.sleep(0.01)
        await durably.cancel(run.id)
        await page.evaluate(LOOK, False)
        badge = page.locator("[data-dw-component=run_status]")
        async with asyncio.timeout(PATIENCE):
            while await badge.text_content() != "Cancelled":
                await page.clock.run_for(300)
