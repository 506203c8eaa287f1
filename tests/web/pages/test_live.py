"""What an open page is told: names, in whatever process it happens."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from durably import Durably, StepContext
from durably_web import AuthConfig, DurablyWeb, live
from tests.web.pages.conftest import by_header
from tests.web.pages.jobs import Import
from tests.web.pages.test_safety import TENANTS
from tests.web.patience import PATIENCE
from tests.web.serving import serving, starting


class Page:
    """An open page, as far as it listens."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.id: str | None = None
        self._lines = response.aiter_lines()

    async def next(self) -> set[str]:
        """The names of the next message."""
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "id":
                    self.id = value
                if name == "data":
                    return {word for word in value.split() if word.startswith("dw-")}
        raise EOFError

    async def rest(self) -> list[str]:
        """The lines to the end."""
        return [line async for line in self._lines]

    async def until(self, *names: str) -> set[str]:
        """Everything that rings, until all of these have."""
        heard: set[str] = set()
        while not heard.issuperset(names):
            heard |= await self.next()
        return heard


@pytest.fixture
async def server(web: DurablyWeb[str]) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(web) as url,
        httpx2.AsyncClient(base_url=url, headers={"user": "ada"}, timeout=PATIENCE) as client,
    ):
        yield client


@asynccontextmanager
async def listening(client: httpx2.AsyncClient, topics: str, **headers: str) -> AsyncGenerator[Page]:
    async with client.stream("GET", "/-/live", params={"topics": topics}, headers=headers) as response:
        yield Page(response)


def of_run(run_id: str, *parts: str) -> set[str]:
    return {f"dw-run-{run_id}-{part}" for part in parts}


EVERYTHING = ("status", "progress", "step", "log")


