"""Event streams over a real server: what they say, where they go on, and what they leave behind."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from durably import Durably, RunFilter, StepContext
from durably_web import AuthConfig, DurablyHandler, create_durably_handler, eventstream
from durably_web.api import streams
from tests.web.jobs import import_pages
from tests.web.patience import PATIENCE
from tests.web.serving import Told, listening, serving

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
DAY = 86_400_000
DETAILS = ("step:", "log:")
"""What comes in no strict order beside the beginnings and ends of runs."""


END = ',"labels":{"org":"é"},"timestamp":"TIME","sequence":'
RUN = '"runId":"RUN","jobName":"import-pages"'
WORDS = [
    f'data: {{"type":"run:leased",{RUN},"input":{{"pages":1}},"leaseOwner":"WORKER","leaseExpiresAt":"TIME"{END}0}}',
    f'data: {{"type":"log:write",{RUN},"stepName":null,"level":"info","message":"started","data":{{"pages":1}}{END}1}}',
    f'data: {{"type":"step:complete",{RUN},"stepName":"page-0","stepIndex":0,"output":100,"duration":MS{END}3}}',
    f'data: {{"type":"log:write",{RUN},"stepName":null,"level":"warn","message":"done"{END}4}}',
    f'data: {{"type":"run:complete",{RUN},"output":{{"rows":100}},"duration":MS{END}0}}',
]
PROGRESS = (
    f'data: {{"type":"run:progress",{RUN},"progress":{{"current":1,"total":1,"message":"page 1"}}{END}0}}'
)


async def by_header(request: Request) -> str:
    return request.headers.get("org", "anybody")


AUTH = AuthConfig(authenticate=by_header)


@pytest.fixture
def handler(durably: Durably) -> DurablyHandler[str]:
    durably.register(import_pages)
    return create_durably_handler(durably, auth=AUTH)


@pytest.fixture
async def url(handler: DurablyHandler[str]) -> AsyncIterator[str]:
    async with serving(handler) as url:
        yield url


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        yield client


def types(told: list[Told]) -> list[str | None]:
    return [one.type for one in told]


def masked(lines: list[str], run_id: str) -> list[str]:
    """What was said, with all that differs each time made equal; heartbeats left out."""
    text = "\n".join(line for line in lines if not line.startswith(":")).replace(run_id, "RUN")
    text = INSTANT.sub("TIME", text)
    text = re.sub(r'"leaseOwner":"[^"]*"', '"leaseOwner":"WORKER"', text)
    # Of a run that ended at once nobody saw the lease.
    text = text.replace('"leaseExpiresAt":""', '"leaseExpiresAt":"TIME"')
    text = re.sub(r'"duration":\d+', '"duration":MS', text)
    return re.sub(r"^id: [\d.]+$", "id: ID", text, flags=re.MULTILINE).split("\n")


async def quiet(condition: Callable[[], bool]) -> None:
    """Wait until it is so: servers hear of a client's going a little later."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


# One run


async def test_a_run_is_told_word_for_word(durably: Durably, url: str, client: httpx2.AsyncClient) -> None:
    run = await durably.register(import_pages).trigger({"pages": 1}, labels={"org": "é"})
    async with listening(client, f"{url}/subscribe?runId={run.id}") as ears:
        assert (await ears.next()) == Told(retry=2000)
        await durably.start()
        await ears.rest()
    assert ears.response.status_code == 200
    assert ears.response.headers["content-type"] == "text/event-stream"
    assert ears.response.headers["cache-control"] == "no-cache, no-store, no-transform"
    assert ears.response.headers["x-accel-buffering"] == "no"
    lines = [line for line in masked(ears.raw, run.id) if line.startswith("data")]
    # Progress stands in the run's row, not among steps and lines: it has no place in their order.
    assert [line for line in lines if "progress" not in line] == WORDS
    assert [line for line in lines if "progress" in line] == [PROGRESS]
    assert masked(ears.raw, run.id)[-4:] == ["id: ID", WORDS[-1], f"retry: {DAY}", ""]


