"""The reference's published client, `@coji/durably-react`, in a real browser against our server.

The page that shows its hooks is built by Vite from tests/web/react; the runs are executed by a worker in a
process of its own.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from durably import Durably, JobHandle
from durably_web import AuthConfig, allow_local, create_durably_handler
from durably_web.api import streams
from tests.web.browser import CACHE, browsing
from tests.web.jobs import Pages, Rows, import_pages
from tests.web.node import npm
from tests.web.patience import PATIENCE
from tests.web.serving import serving

SOURCE = Path(__file__).with_name("react")

# One browser for all of them. The first one may have to fetch it, and what Vite needs.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("react"),
]


@pytest.fixture(scope="session")
def site() -> Path:
    """The built page; built again when its sources have changed."""
    files = sorted(path for path in SOURCE.iterdir() if path.is_file())
    digest = sha256(b"\0".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()[:16]
    built = CACHE / f"react-{digest}"
    if not built.exists():
        CACHE.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as workplace:
            for path in files:
                shutil.copy(path, workplace)
            npm("ci", cwd=Path(workplace))
            npm("run", "build", cwd=Path(workplace))
            made = Path(workplace) / "dist"
            if not built.exists():
                made.rename(built)
    return built


class View:
    """One page, and what the hooks on it answer."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    async def open(self, **query: str) -> None:
        """Show a section."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        await self.page.goto(f"{self._url}/index.html?{asked}")

    async def click(self, *names: str) -> None:
        """Press buttons, one after the other."""
        for name in names:
            await self.page.locator(f"#{name}").click()

    async def give(self, value: object) -> None:
        """The job's input."""
        await self.page.locator("#input").fill(json.dumps(value))

    async def act(self, name: str, run_id: str) -> Any:
        """What an action on this run answers."""
        await self.page.locator("#named").fill(run_id)
        await self.click(name)
        await expect(self._locate("actions.answer")).not_to_have_text("null")
        return await self.fact("actions.answer")

    async def shows(self, **facts: object) -> None:
        """Wait until the hooks answer this; `job_status` is the fact `job.status`."""
        for name, value in facts.items():
            text = json.dumps(value, separators=(",", ":"))
            await expect(self._locate(name.replace("_", ".", 1))).to_have_text(text)

    async def fact(self, name: str) -> Any:
        """What a hook answers now."""
        return json.loads(await self._locate(name).inner_text())

    def _locate(self, name: str) -> Locator:
        return self.page.locator(f'[data-fact="{name}"]')


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def durably(tmp_path: Path) -> AsyncIterator[Durably]:
    """An instance that triggers and looks, and executes nothing."""
    async with Durably(f"sqlite:///{tmp_path}/app.db", worker=False) as durably:
        yield durably


@pytest.fixture
def handle(durably: Durably) -> JobHandle[Pages, Rows]:
    return durably.register(import_pages)


