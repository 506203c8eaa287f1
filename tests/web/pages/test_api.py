"""The HTTP interface below a dashboard."""

import re

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from durably import Durably
from durably_web import AuditEntry, AuthConfig, DurablyWeb, create_durably_handler
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.jobs import Import
from tests.web.pages.test_safety import TENANTS

AUTH = AuthConfig(authenticate=by_header)
REQUESTS = [
    ("GET", "/run?runId={id}"),
    ("GET", "/run?runId=nobody"),
    ("GET", "/run"),
    ("GET", "/runs?status=failed&limit=5"),
    ("GET", "/runs?status=nonsense"),
    ("GET", "/steps?runId={id}"),
    ("GET", "/subscribe?runId={id}"),
    ("GET", "/nowhere"),
    ("POST", "/run?runId={id}"),
    ("POST", "/cancel?runId={id}"),
    ("POST", "/trigger"),
    ("DELETE", "/run?runId=nobody"),
]


async def failed(durably: Durably) -> str:
    run = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"), labels={"org": "acme"})
    await durably.process_until_idle()
    return run.id


@pytest.mark.parametrize(
    "headers",
    [{}, {"user": ""}, {"sec-fetch-site": "cross-site"}, {"host": "evil.example"}],
    ids=["ada", "nobody", "another site", "another host"],
)
async def test_it_answers_as_the_handler_alone_does(durably: Durably, headers: dict[str, str]) -> None:
    run_id = await failed(durably)
    hosts = ["app.example"]
    web = DurablyWeb(durably, auth=AUTH, api=True, allowed_hosts=hosts)
    alone = create_durably_handler(durably, auth=AUTH, allowed_hosts=hosts)
    app = Starlette(routes=[Mount("/tools/durably", web), Mount("/alone", alone)])
    async with asking(app, **headers) as client:
        if headers.get("user") == "":
            del client.headers["user"]
        for method, path in REQUESTS:
            one, other = [
                await client.request(method, f"{mount}{path.format(id=run_id)}")
                for mount in ("/tools/durably/api", "/alone")
            ]
            assert (one.status_code, one.headers, one.content) == (
                other.status_code,
                other.headers,
                other.content,
            ), path


async def test_it_is_not_there_unless_asked_for(client: httpx2.AsyncClient) -> None:
    for path in ("api/runs", "api/run?runId=x", "api/", "api"):
        assert (await client.get(f"/durably/{path}")).status_code == 404
    assert (await client.post("/durably/api/trigger", json={})).status_code == 404


async def test_it_stands_below_a_prefix_that_nobody_tells(durably: Durably) -> None:
    web = DurablyWeb(durably, auth=AUTH, api=True, prefix="/durably")
    async with asking(web) as client:
        for path in ("/durably/api/runs", "/api/runs"):
            assert (await client.get(path)).json() == []


async def test_it_is_for_the_same_visitors_and_told_to_the_same_audit(durably: Durably) -> None:
    told: list[tuple[str, str]] = []

    def audit(entry: AuditEntry[object]) -> None:
        told.append((entry.action, entry.job_name))

    run_id = await failed(durably)
    web = DurablyWeb(durably, auth=TENANTS, api=True, audit=audit)
    async with asking(web, user="globex") as client:
        assert (await client.get(f"/api/run?runId={run_id}")).status_code == 404
        assert (await client.get("/api/runs")).json() == []
        body = {"jobName": "anything", "input": 1, "labels": {"org": "acme"}}
        assert (await client.post("/api/trigger", json=body)).status_code == 403
        answer = await client.post("/api/trigger", json={"jobName": "anything", "input": 1})
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.json()["runId"])
    assert (await durably.get_runs(limit=1))[0].labels == {"org": "globex"}
    assert told == [("trigger", "anything")] * 2


async def test_whoever_is_not_signed_in_is_told_so_and_not_led_to_a_page(durably: Durably) -> None:
    web = DurablyWeb(durably, auth=AUTH, api=True, login_url="/login")
    async with asking(web) as client:
        del client.headers["user"]
        answer = await client.get("/api/runs")
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
