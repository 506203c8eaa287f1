"""The JSON half of the HTTP interface, byte for byte."""

import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp

from durably import ConfigurationError, Durably, Run, RunFilter, StepContext
from durably_web import AuthConfig, DurablyHandler, create_durably_handler
from tests.core.unchecked import unchecked
from tests.web.jobs import Pages, import_pages

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def anybody(request: Request) -> str:
    return "anybody"


OPEN = AuthConfig(authenticate=anybody)


@pytest.fixture
async def handler(durably: Durably) -> DurablyHandler[str]:
    durably.register(import_pages)
    return create_durably_handler(durably, auth=OPEN)


def client_of(app: ASGIApp) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=unchecked(app))
    return httpx2.AsyncClient(transport=transport, base_url="http://app.example")


@pytest.fixture
async def client(handler: DurablyHandler[str]) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(handler) as client:
        client.headers["sec-fetch-site"] = "same-origin"
        yield client


async def trigger(client: httpx2.AsyncClient, **body: object) -> httpx2.Response:
    return await client.post("/trigger", json={"jobName": "import-pages", "input": {"pages": 1}, **body})


def masked(text: str) -> str:
    """The same with ids and instants made equal."""
    return re.sub(r"[0-9A-Z]{26}|[0-9a-f-]{36}", "ID", INSTANT.sub("TIME", text))


