"""From a worker's commit to the screen: three processes, the worker, the dashboard and a browser."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from playwright.async_api import Page

from tests.benchmarks.bench import p95
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.processes import Neighbour, started
from tests.web.browser import browsing

TARGET = 0.05
SHORTEST_PAUSE = 0.4
"""Seconds between two commits: the page has told the last one, and nothing waits for company."""
LONGEST_PAUSE = 0.8
PATIENCE = 30.0
NOW = "performance.timeOrigin + performance.now()"
OBSERVE = f"""
([selector, bell]) => {{
  window.seen = [];
  window.told = [];
  document.body.addEventListener(bell, () => window.told.push({NOW}));
  const there = () => document.querySelectorAll(selector).length;
  let before = there();
  new MutationObserver(() => {{
    const now = there();
    if (now > before) window.seen.push({NOW});
    before = now;
  }}).observe(document.body, {{ childList: true, subtree: true }});
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """How far the browser's clock is ahead of ours, and how well that is known."""

    ahead: float
    within: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What is committed, where it is seen, and by what name the page is told."""

    word: str
    selector: str
    bell: str


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Seconds from each commit until the page has changed, and until it was told to look."""

    seen: list[float]
    told: list[float]
    clocks: Clocks


async def news(folder: Path, samples: int) -> list[Figure]:
    """A step on its run's page, and a new run in the list, from the commit in another process to the DOM."""
    async with _stage(folder / "news.db") as (worker, run_id, url), browsing() as browser:
        page = await browser.new_page()
        # The worker's run has begun, and its page is alive.
        await page.goto(f"{url}/runs/{run_id}")
        steps = await _watch(
            page, worker, Sight("step", ".dw-waterfall tbody tr", f"dw-run-{run_id}-step"), samples
        )
        await page.goto(f"{url}/runs")
        runs = await _watch(page, worker, Sight("run", ".dw-runs-table tbody tr", "dw-runs"), samples)
    return [*_figures("a step → its row on the run's page", steps), *_figures("a new run → the list", runs)]


def _figures(name: str, news: News) -> list[Figure]:
    samples, p50 = news.seen, median(news.seen)
    how = f"{len(samples)} commits; the browser's clock is known to {news.clocks.within * 1e3:.1f} ms"
    return [
        Figure(name=f"{name}, p50", value=p50, unit="s", target=at_most("50 ms", p50, TARGET), note=how),
        Figure(name="… p95", value=p95(samples), unit="s"),
        Figure(name="… until the browser is told, p50", value=median(news.told), unit="s"),
    ]


async def _watch(page: Page, worker: Neighbour, sight: Sight, samples: int) -> News:
    await page.locator("[data-dw-component=conn_indicator] [data-state=live]").wait_for(state="attached")
    await worker.ask(sight.word)
    await page.locator(sight.selector).first.wait_for()
    await asyncio.sleep(1)
    clocks = await _compare(page)
    await page.evaluate(OBSERVE, [sight.selector, sight.bell])
    random = Random(7)
    committed: list[float] = []
    seen: list[float] = []
    for number in range(1, samples + 1):
        # Anywhere between two looks of the dashboard's process at the database.
        await asyncio.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))
        committed.append((await worker.ask(sight.word))["at"] + clocks.ahead)
        seen = await _instants(page, "seen", number)
    told = await _instants(page, "told", samples)
    return News(
        seen=[instant - at for instant, at in zip(seen, committed, strict=True)],
        # Of a commit that is told in two messages the first counts.
        told=[min(instant for instant in told if instant >= at) - at for at in committed],
        clocks=clocks,
    )


async def _instants(page: Page, name: str, count: int) -> list[float]:
    """What the page has noted, once it is so much."""
    async with asyncio.timeout(PATIENCE):
        while True:
            instants: list[float] = await page.evaluate(f"window.{name}")
            if len(instants) >= count:
                return [instant / 1e3 for instant in instants]
            await asyncio.sleep(0.02)


async def _compare(page: Page) -> Clocks:
    """Both read the machine's clock; asked often, the quickest answer bounds what lies between them."""
    best = Clocks(ahead=0.0, within=PATIENCE)
    for _ in range(50):
        asked = time.time()
        theirs: float = await page.evaluate(NOW) / 1e3
        answered = time.time()
        if (answered - asked) / 2 < best.within:
            best = Clocks(ahead=theirs - (asked + answered) / 2, within=(answered - asked) / 2)
    return best


@asynccontextmanager
async def _stage(database: Path) -> AsyncGenerator[tuple[Neighbour, str, str]]:
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(started("tests.benchmarks.web.worker", database))
        run_id = await worker.hear()
        server = await stack.enter_async_context(started("tests.benchmarks.web.server", database))
        yield worker, run_id, await server.hear()