@asynccontextmanager
async def working(url: str) -> AsyncGenerator[None]:
    """A worker in a process of its own."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.web.jobs", url, stdout=PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert worker.stdout is not None
    try:
        assert await worker.stdout.readline() == b"ready\n"
        yield
    finally:
        worker.terminate()
        await worker.communicate()


@pytest_asyncio.fixture(loop_scope="module")
async def view(
    durably: Durably, handle: JobHandle[Pages, Rows], browser: Browser, site: Path, tmp_path: Path
) -> AsyncIterator[View]:
    handler = create_durably_handler(durably, auth=AuthConfig(authenticate=allow_local))
    app = Starlette(routes=[Mount("/api/durably", app=handler), Mount("/", app=StaticFiles(directory=site))])
    async with serving(app) as url, working(f"sqlite:///{tmp_path}/app.db"):
        page = await browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        yield View(page, url)
        await page.close()
        # The browser itself reports each answer that is no success.
        assert [error for error in errors if not error.startswith("Failed to load resource")] == []


async def test_a_job_is_triggered_and_followed_to_its_end(
    view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A client that took the end of a stream for an accident would be back at once.
    monkeypatch.setattr(streams, "AFTER_ACCIDENTS", 20)
    hold = tmp_path / "go"
    await view.open(show="job")
    await view.shows(job_status=None, job_currentRunId=None)
    await view.give({"pages": 2, "hold": str(hold)})
    await view.click("trigger")
    await view.shows(
        job_status="leased",
        job_progress={"current": 1, "total": 2, "message": "page 1"},
        job_logs=[["info", "started", {"pages": 2}]],
        job_output=None,
    )
    assert (await view.fact("job.states"))["isActive"]

    hold.touch()
    await view.shows(
        job_status="completed",
        job_output={"rows": 200},
        job_progress={"current": 2, "total": 2, "message": "page 2"},
        job_logs=[["info", "started", {"pages": 2}], ["warn", "done", None]],
    )
    assert (await view.fact("job.states"))["isTerminal"]
    # It keeps its EventSource, which comes again after every end; for it a 204 is a broken connection.
    await view.page.wait_for_timeout(300)
    await view.shows(job_error=None, job_status="completed")
    await view.click("reset")
    await view.shows(job_status=None, job_output=None, job_logs=[])


async def test_a_job_is_waited_for(view: View) -> None:
    await view.open(show="job")
    await view.click("wait")
    await view.shows(job_status="completed")
    run_id = await view.fact("job.currentRunId")
    await view.shows(job_waited={"runId": run_id, "output": {"rows": 200}})

    await view.give({"pages": 1, "fail": True})
    await view.click("wait")
    await view.shows(
        job_status="failed",
        job_error="the last page is torn",
        job_waited="the last page is torn",
        job_logs=[["info", "started", {"pages": 1}], ["error", "no more", None]],
    )


async def test_an_input_that_does_not_fit_is_told(view: View, durably: Durably) -> None:
    await view.open(show="job")
    await view.give({"pages": "many"})
    await view.click("trigger")
    refused = view.page.locator('[data-fact="job.refused"]')
    await expect(refused).to_contain_text("the input of job 'import-pages' does not fit Pages")
    assert await durably.get_runs() == []


async def test_a_reloaded_page_goes_on_with_the_run(
    view: View, handle: JobHandle[Pages, Rows], tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    run = await handle.trigger({"pages": 2, "hold": str(hold)})
    for _ in range(2):
        await view.open(show="job")
        await view.shows(
            job_currentRunId=run.id,
            job_status="leased",
            job_progress={"current": 1, "total": 2, "message": "page 1"},
            job_logs=[["info", "started", {"pages": 2}]],
        )
    # A pending one is found as well.
    hold.touch()
    await view.shows(job_status="completed")
    later = await handle.trigger({"pages": 1}, delay=3600)
    await view.open(show="job")
    await view.shows(job_currentRunId=later.id)


async def test_the_latest_run_is_followed_unless_that_is_not_wanted(
    view: View, handle: JobHandle[Pages, Rows]
) -> None:
    first = await handle.trigger_and_wait({"pages": 1})
    await view.open(show="job", run=first.id)
    await view.shows(job_status="completed", job_currentRunId=first.id)
    second = await handle.trigger({"pages": 3})
    await view.shows(job_currentRunId=second.id, job_status="completed", job_output={"rows": 300})

    await view.open(show="job", run=first.id, follow="no")
    await view.shows(job_status="completed", job_output={"rows": 100})
    await handle.trigger_and_wait({"pages": 1})
    await view.shows(job_currentRunId=first.id)


async def test_a_run_is_watched_with_its_logs(
    view: View, handle: JobHandle[Pages, Rows], tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    run = await handle.trigger({"pages": 2, "hold": str(hold)})
    started, done = ["info", "started", {"pages": 2}], ["warn", "done", None]
    await view.open(show="run", run=run.id)
    await view.shows(run_status="leased", run_logs=[started], run_last=[started], run_told=["start"])
    await view.click("clear")
    await view.shows(run_logs=[])
    hold.touch()
    await view.shows(
        run_status="completed",
        run_output={"rows": 200},
        run_logs=[done],
        run_last=[done],
        run_told=["start", "complete"],
        run_error=None,
    )
    failed = await handle.trigger({"pages": 1, "fail": True})
    await view.open(show="run", run=failed.id)
    await view.shows(run_status="failed", run_error="the last page is torn", run_told=["start", "fail"])


@pytest_asyncio.fixture(loop_scope="module")
async def short_streams(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Streams end after a moment; on a slow machine, where they tell nothing in that time, later and later."""

    async def lengthen(seconds: float) -> None:
        while True:
            monkeypatch.setattr(streams, "LIFE", seconds)
            await asyncio.sleep(4)
            seconds *= 2

    lengthening = asyncio.create_task(lengthen(0.05))
    yield
    lengthening.cancel()