async def test_a_run_that_had_ended_is_told_from_its_start_its_end_last(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    handle = durably.register(import_pages)
    failed = await handle.trigger({"pages": 1, "fail": True})
    await durably.process_until_idle()
    cancelled = await handle.trigger({"pages": 1})
    await durably.cancel(cancelled.id)

    async with listening(client, f"{url}/subscribe?runId={failed.id}") as ears:
        told = await ears.rest()
    assert types(told) == ["log:write", "step:complete", "log:write", "run:fail"]
    assert (told[-1].data["error"], told[-1].data["failedStepName"]) == ("the last page is torn", "unknown")
    assert told[-1].retry == DAY
    async with listening(client, f"{url}/subscribe?runId={cancelled.id}") as ears:
        assert types(await ears.rest()) == ["run:cancel"]


async def test_a_failed_step_is_named(durably: Durably, url: str, client: httpx2.AsyncClient) -> None:
    @durably.job
    async def torn(step: StepContext, text: str) -> None:
        async def tear() -> None:
            raise ValueError(text)

        await step.run("tear", tear)

    run = await torn.trigger("torn in two")
    await durably.process_until_idle()
    async with listening(client, f"{url}/subscribe?runId={run.id}") as ears:
        step, end = await ears.rest()
    assert (step.type, step.data["error"], step.data["stepIndex"]) == ("step:fail", "torn in two", 0)
    assert (end.type, end.data["failedStepName"]) == ("run:fail", "tear")


async def test_whoever_comes_in_the_middle_hears_how_things_stand_and_what_there_was(
    durably: Durably, url: str, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    run = await durably.register(import_pages).trigger({"pages": 3, "hold": str(hold)})
    async with listening(client, f"{url}/subscribe?runId={run.id}") as first:
        await durably.start()
        while (await first.until("run:progress"))[-1].data["progress"]["current"] != 2:
            pass
        async with listening(client, f"{url}/subscribe?runId={run.id}") as second:
            told = await second.until("log:write")
            assert types(told) == ["run:leased", "run:progress", "log:write"]
            assert told[1].data["progress"] == {"current": 2, "total": 3, "message": "page 2"}
            # The connection breaks after a line, and the client comes back: nothing twice, nothing missing.
            assert told[-1].id is not None
        async with listening(client, f"{url}/subscribe?runId={run.id}", last_id=second.last_id) as third:
            assert types(await third.until("run:progress")) == ["run:leased", "run:progress"]
            hold.touch()
            rest = await third.rest()
        entries = [one for one in rest if one.type in {"step:complete", "log:write"}]
        assert [one.data.get("stepName") or one.data.get("message") for one in entries] == [
            "page-0", "page-1", "page-2", "done",
        ]  # fmt: skip
        assert rest[-1].type == "run:complete"
        finished = await client.get(
            f"{url}/subscribe?runId={run.id}", headers={"last-event-id": third.last_id or ""}
        )
        assert (finished.status_code, finished.content) == (204, b"")
        # Whoever broke off before the end hears of it.
        async with listening(client, f"{url}/subscribe?runId={run.id}", last_id=entries[-1].id) as fourth:
            assert types(await fourth.rest()) == ["run:progress", "run:complete"]
        async with listening(client, f"{url}/subscribe?runId={run.id}", last_id=entries[0].id) as fifth:
            assert types(await fifth.rest()) == [
                "step:complete", "step:complete", "log:write", "run:progress", "run:complete",
            ]  # fmt: skip


@pytest.mark.parametrize("last_id", ["", "x", "1", "1.2.3", "-1.0", "9" * 30 + ".1", "1.-1", "²."])
async def test_an_id_that_is_none_of_ours_begins_anew(
    durably: Durably, url: str, client: httpx2.AsyncClient, last_id: str
) -> None:
    run = await durably.register(import_pages).trigger({"pages": 1})
    await durably.cancel(run.id)
    async with client.stream(
        "GET", f"{url}/subscribe?runId={run.id}", headers={b"last-event-id": last_id.encode()}
    ) as answer:
        assert answer.status_code == 200
    async with client.stream(
        "GET", f"{url}/runs/subscribe", headers={b"last-event-id": last_id.encode()}
    ) as answer:
        assert answer.status_code == 200


async def test_a_run_that_is_deleted_while_watched_is_told_so(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    run = await durably.register(import_pages).trigger({"pages": 1})
    async with listening(client, f"{url}/subscribe?runId={run.id}") as ears:
        await ears.next()
        await durably.cancel(run.id)
        await durably.delete_run(run.id)
        (last,) = await ears.rest()
    # Whether anybody looked in between is not for us to say.
    assert last.type in {"run:cancel", "run:delete"}
    assert (last.data["runId"], last.retry) == (run.id, DAY)
    gone = await client.get(f"{url}/subscribe?runId={run.id}")
    assert gone.status_code == 404


async def test_progress_is_throttled_and_its_last_told_before_the_end(durably: Durably) -> None:
    told_at_all = 50

    @durably.job
    async def busy(step: StepContext, text: str) -> None:
        for number in range(told_at_all):
            step.progress(number + 1, told_at_all)
            await asyncio.sleep(0.01)

    run = await busy.trigger("x")
    handler = create_durably_handler(durably, auth=AUTH, sse_throttle_ms=59_000)
    async with (
        serving(handler) as url,
        httpx2.AsyncClient(timeout=PATIENCE) as client,
        listening(client, f"{url}/subscribe?runId={run.id}") as ears,
    ):
        await durably.start()
        told = await ears.rest()
    numbers = [one.data["progress"]["current"] for one in told if one.type == "run:progress"]
    assert len(numbers) == 2
    assert numbers[-1] == told_at_all
    assert types(told)[-2:] == ["run:progress", "run:complete"]
    # A progress that was held back would lead its client back.
    assert {one.id for one in told if one.type == "run:progress"} == {None} != {told[-1].id}


async def test_a_held_progress_is_told_when_its_window_ends(
    durably: Durably, url: str, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    run = await durably.register(import_pages).trigger({"pages": 4, "hold": str(hold)})
    async with listening(client, f"{url}/subscribe?runId={run.id}") as ears:
        await durably.start()
        while (await ears.until("run:progress"))[-1].data["progress"]["current"] != 3:
            pass
        hold.touch()
        assert (await ears.rest())[-1].type == "run:complete"


async def test_a_stream_ends_after_a_while_and_its_client_goes_on_at_once(
    durably: Durably, url: str, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIFE", 0.05)
    run = await durably.register(import_pages).trigger({"pages": 1})
    async with listening(client, f"{url}/subscribe?runId={run.id}") as ears:
        assert [await ears.next(), await ears.next(), await ears.next()] == [
            Told(retry=2000),
            Told(retry=50),
            None,
        ]


async def test_a_silent_stream_has_a_heartbeat(
    durably: Durably, url: str, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.02)
    monkeypatch.setattr(streams, "LIFE", 0.2)
    run = await durably.register(import_pages).trigger({"pages": 1})
    async with listening(client, f"{url}/subscribe?runId={run.id}") as ears:
        await ears.rest()
    assert ": heartbeat" in ears.raw


# Lists


async def test_a_list_is_told_of_each_run_from_now_on(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    handle = durably.register(import_pages)
    before = await handle.trigger({"pages": 1})
    async with listening(client, f"{url}/runs/subscribe?jobName=import-pages", deaf_to=DETAILS) as ears:
        opening = await ears.next()
        assert opening is not None
        assert (opening.retry, opening.data) == (2000, {})
        run = await handle.trigger({"pages": 1}, labels={"org": "é"})
        (triggered,) = await ears.until("run:trigger")
        assert triggered.data == {
            "type": "run:trigger", "runId": run.id, "jobName": "import-pages", "labels": {"org": "é"},
        }  # fmt: skip
        await durably.cancel(before.id)
        cancelled = await ears.next()
        assert cancelled is not None
        assert cancelled.data == {
            "type": "run:cancel", "runId": before.id, "jobName": "import-pages", "labels": {},
        }  # fmt: skip
        await durably.start()
        told = await ears.until("run:complete")
        assert types(told) == ["run:leased", "run:progress", "run:complete"]
        assert told[1].data["progress"] == {"current": 1, "total": 1, "message": "page 1"}
        assert [set(one.data) for one in told] == [
            {"type", "runId", "jobName", "labels"},
            {"type", "runId", "jobName", "labels", "progress"},
            {"type", "runId", "jobName", "labels"},
        ]
        new = await durably.retrigger(run.id)
        again = await ears.next()
        assert again is not None
        assert (again.type, again.data["runId"]) == ("run:trigger", new.id)


async def test_a_progress_is_no_place_to_go_on_from(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    gate = asyncio.Event()

    @durably.job
    async def slow(step: StepContext, value: int) -> None:
        step.progress(1, 2)
        await gate.wait()

    async with listening(client, f"{url}/runs/subscribe") as ears:
        await ears.next()
        await durably.start()
        await slow.trigger(1)
        told = await ears.until("run:progress")
        assert told[-1].id is None
        gate.set()
        assert (await ears.until("run:complete"))[-1].id is not None


async def test_why_a_run_failed_is_not_told_to_a_list(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    handle = durably.register(import_pages)
    async with listening(client, f"{url}/runs/subscribe", deaf_to=DETAILS) as ears:
        await ears.next()
        await durably.start()
        await handle.trigger({"pages": 1, "fail": True})
        told = await ears.until("run:fail")
    assert set(told[-1].data) == {"type", "runId", "jobName", "labels"}


async def test_a_list_is_told_of_steps_and_lines_too(
    durably: Durably, url: str, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    handle = durably.register(import_pages)
    await durably.start()
    before = await handle.trigger({"pages": 3, "hold": str(hold)}, labels={"org": "x"})
    async with listening(client, f"{url}/subscribe?runId={before.id}") as ears:
        while (await ears.until("step:complete"))[-1].data["stepIndex"] != 1:
            pass
        await ears.until("step:start")
    other = await handle.trigger({"pages": 1, "hold": str(hold)})

    async with listening(client, f"{url}/runs/subscribe?label.org=x") as ears:
        await ears.next()
        await quiet(lambda: watches(durably) == 3)
        hold.touch()
        told = await ears.until("run:complete")
        while not {"step:complete", "log:write"} <= set(types(told)):
            one = await ears.next()
            assert one is not None
            told.append(one)
    # Of the other one nothing, and nothing of what was over before.
    assert {one.data["runId"] for one in told} == {before.id} != {other.id}
    (step,) = [one.data for one in told if one.type == "step:complete"]
    assert step == {
        "type": "step:complete", "runId": before.id, "jobName": "import-pages", "stepName": "page-2",
        "stepIndex": 2, "labels": {"org": "x"},
    }  # fmt: skip
    (line,) = [one.data for one in told if one.type == "log:write"]
    assert line == {
        "type": "log:write", "runId": before.id, "jobName": "import-pages", "stepName": None, "level": "warn",
        "message": "done", "labels": {"org": "x"},
    }  # fmt: skip


async def test_a_list_is_filtered_by_jobs_and_labels(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    @durably.job
    async def other(step: StepContext, text: str) -> None: ...

    @durably.job
    async def third(step: StepContext, text: str) -> None: ...

    query = "jobName=other&jobName=third&label.org=x"
    async with listening(client, f"{url}/runs/subscribe?{query}") as ears:
        await ears.next()
        for handle in (other, third):
            await handle.trigger("x")
        await durably.register(import_pages).trigger({"pages": 1}, labels={"org": "x"})
        await other.trigger("x", labels={"org": "y"})
        wanted = [await handle.trigger("x", labels={"org": "x"}) for handle in (other, third)]
        told = [await ears.next(), await ears.next()]
    assert [one.data["runId"] for one in told if one] == [run.id for run in wanted]


async def test_what_leaves_no_row_is_told_where_it_happens(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    handle = durably.register(import_pages)
    run = await handle.trigger({"pages": 1}, concurrency_key="k", labels={"org": "x"})
    async with listening(client, f"{url}/runs/subscribe?label.org=x") as ears:
        await ears.next()
        await handle.trigger({"pages": 7}, concurrency_key="k", coalesce="skip")
        joined = await ears.next()
        # What was skipped may be somebody else's.
        assert joined is not None
        assert joined.data == {
            "type": "run:coalesced", "runId": run.id, "jobName": "import-pages", "labels": {"org": "x"},
        }  # fmt: skip
        await durably.cancel(run.id)
        await ears.until("run:cancel")
        await durably.delete_run(run.id)
        gone = await ears.next()
    assert gone is not None
    assert gone.data == {
        "type": "run:delete", "runId": run.id, "jobName": "import-pages", "labels": {"org": "x"},
    }  # fmt: skip


async def test_a_list_goes_on_where_it_broke_off(
    durably: Durably, url: str, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    hold = tmp_path / "go"
    handle = durably.register(import_pages)
    await durably.start()
    started = await handle.trigger({"pages": 2, "hold": str(hold)})
    async with listening(client, f"{url}/runs/subscribe", deaf_to=DETAILS) as ears:
        await ears.next()
        seen = await handle.trigger({"pages": 1})
        told = await ears.until("run:complete")
        assert {one.data["runId"] for one in told if one.type == "run:trigger"} == {seen.id}
    missed = await handle.trigger_and_wait({"pages": 1})
    hold.touch()
    await durably.wait_for_run(started.id)
    async with listening(client, f"{url}/runs/subscribe", last_id=ears.last_id, deaf_to=DETAILS) as ears:
        told = await ears.until("run:complete") + await ears.until("run:complete")
    of_missed = [one for one in told if one.data["runId"] == missed.id]
    of_started = [one for one in told if one.data["runId"] == started.id]
    assert types(of_missed) == ["run:trigger", "run:leased", "run:progress", "run:complete"]
    # A client that breaks off among them has not seen the run's change yet.
    assert [one.id is not None for one in of_missed] == [False, False, False, True]
    # It was not triggered meanwhile, nor did it begin: a client that follows the latest run stays where it is.
    assert types(of_started)[-1] == "run:complete"
    assert not {"run:trigger", "run:leased"} & set(types(of_started))
    assert {one.data["runId"] for one in told} == {missed.id, started.id}


async def test_an_id_of_a_database_that_was_replaced_goes_on_from_its_moment(
    durably: Durably, url: str, client: httpx2.AsyncClient
) -> None:
    handle = durably.register(import_pages)
    await durably.cancel((await handle.trigger({"pages": 1})).id)
    await asyncio.sleep(0.002)
    moment = int(durably.environment.now() * 1000)
    missed = await handle.trigger({"pages": 1})
    async with listening(client, f"{url}/runs/subscribe", last_id=f"99999999.{moment}") as ears:
        (told,) = await ears.until("run:trigger")
        assert told.data["runId"] == missed.id
        run = await handle.trigger({"pages": 1})
        (told,) = await ears.until("run:trigger")
        assert told.data["runId"] == run.id


async def test_a_list_never_tells_of_another_tenants_runs(durably: Durably) -> None:
    def own(org: str, asked: RunFilter) -> RunFilter:
        return asked.and_labels(org=org)

    handle = durably.register(import_pages)
    handler = create_durably_handler(durably, auth=AuthConfig(authenticate=by_header, scope_runs=own))
    async with serving(handler) as url, httpx2.AsyncClient(timeout=PATIENCE) as client:
        for query in ("", "?label.org=theirs", "?jobName=import-pages"):
            async with listening(client, f"{url}/runs/subscribe{query}", org="ours") as ears:
                await ears.next()
                theirs = await handle.trigger(
                    {"pages": 1}, labels={"org": "theirs"}, concurrency_key=query or "k"
                )
                await handle.trigger({"pages": 1}, concurrency_key=query or "k", coalesce="skip")
                await durably.cancel(theirs.id)
                await durably.delete_run(theirs.id)
                ours = await handle.trigger({"pages": 1}, labels={"org": "ours"})
                if query != "?label.org=theirs":
                    told = await ears.next()
                    assert told is not None
                    assert told.data["runId"] == ours.id


async def test_a_list_tells_no_step_of_a_run_outside_of_its_scope(durably: Durably, tmp_path: Path) -> None:
    def ended(org: str, asked: RunFilter) -> RunFilter:
        return asked & RunFilter(status=("completed",))

    handle = durably.register(import_pages)
    handler = create_durably_handler(durably, auth=AuthConfig(authenticate=by_header, scope_runs=ended))
    async with (
        serving(handler) as url,
        httpx2.AsyncClient(timeout=PATIENCE) as client,
        listening(client, f"{url}/runs/subscribe") as ears,
    ):
        await ears.next()
        await durably.start()
        await handle.trigger_and_wait({"pages": 3})
        told = await ears.until("run:complete")
    assert not {one.type for one in told} & {"step:start", "step:complete", "log:write"}


# What is left


async def test_a_client_that_goes_leaves_nothing_behind(
    handler: DurablyHandler[str], durably: Durably, url: str
) -> None:
    def tasks() -> set[str]:
        # The server's own, and the one watch for its end that sse-starlette keeps on each loop.
        ours = {task.get_name() for task in asyncio.all_tasks() if "durably" in repr(task.get_coro())}
        return {name for name in ours if "test" not in name}

    run = await durably.register(import_pages).trigger({"pages": 1})
    # The first subscription makes the instance listen to its own events, for good.
    await anext(durably.subscribe(run.id))
    before = (tasks(), watches(durably), handlers(durably))
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        for path in (f"subscribe?runId={run.id}", "runs/subscribe"):
            for _ in range(3):
                async with listening(client, f"{url}/{path}") as ears:
                    await ears.next()
                    await quiet(lambda: watches(durably) == 1)
                    assert handler.streams.open == 1
                await quiet(lambda: handler.streams.open == 0)
    await quiet(lambda: watches(durably) == 0)
    assert (watches(durably), handlers(durably)) == before[1:]
    await quiet(lambda: tasks() <= before[0])


def watches(durably: Durably) -> int:
    return len(durably._waiters._watches)  # pyright: ignore[reportPrivateUsage]


def handlers(durably: Durably) -> int:
    known = durably._bus._handlers  # pyright: ignore[reportPrivateUsage]
    return len(known["run:coalesced"]) + len(known["run:delete"])


async def test_a_client_that_does_not_read_is_dropped_and_holds_nothing_up(
    handler: DurablyHandler[str], durably: Durably, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventstream, "PATIENCE", 0.2)

    @durably.job
    async def talkative(step: StepContext, lines: int) -> None:
        for number in range(lines):
            step.log.info("x" * 30_000, number=number)

    await durably.start()
    run = await talkative.trigger(400)
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /subscribe?runId={run.id} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await reader.readline()
    await durably.wait_for_run(run.id)
    await quiet(lambda: handler.streams.open == 0)
    assert watches(durably) == 0
    writer.close()


async def test_there_are_so_many_streams_and_no_more(
    handler: DurablyHandler[str], durably: Durably, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 1)
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        async with listening(client, f"{url}/runs/subscribe") as ears:
            await ears.next()
            refused = await client.get(f"{url}/runs/subscribe")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        await quiet(lambda: handler.streams.open == 0)
        async with listening(client, f"{url}/runs/subscribe") as ears:
            assert await ears.next() is not None


async def test_a_closed_instance_ends_its_streams(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    durably = Durably(f"sqlite:///{tmp_path}/app.db", polling_interval=60)
    await durably.migrate()
    handler = create_durably_handler(durably, auth=AUTH)
    async with (
        serving(handler) as url,
        httpx2.AsyncClient(timeout=PATIENCE) as client,
        listening(client, f"{url}/runs/subscribe") as ears,
    ):
        await ears.next()
        await quiet(lambda: watches(durably) == 1)
        await durably.close()
        assert await ears.rest() == []
    assert not [record for record in caplog.records if record.name.startswith("durably")]