async def test_a_trigger_answers_the_run_and_what_was_done(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    first = await trigger(client, idempotencyKey="a", concurrencyKey="c", labels={"org": "x"})
    again = await trigger(client, idempotencyKey="a")
    joined = await trigger(client, concurrencyKey="c", coalesce="skip")
    (run,) = await durably.get_runs()

    assert first.status_code == 200
    assert first.headers["content-type"] == "application/json"
    assert first.text == f'{{"runId":"{run.id}","disposition":"created"}}'
    assert again.text == f'{{"runId":"{run.id}","disposition":"idempotent"}}'
    assert joined.text == f'{{"runId":"{run.id}","disposition":"coalesced"}}'
    assert (run.idempotency_key, run.concurrency_key, run.labels) == ("a", "c", {"org": "x"})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("{}", 400, "jobName is required"),
        ('{"jobName":""}', 400, "jobName is required"),
        ('{"jobName":1}', 400, "jobName is required"),
        ('{"jobName":"nobody"}', 404, "Job not found: nobody"),
        ('{"jobName":"\\ud800"}', 404, "Job not found: \ud800"),
        ("", 400, "The body must be JSON"),
        ('{"jobName"', 400, "The body must be JSON"),
        ('{"jobName":"import-pages","input":NaN}', 400, "The body must be JSON"),
        ('{"jobName":"import-pages","input":' + "9" * 5000 + "}", 400, "The body must be JSON"),
        ("[" * 100_000, 400, "The body must be JSON"),
        ("\xff", 400, "The body must be JSON"),
        ("[]", 400, "The body must be a JSON object"),
        ('{"jobName":"import-pages","labels":["a"]}', 400, "labels must be an object of strings"),
        ('{"jobName":"import-pages","input":{"pages":1},"labels":{"a b":"c"}}', 400, "labels: 'a b' is no"),
        ('{"jobName":"import-pages","input":{"pages":1},"labels":{"a":1}}', 400, "labels: the value of 'a'"),
        ('{"jobName":"import-pages","input":{"pages":1},"idempotencyKey":1}', 400, "idempotency_key must"),
        ('{"jobName":"import-pages","input":{"pages":1},"coalesce":["skip"]}', 400, "coalesce must be"),
        ('{"jobName":"import-pages","input":{"pages":1},"coalesce":"skip"}', 400, "coalesce needs a"),
        ('{"jobName":"import-pages","input":{"pages":"many"}}', 400, "the input of job 'import-pages'"),
        ('{"jobName":"import-pages"}', 400, "the input of job 'import-pages'"),
        ('{"jobName":"' + "x" * 1_300_000 + '"}', 413, "The body has more than"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_trigger_that_cannot_be_understood_is_refused(
    client: httpx2.AsyncClient, durably: Durably, body: str, status: int, message: str
) -> None:
    answer = await client.post("/trigger", content=body.encode("latin-1"))
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)
    assert list(answer.json()) == ["error"]
    assert await durably.get_runs() == []


async def test_a_key_that_is_waited_for_is_a_conflict(client: httpx2.AsyncClient) -> None:
    await trigger(client, concurrencyKey="c")
    answer = await trigger(client, concurrencyKey="c", coalesce="reject")
    assert answer.status_code == 409
    assert answer.json()["error"].startswith("Cannot trigger 'import-pages': run ")


async def test_a_run_is_shown_as_the_reference_shows_it(client: httpx2.AsyncClient, durably: Durably) -> None:
    waiting = (await trigger(client, idempotencyKey="a", concurrencyKey="c", labels={"org": "é"})).json()
    shown = await client.get("/run", params={"runId": waiting["runId"]})
    assert masked(shown.text) == (
        '{"id":"ID","jobName":"import-pages","input":{"pages":1},"status":"pending","currentStepIndex":0,'
        '"completedStepCount":0,"progress":null,"output":null,"error":null,"labels":{"org":"é"},'
        '"startedAt":null,"completedAt":null,"createdAt":"TIME","isTerminal":false,"isActive":true}'
    )
    await durably.process_until_idle()
    shown = await client.get("/run", params={"runId": waiting["runId"]})
    assert masked(shown.text) == (
        '{"id":"ID","jobName":"import-pages","input":{"pages":1},"status":"completed","currentStepIndex":1,'
        '"completedStepCount":1,"progress":{"current":1,"total":1,"message":"page 1"},"output":{"rows":100},'
        '"error":null,"labels":{"org":"é"},"startedAt":"TIME","completedAt":"TIME","createdAt":"TIME",'
        '"isTerminal":true,"isActive":false}'
    )


async def test_a_failed_runs_error_is_its_message(client: httpx2.AsyncClient, durably: Durably) -> None:
    await trigger(client, input={"pages": 1, "fail": True})
    await durably.process_until_idle()
    (shown,) = (await client.get("/runs")).json()
    assert (shown["status"], shown["error"], shown["output"]) == ("failed", "the last page is torn", None)


async def test_a_run_that_begun_is_leased_on_the_wire_waiting_ones_too(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    @durably.job
    async def approve(step: StepContext, question: str) -> None:
        await step.wait_for_signal("approved", type(None))

    run = await approve.trigger("?")
    await durably.process_until_idle()
    present = await durably.get_run(run.id)
    assert present is not None
    assert present.status == "waiting"

    shown = (await client.get("/run", params={"runId": run.id})).json()
    assert (shown["status"], shown["isActive"], shown["isTerminal"]) == ("leased", True, False)
    found = await client.get("/runs", params={"status": "leased"})
    assert [one["id"] for one in found.json()] == [run.id]
    # What is waited for has not ended, so it is no step yet.
    assert (await client.get("/steps", params={"runId": run.id})).json() == []
    refused = await client.post("/retrigger", params={"runId": run.id})
    assert (refused.status_code, refused.json()) == (409, {"error": f"Cannot retrigger leased run: {run.id}"})


async def test_steps_are_listed_as_the_reference_lists_them(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    @durably.job
    async def two(step: StepContext, text: str) -> None:
        async def fail() -> None:
            raise ValueError("torn")

        await step.run("first", lambda: text)
        await step.run("second", fail)

    run = await two.trigger("text")
    await durably.process_until_idle()
    answer = await client.get("/steps", params={"runId": run.id})
    assert masked(answer.text).replace("ID-", "ID/") == (
        '[{"id":"ID/0","runId":"ID","name":"first","index":0,"status":"completed","output":"text","error":null,'
        '"startedAt":"TIME","completedAt":"TIME"},'
        '{"id":"ID/1","runId":"ID","name":"second","index":1,"status":"failed","output":null,"error":"torn",'
        '"startedAt":"TIME","completedAt":"TIME"}]'
    )


async def test_runs_are_a_bare_list_filtered_by_repeated_parameters(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    @durably.job
    async def other(step: StepContext, text: str) -> None: ...

    for number in range(3):
        await trigger(client, labels={"number": str(number), "app.kind/x": "k"})
    third = await other.trigger("x")
    await durably.cancel(third.id)

    async def ids(query: str) -> list[str]:
        answer = await client.get(f"/runs?{query}")
        assert answer.status_code == 200, answer.text
        return [run["labels"].get("number", "-") for run in answer.json()]

    assert await ids("") == ["-", "2", "1", "0"]
    assert await ids("jobName=other") == ["-"]
    assert await ids("jobName=other&jobName=import-pages") == ["-", "2", "1", "0"]
    assert await ids("status=pending") == ["2", "1", "0"]
    assert await ids("status=cancelled&status=pending") == ["-", "2", "1", "0"]
    assert await ids("status=leased") == []
    assert await ids("label.number=1&label.app.kind/x=k") == ["1"]
    assert await ids("label.number=1&label.app.kind/x=other") == []
    assert await ids("limit=2") == ["-", "2"]
    assert await ids("limit=2&offset=1") == ["2", "1"]
    assert await ids("offset=3") == ["0"]
    assert await ids("offset=4") == []
    assert await ids("limit=0") == []
    assert await ids("limit=") == ["-", "2", "1", "0"]
    assert (await client.get("/runs?limit=0")).text == "[]"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "status=",
            "Invalid status: empty value. Must be one of: pending, leased, completed, failed, cancelled",
        ),
        ("status=pending&status=", "Invalid status: empty value."),
        (
            "status=pending&status=running",
            "Invalid status: running. Must be one of: pending, leased, completed",
        ),
        ("limit=-1", "Invalid limit: must be a non-negative integer"),
        ("limit=ten", "Invalid limit: must be a non-negative integer"),
        ("limit=²", "Invalid limit: must be a non-negative integer"),
        ("offset=-1", "Invalid offset: must be a non-negative integer"),
        ("offset=99999999999999999999", "Invalid offset: must be a non-negative integer"),
        ("offset=100001", "Invalid offset: must be at most 100000"),
        ("label.a b=c", "labels: 'a b' is no label key"),
    ],
)
async def test_a_filter_that_cannot_be_used_is_refused(
    client: httpx2.AsyncClient, query: str, message: str
) -> None:
    answer = await client.get(f"/runs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


async def test_a_list_never_holds_more_than_200(client: httpx2.AsyncClient, durably: Durably) -> None:
    handle = durably.register(import_pages)
    await handle.batch_trigger([Pages(pages=1)] * 201)
    assert len((await client.get("/runs")).json()) == 200
    assert len((await client.get("/runs?limit=1000000")).json()) == 200


async def test_changes_answer_success(client: httpx2.AsyncClient, durably: Durably) -> None:
    run_id = (await trigger(client)).json()["runId"]
    cancelled = await client.post("/cancel", params={"runId": run_id})
    assert (cancelled.status_code, cancelled.text) == (200, '{"success":true}')
    again = await client.post("/cancel", params={"runId": run_id})
    assert (again.status_code, again.json()) == (409, {"error": f"Cannot cancel cancelled run: {run_id}"})

    retriggered = await client.post("/retrigger", params={"runId": run_id})
    newest = (await durably.get_runs())[0]
    assert retriggered.text == f'{{"success":true,"runId":"{newest.id}"}}'
    early = await client.post("/retrigger", params={"runId": newest.id})
    assert (early.status_code, early.json()) == (409, {"error": f"Cannot retrigger pending run: {newest.id}"})
    undeletable = await client.delete("/run", params={"runId": newest.id})
    assert (undeletable.status_code, undeletable.json()) == (
        409,
        {"error": f"Cannot delete pending run: {newest.id}"},
    )

    deleted = await client.delete("/run", params={"runId": run_id})
    assert (deleted.status_code, deleted.text) == (200, '{"success":true}')
    assert [run.id for run in await durably.get_runs()] == [newest.id]


async def test_a_run_whose_job_is_gone_is_not_retriggered(
    client: httpx2.AsyncClient, durably: Durably, tmp_path: Any
) -> None:
    async with Durably(f"sqlite:///{tmp_path}/app.db", worker=False) as elsewhere:

        @elsewhere.job
        async def gone(step: StepContext, text: str) -> None: ...

        run = await gone.trigger("x")
        await elsewhere.cancel(run.id)
    answer = await client.post("/retrigger", params={"runId": run.id})
    assert (answer.status_code, answer.json()) == (404, {"error": "Unknown job: gone"})


ENDPOINTS = [
    ("GET", "/run"),
    ("GET", "/steps"),
    ("GET", "/subscribe"),
    ("POST", "/retrigger"),
    ("POST", "/cancel"),
    ("DELETE", "/run"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_a_run_must_be_named_and_must_exist(client: httpx2.AsyncClient, method: str, path: str) -> None:
    for query in ("", "?runId="):
        answer = await client.request(method, path + query)
        assert (answer.status_code, answer.text) == (400, '{"error":"runId query parameter is required"}')
    answer = await client.request(method, f"{path}?runId=unknown")
    assert (answer.status_code, answer.text) == (404, '{"error":"Run not found"}')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/trigger"),
        ("POST", "/runs"),
        ("GET", "/runs/1"),
        ("HEAD", "/runs"),
        ("PUT", "/run"),
    ],
)
async def test_anything_else_is_not_found(client: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 404
    assert answer.text == ("" if method == "HEAD" else "Not Found")


async def test_it_stands_wherever_it_is_mounted(handler: DurablyHandler[str]) -> None:
    inner = Starlette(routes=[Mount("/api/durably", app=handler)])
    async with client_of(Starlette(routes=[Mount("/outer", app=inner)])) as client:
        assert (await client.get("/outer/api/durably/runs")).text == "[]"
        assert (await client.get("/outer/api/durably/runs/")).text == "[]"
        assert (await client.get("/outer/api/durably/run")).status_code == 400
        assert (await client.get("/outer/api/durably/api/durably/runs")).status_code == 404


# Who may


@pytest.mark.parametrize("auth", [None, object()])
def test_it_does_not_start_without_authentication(auth: object) -> None:
    with pytest.raises(ConfigurationError, match="authenticate=allow_local"):
        unchecked(create_durably_handler)(Durably(":memory:"), auth=auth)


@pytest.mark.parametrize("milliseconds", [-1, 60_001, True])
def test_a_window_of_the_throttle_must_be_one(milliseconds: int) -> None:
    with pytest.raises(ConfigurationError, match="sse_throttle_ms"):
        create_durably_handler(Durably(":memory:"), auth=OPEN, sse_throttle_ms=milliseconds)


async def test_a_refused_request_reaches_nothing(durably: Durably) -> None:
    heard: list[str] = []

    async def authenticate(request: Request) -> str | Response | None:
        match request.headers.get("who"):
            case "teapot":
                raise HTTPException(418, "I am a teapot", headers={"x-tea": "oolong"})
            case "guest":
                return RedirectResponse("/login")
            case who:
                return who

    handler = create_durably_handler(
        durably, auth=AuthConfig(authenticate=authenticate), on_request=lambda: heard.append("asked")
    )
    async with client_of(handler) as client:
        nobody = await client.get("/runs")
        assert (nobody.status_code, nobody.text) == (401, '{"error":"Unauthorized"}')
        teapot = await client.get("/runs", headers={"who": "teapot"})
        assert (teapot.status_code, teapot.text) == (418, '{"error":"I am a teapot"}')
        assert teapot.headers["x-tea"] == "oolong"
        guest = await client.get("/runs", headers={"who": "guest"})
        assert (guest.status_code, guest.headers["location"]) == (307, "/login")
        assert (await client.get("/nothing-here")).status_code == 401
        assert not heard
        assert (await client.get("/runs", headers={"who": "me"})).text == "[]"
        assert heard == ["asked"]


async def test_a_page_of_another_site_changes_nothing(handler: DurablyHandler[str], durably: Durably) -> None:
    body = {"jobName": "import-pages", "input": {"pages": 1}}
    run_id = (await durably.register(import_pages).trigger({"pages": 1})).id
    async with client_of(handler) as client:
        # A plain form can send this.
        form = await client.post("/trigger", content=json.dumps(body), headers={"content-type": "text/plain"})
        link = await client.post(f"/cancel?runId={run_id}")
        other = await client.post("/trigger", json=body, headers={"origin": "https://evil.example"})
        site = await client.post("/trigger", json=body, headers={"sec-fetch-site": "same-site"})
        assert {one.status_code for one in (form, link, other, site)} == {403}
        assert [run.status for run in await durably.get_runs()] == ["pending"]
        program = await client.post("/trigger", json=body)
        assert program.status_code == 200


async def test_only_known_hosts_are_answered(durably: Durably) -> None:
    handler = create_durably_handler(durably, auth=OPEN, allowed_hosts=["app.example"])
    async with client_of(handler) as client:
        assert (await client.get("/runs")).status_code == 200
        rebound = await client.get("/runs", headers={"host": "evil.example"})
        assert rebound.status_code == 400
        assert "allowed_hosts" in rebound.json()["error"]


def tenant(org: str, asked: RunFilter) -> RunFilter:
    return asked.and_labels(org=org)


async def by_org(request: Request) -> str | None:
    return request.headers.get("org")


def stranger(org: str, run: Run, operation: str) -> None:
    if run.labels.get("org") != org:
        raise HTTPException(403, "Not yours")


@pytest.mark.parametrize("state", ["pending", "ended"])
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize(
    "auth",
    [
        AuthConfig(authenticate=by_org, scope_runs=tenant),
        AuthConfig(authenticate=by_org, on_run_access=stranger),
    ],
    ids=["scope", "hook"],
)
async def test_a_foreign_run_cannot_be_told_from_none_at_all(
    durably: Durably, auth: AuthConfig[str], method: str, path: str, state: str
) -> None:
    run = await durably.register(import_pages).trigger({"pages": 1}, labels={"org": "theirs"})
    if state == "ended":
        await durably.cancel(run.id)
    before = await durably.get_runs()
    async with client_of(create_durably_handler(durably, auth=auth)) as client:
        headers = {"org": "ours", "sec-fetch-site": "same-origin"}
        foreign = await client.request(method, f"{path}?runId={run.id}", headers=headers)
        unknown = await client.request(method, f"{path}?runId=unknown", headers=headers)
    assert (foreign.status_code, foreign.text) == (404, '{"error":"Run not found"}')
    assert (unknown.status_code, unknown.content) == (foreign.status_code, foreign.content)
    assert unknown.headers == foreign.headers
    assert await durably.get_runs() == before


async def test_a_list_is_never_wider_than_its_callers_scope(durably: Durably) -> None:
    handle = durably.register(import_pages)
    for org in ("ours", "theirs"):
        await handle.trigger({"pages": 1}, labels={"org": org})
    auth = AuthConfig(authenticate=by_org, scope_runs=tenant)
    async with client_of(create_durably_handler(durably, auth=auth)) as client:
        client.headers["org"] = "ours"
        for query in ("", "?jobName=import-pages", "?status=pending&label.org=ours"):
            assert [run["labels"] for run in (await client.get(f"/runs{query}")).json()] == [{"org": "ours"}]
        assert (await client.get("/runs?label.org=theirs")).text == "[]"
        body = {"jobName": "import-pages", "input": {"pages": 1}, "labels": {"org": "theirs"}}
        refused = await client.post("/trigger", json=body)
        assert refused.status_code == 403


# What goes wrong inside


async def test_nothing_of_the_inside_is_told(
    handler: DurablyHandler[str], durably: Durably, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: str, asked: RunFilter) -> RunFilter:
        raise RuntimeError("SELECT secret FROM /etc/shadow")

    auth = AuthConfig(authenticate=anybody, scope_runs=broken)
    with caplog.at_level(logging.ERROR, "durably.web"):
        async with client_of(create_durably_handler(durably, auth=auth)) as client:
            answer = await client.get("/runs")
    request_id = answer.headers["x-request-id"]
    assert answer.status_code == 500
    assert answer.json() == {"error": f"Internal server error (request {request_id})"}
    (record,) = [record for record in caplog.records if record.name == "durably.web"]
    assert request_id in record.getMessage()
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


@pytest.mark.parametrize("type", ["websocket", "lifespan"])
async def test_it_serves_http_only(handler: DurablyHandler[str], type: str) -> None:
    call: Callable[..., Any] = unchecked(handler)
    with pytest.raises(NotImplementedError, match=type):
        await call({"type": type}, None, None)