@pytest.mark.usefixtures("short_streams")
async def test_streams_that_end_again_and_again_lose_and_double_nothing(
    view: View, handle: JobHandle[Pages, Rows], tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    asked: list[str] = []
    view.page.on("request", lambda request: asked.append(request.url))
    run = await handle.trigger({"pages": 20, "lines": 5, "pause": 0.05, "hold": str(hold)})
    await view.open(show="run", run=run.id)
    async with asyncio.timeout(PATIENCE):
        # Three hooks on the page, each with a stream that was continued several times.
        while len([url for url in asked if "/subscribe?" in url]) < 9:
            await asyncio.sleep(0.02)
    hold.touch()
    lines = [["info", f"line {page}.{line}", None] for page in range(20) for line in range(5)]
    await view.shows(
        run_status="completed",
        run_logs=[["info", "started", {"pages": 20}], *lines, ["warn", "done", None]],
        run_progress={"current": 20, "total": 20, "message": "page 20"},
        run_error=None,
    )


async def test_a_run_is_cancelled_and_retriggered(
    view: View, handle: JobHandle[Pages, Rows], tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    run = await handle.trigger({"pages": 2, "hold": str(hold)})
    await view.open(show="job")
    await view.shows(job_status="leased", job_currentRunId=run.id)
    refused = {"error": f"Cannot retrigger leased run: {run.id}"}
    assert await view.act("retrigger", run.id) == refused
    assert await view.act("cancel", run.id) == {"value": "nothing"}
    await view.shows(job_status="cancelled")
    assert await view.act("cancel", run.id) == {"error": f"Cannot cancel cancelled run: {run.id}"}

    hold.touch()
    again = await view.act("retrigger", run.id)
    await view.shows(job_currentRunId=again["value"], job_status="completed", job_output={"rows": 200})


async def test_a_single_run_is_asked_for_and_deleted(view: View, handle: JobHandle[Pages, Rows]) -> None:
    run = await handle.trigger_and_wait({"pages": 2}, labels={"org": "x"})
    await view.open(show="runs")
    shown = (await view.act("getRun", run.id))["value"]
    assert (shown["id"], shown["status"], shown["labels"], shown["output"], shown["isTerminal"]) == (
        run.id, "completed", {"org": "x"}, {"rows": 200}, True,
    )  # fmt: skip
    steps = (await view.act("getSteps", run.id))["value"]
    assert [(step["name"], step["status"], step["output"]) for step in steps] == [
        ("page-0", "completed", 100), ("page-1", "completed", 100),
    ]  # fmt: skip
    await view.shows(runs_runs=[[run.id, "completed", 2]])
    assert await view.act("deleteRun", run.id) == {"value": "nothing"}
    await view.shows(runs_runs=[])
    # A run that is gone is no error for its asker.
    assert await view.act("getRun", run.id) == {"value": None}
    assert await view.act("deleteRun", run.id) == {"error": "Run not found"}


async def test_runs_are_paged_and_live_on_the_first_page(
    view: View, handle: JobHandle[Pages, Rows], durably: Durably, tmp_path: Path
) -> None:
    old = [(await handle.trigger_and_wait({"pages": 1})).id for _ in range(7)][::-1]

    def page(*ids: str) -> list[object]:
        return [[id, "completed", 1] for id in ids]

    await view.open(show="runs")
    await view.shows(runs_runs=page(*old[:3]), runs_page=0, runs_hasMore=True)
    await view.click("older")
    await view.shows(runs_runs=page(*old[3:6]), runs_page=1, runs_hasMore=True)
    await view.click("older")
    await view.shows(runs_runs=page(old[6]), runs_page=2, runs_hasMore=False)
    await view.click("newer", "newer", "newer")
    await view.shows(runs_runs=page(*old[:3]), runs_page=0)
    await view.click("third")
    await view.shows(runs_page=2)
    await view.click("newer", "newer")
    await view.shows(runs_page=0)

    # Triggered here, executed by another process, and shown in a third.
    hold = tmp_path / "go"
    new = await handle.trigger({"pages": 2, "hold": str(hold)})
    await view.shows(runs_runs=[[new.id, "leased", 1], *page(*old[:2])], runs_steps=[1, 1, 1])
    hold.touch()
    await view.shows(
        runs_runs=[[new.id, "completed", 2], *page(*old[:2])], runs_steps=[2, 1, 1], runs_error=None
    )
    await durably.delete_run(new.id)
    await view.shows(runs_runs=page(*old[:3]))


async def test_a_list_of_runs_is_filtered(view: View, handle: JobHandle[Pages, Rows]) -> None:
    mine = await handle.trigger_and_wait({"pages": 1}, labels={"org": "mine"})
    await handle.trigger_and_wait({"pages": 1}, labels={"org": "theirs"})
    failed = await handle.trigger({"pages": 1, "fail": True}, labels={"org": "mine"})
    await view.open(show="runs", org="mine", status="failed")
    await view.shows(runs_runs=[[failed.id, "failed", 1]])
    await view.open(show="runs", org="mine", status="failed&status=completed")
    await view.shows(runs_runs=[[failed.id, "failed", 1], [mine.id, "completed", 1]])