async def test_a_page_that_opens_fetches_everything_once(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with listening(server, f"runs run:{run.id}") as page:
        assert page.response.headers["content-type"].startswith("text/event-stream")
        assert "no-transform" in page.response.headers["cache-control"]
        assert await page.next() == {"dw-runs", "dw-stats", "dw-jobs", *of_run(run.id, *EVERYTHING)}


async def test_what_happens_to_a_run_rings_for_its_parts(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["import-csv"].trigger(Import(filename="good.csv"))
    async with listening(server, f"run:{run.id}") as page:
        await page.next()
        await durably.start()
        heard = await page.until(*of_run(run.id, "status", "step", "log"))
        assert heard <= of_run(run.id, *EVERYTHING)


async def test_a_progress_rings_for_nothing_else(server: httpx2.AsyncClient, durably: Durably) -> None:
    may_go_on, may_end = asyncio.Event(), asyncio.Event()

    @durably.job
    async def slow(step: StepContext, value: int) -> None:
        await may_go_on.wait()
        step.progress(1, 2)
        await may_end.wait()

    run = await slow.trigger(1)
    async with listening(server, f"run:{run.id}") as page:
        await page.next()
        await durably.start()
        await page.until(*of_run(run.id, "status"))
        may_go_on.set()
        assert await page.until(*of_run(run.id, "progress")) == of_run(run.id, "progress")
        may_end.set()


async def test_what_happens_to_any_run_rings_for_lists_and_its_job(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    async with listening(server, "runs") as page:
        await page.next()
        run = await durably.jobs["approve-order"].trigger("A")
        assert await page.until("dw-runs") == {"dw-runs", "dw-job-approve-order"}
        await durably.cancel(run.id)
        await page.until("dw-runs")
        await durably.delete_run(run.id)
        assert "dw-runs" in await page.until("dw-runs")


async def test_what_another_process_does_rings_here(
    server: httpx2.AsyncClient, durably: Durably, tmp_path: Path
) -> None:
    run = await durably.jobs["import-csv"].trigger(Import(filename="good.csv"))
    async with listening(server, f"runs run:{run.id}") as page:
        await page.next()
        code = f"""
import asyncio
from durably import Durably
from tests.web.pages.jobs import JOBS

async def main():
    async with Durably("sqlite:///{tmp_path}/app.db", jobs=JOBS) as durably:
        await durably.wait_for_run("{run.id}")

asyncio.run(main())
"""
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, cwd=Path(__file__).parents[3]
        )
        try:
            heard = await page.until("dw-runs", *of_run(run.id, "status", "step", "log"))
        finally:
            assert await worker.wait() == 0
        assert of_run(run.id, "status", "step", "log") < heard


async def test_whoever_comes_back_hears_only_of_what_was_missed(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    order = durably.jobs["approve-order"]
    quiet, busy = await order.trigger("A"), await order.trigger("B")
    topics = f"runs run:{quiet.id} run:{busy.id}"
    async with listening(server, topics) as page:
        await page.next()
        seen = page.id
    assert seen is not None
    # Nothing happened: nothing is fetched.
    async with listening(server, topics, **{"last-event-id": seen}) as page:
        assert await page.next() == set()
    await durably.cancel(busy.id)
    async with listening(server, topics, **{"last-event-id": seen}) as page:
        assert await page.next() == {"dw-runs", "dw-stats", "dw-jobs", *of_run(busy.id, *EVERYTHING)}
    # An id that is none, or of another database, counts as nothing seen.
    for wrong in ("runs=", "runs=../..", "a=b c=d", f"runs=99999 run:{quiet.id}=9.9", "x" * 10_000):
        async with listening(server, f"run:{quiet.id}", **{"last-event-id": wrong}) as page:
            assert await page.next() == of_run(quiet.id, *EVERYTHING)


async def test_a_run_that_is_not_there_rings_once_so_that_the_page_says_so(
    server: httpx2.AsyncClient,
) -> None:
    async with listening(server, "run:nobody") as page:
        assert await page.next() == of_run("nobody", *EVERYTHING)


async def test_a_deleted_run_rings_so_that_the_page_says_so(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with listening(server, f"run:{run.id}") as page:
        await page.next()
        await durably.cancel(run.id)
        await page.until(*of_run(run.id, "status"))
        await durably.delete_run(run.id)
    async with listening(server, f"run:{run.id}") as page:
        assert await page.next() == of_run(run.id, *EVERYTHING)


async def test_a_run_that_goes_back_to_work_is_watched_again(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"))
    await durably.process_until_idle()
    async with listening(server, f"run:{run.id}") as first:
        await first.next()
        await durably.retry(run.id)
        # The first page's subscription had ended with the run; a second page finds it at work again.
        async with listening(server, f"run:{run.id}") as second:
            await second.next()
            await durably.process_until_idle()
            await second.until(*of_run(run.id, "status"))


@pytest.mark.parametrize("topics", ["", "everything", "run:a jobs", " ".join(f"run:{n}" for n in range(33))])
async def test_what_is_no_topic_is_refused(server: httpx2.AsyncClient, topics: str) -> None:
    assert (await server.get("/-/live", params={"topics": topics})).status_code == 400


async def test_somebody_elses_runs_ring_for_nobody(durably: Durably) -> None:
    order = durably.jobs["approve-order"]
    theirs = await durably.jobs["anything"].trigger("A", labels={"org": "globex"})
    over = await durably.jobs["flaky"].trigger(1, labels={"org": "globex"})
    await durably.cancel(over.id)
    web = DurablyWeb(durably, auth=TENANTS)
    async with (
        serving(web) as url,
        httpx2.AsyncClient(base_url=url, headers={"user": "acme"}, timeout=PATIENCE) as client,
        listening(client, f"runs run:{theirs.id}") as page,
    ):
        # As for a run that is not there.
        assert of_run(theirs.id, *EVERYTHING) < await page.next()
        await durably.cancel(theirs.id)
        await durably.delete_run(over.id)
        ours = await order.trigger("B", labels={"org": "acme"})
        heard = await page.until("dw-job-approve-order")
        assert not {"dw-job-anything", "dw-job-flaky"} & heard
        assert not heard & of_run(theirs.id, *EVERYTHING)
        assert page.id is not None
        assert theirs.id not in page.id
        assert ours.id not in page.id


async def test_whoever_may_not_subscribe_is_told_as_of_a_missing_run(durably: Durably) -> None:
    def refuse(ctx: str, run: object, operation: str) -> bool:
        return operation != "subscribe"

    run = await durably.jobs["approve-order"].trigger("A")
    web = DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, on_run_access=refuse))
    async with (
        serving(web) as url,
        httpx2.AsyncClient(base_url=url, headers={"user": "ada"}, timeout=PATIENCE) as client,
        listening(client, f"run:{run.id} runs") as page,
    ):
        await page.next()
        await durably.cancel(run.id)
        assert await page.until("dw-runs") == {"dw-runs", "dw-job-approve-order"}


async def test_what_is_counted_rings_at_most_every_few_seconds(
    server: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STATS_EVERY", 0.5)
    order = durably.jobs["approve-order"]
    async with listening(server, "runs") as page:
        assert "dw-stats" in await page.next()
        await order.trigger("A")
        assert "dw-stats" not in await page.next()
        assert await page.next() == {"dw-stats"}


async def test_a_stream_ends_after_its_time_and_the_browser_comes_again_at_once(
    server: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LIFE", 0.2)
    answer = await server.get("/-/live", params={"topics": "runs"})
    assert re.findall(r"retry: (\d+)", answer.text) == ["2000", "50"]


async def test_streams_are_counted(server: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 1)
    async with listening(server, "runs") as page:
        await page.next()
        refused = await server.get("/-/live", params={"topics": "runs"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "15")


def watching() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("durably-web:")}


async def gone(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def test_pages_share_what_is_watched_and_leave_nothing_behind(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with listening(server, f"runs run:{run.id}") as one, listening(server, "runs") as other:
        await one.next()
        await other.next()
        assert watching() == {"durably-web:runs", f"durably-web:run:{run.id}"}
    await gone(lambda: not watching())


async def test_the_end_of_the_instance_ends_what_is_watched(
    server: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["approve-order"].trigger("A")
    async with listening(server, f"runs run:{run.id}") as page:
        await page.next()
        await durably.close()
        # The pages fetch, and say that the database cannot be reached.
        await page.until("dw-runs", *of_run(run.id, "status"))
    await gone(lambda: not watching())


async def test_trouble_of_ours_ends_the_streams(
    server: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(durably, "subscribe_runs", broken)
    answer = await server.get("/-/live", params={"topics": "runs"})
    assert "retry: 50" in answer.text


async def test_a_thousand_changes_are_few_messages(server: httpx2.AsyncClient, durably: Durably) -> None:
    @durably.job
    async def chatter(step: StepContext, lines: int) -> None:
        for number in range(lines):
            step.log.info(str(number))
            if number % 50 == 0:
                await asyncio.sleep(0)

    run = await chatter.trigger(1000)
    async with listening(server, f"run:{run.id}") as page:
        await page.next()
        await durably.start()
        messages = 0
        heard: set[str] = set()
        await durably.wait_for_run(run.id, timeout=PATIENCE)
        while not heard.issuperset(of_run(run.id, "status", "log")):
            heard |= await page.next()
            messages += 1
        assert messages < 20


SERVED = """
import os
from contextlib import asynccontextmanager

from durably import Durably
from durably_web import DurablyWeb, allow_local
from starlette.applications import Starlette
from starlette.routing import Mount

durably = Durably(os.environ["DATABASE"], worker=False)

@asynccontextmanager
async def lifespan(app):
    async with durably:
        yield

app = Starlette(routes=[Mount("/", DurablyWeb(durably, authenticate=allow_local))], lifespan=lifespan)
"""


async def test_a_server_that_is_told_to_stop_does_not_wait_for_open_pages(tmp_path: Path) -> None:
    async with (
        starting(tmp_path, SERVED) as (url, process),
        httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as client,
        listening(client, "runs") as one,
        listening(client, "runs") as other,
    ):
        for page in (one, other):
            await page.next()
        told_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        took = time.monotonic() - told_at
        for page in (one, other):
            # Nobody is told to hurry back to a server that is gone.
            assert not any(line.startswith("retry") for line in await page.rest())
    assert took < 2, f"it took {took:.1f} s"
    # The answers were ended, not cut off.
    assert b"ERROR" not in errors, errors
