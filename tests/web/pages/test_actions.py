"""What forms do: without a script, with htmx, and when they come from elsewhere."""

import re
from urllib.parse import urlencode

import httpx2
import pytest

from durably import Durably, Run
from durably_web import AuditEntry, DurablyWeb
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.jobs import Import


async def failed(durably: Durably) -> Run:
    run = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"), labels={"org": "acme"})
    await durably.process_until_idle()
    return await now(durably, run.id)


async def pending(durably: Durably) -> Run:
    return await durably.jobs["approve-order"].trigger("A-17")


async def now(durably: Durably, run_id: str) -> Run:
    run = await durably.get_run(run_id)
    assert run is not None
    return run


async def test_a_failed_run_is_sent_back_to_work(client: httpx2.AsyncClient, durably: Durably) -> None:
    run = await failed(durably)
    answer = await client.post(f"/durably/runs/{run.id}/retry")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/durably/runs/{run.id}?notice=retried")
    assert (await now(durably, run.id)).status == "pending"
    assert "was sent back to work" in (await client.get(answer.headers["location"])).text


async def test_a_run_is_started_over_as_a_new_one(client: httpx2.AsyncClient, durably: Durably) -> None:
    run = await failed(durably)
    answer = await client.post(f"/durably/runs/{run.id}/retrigger")

    newest = (await durably.get_runs(limit=1))[0]
    assert answer.headers["location"] == f"/durably/runs/{newest.id}?notice=retriggered"
    assert (newest.input_json, newest.labels) == (run.input_json, run.labels)


@pytest.mark.parametrize("action", ["cancel", "delete"])
async def test_what_cannot_be_undone_is_asked_first(
    client: httpx2.AsyncClient, durably: Durably, action: str
) -> None:
    run = await (pending(durably) if action == "cancel" else failed(durably))
    asked = await client.post(f"/durably/runs/{run.id}/{action}")
    assert (asked.status_code, f"{action.capitalize()} this run?" in asked.text) == (200, True)
    assert (await now(durably, run.id)).change == run.change

    # The page's own form says yes.
    main = asked.text.partition("<main")[2]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', main))
    done = await client.post(f"/durably/runs/{run.id}/{action}", data=fields)
    assert done.status_code == 303
    assert done.headers["location"].endswith("notice=cancelled" if action == "cancel" else "notice=deleted")
    left = await durably.get_run(run.id)
    assert (left.status if left is not None else None) == ("cancelled" if action == "cancel" else None)


async def test_a_state_that_does_not_allow_it_is_told(client: httpx2.AsyncClient, durably: Durably) -> None:
    run = await pending(durably)
    answer = await client.post(f"/durably/runs/{run.id}/retry")
    assert answer.headers["location"] == f"/durably/runs/{run.id}?notice=conflict"
    answer = await client.post(f"/durably/runs/{run.id}/delete", data={"confirmed": "yes"})
    assert answer.headers["location"] == f"/durably/runs/{run.id}?notice=conflict"


async def test_htmx_gets_the_buttons_and_everything_fetches_anew(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await failed(durably)
    answer = await client.post(f"/durably/runs/{run.id}/retry", headers={"hx-request": "true"})

    assert (answer.status_code, answer.headers["hx-trigger"]) == (200, "dw-resync")
    assert "<html" not in answer.text
    assert re.findall(r'data-dw-action="(\w+)"', answer.text) == ["cancel"]
    assert "was sent back to work" in answer.text


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ("/orders/7?a=1", "/orders/7?a=1&notice=retried"),
        ("//evil.example/", None),
        ("https://evil.example/", None),
        ("/\\evil.example", None),
        ("/a\r\nset-cookie: b=c", None),
        ("javascript:alert(1)", None),
    ],
)
async def test_a_form_leads_back_to_this_site_only(
    client: httpx2.AsyncClient, durably: Durably, wanted: str, goes: str | None
) -> None:
    run = await failed(durably)
    answer = await client.post(f"/durably/runs/{run.id}/retry", data={"next": wanted})
    assert answer.headers["location"] == (goes or f"/durably/runs/{run.id}?notice=retried")
    chosen = {"next": wanted, "action": "cancel", "run": run.id, "confirmed": "yes"}
    for path, otherwise in (("-/theme", "/durably/"), ("runs/bulk", "/durably/runs")):
        answer = await client.post(f"/durably/{path}", data=chosen)
        there = wanted if goes else otherwise
        assert answer.headers["location"].partition("notice=")[0].rstrip("?&") == there


async def test_selected_runs_are_retried_where_it_makes_sense(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    first, second, other = await failed(durably), await failed(durably), await pending(durably)
    body = urlencode(
        [
            ("action", "retry"),
            *(("run", run.id) for run in (first, second, other, first)),
            ("run", "nobody"),
            ("next", "/durably/runs?status=failed"),
        ]
    )
    headers = {"content-type": "application/x-www-form-urlencoded"}
    asked = await client.post("/durably/runs/bulk", content=body, headers=headers)
    assert "Retry 4 selected runs?" in asked.text
    assert (await now(durably, first.id)).status == "failed"

    done = await client.post("/durably/runs/bulk", content=f"{body}&confirmed=yes", headers=headers)
    assert done.headers["location"] == "/durably/runs?status=failed&notice=retried-2-of-3"
    assert [(await now(durably, run.id)).status for run in (first, second, other)] == ["pending"] * 3
    told = (await client.get(done.headers["location"])).text
    assert "2 runs were retried; 1 was no longer failed or cancelled." in told


async def test_a_selection_is_bounded(client: httpx2.AsyncClient) -> None:
    body = urlencode([("action", "cancel"), *(("run", str(number)) for number in range(1001))])
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await client.post("/durably/runs/bulk", content=body, headers=headers)).status_code == 400
    assert (await client.post("/durably/runs/bulk", data={"action": "delete", "run": "a"})).status_code == 400
    nothing = await client.post("/durably/runs/bulk", data={"action": "cancel"})
    assert nothing.headers["location"] == "/durably/runs?notice=nothing"


async def test_a_signal_that_is_no_json_is_not_sent(client: httpx2.AsyncClient, durably: Durably) -> None:
    run = await pending(durably)
    await durably.process_until_idle()
    answer = await client.post(f"/durably/runs/{run.id}/signal", data={"name": "approval", "payload": "yes"})
    assert answer.headers["location"] == f"/durably/runs/{run.id}?notice=no-json"
    await durably.process_until_idle()
    assert (await now(durably, run.id)).status == "waiting"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
    ],
)
async def test_a_change_from_another_site_is_refused(
    client: httpx2.AsyncClient, durably: Durably, headers: dict[str, str]
) -> None:
    run = await failed(durably)
    if not headers["sec-fetch-site"]:
        del client.headers["sec-fetch-site"]
        headers = {"origin": headers["origin"]}
    for path in (
        f"runs/{run.id}/retry",
        f"runs/{run.id}/delete",
        "runs/bulk",
        "jobs/anything/trigger",
        "-/theme",
    ):
        answer = await client.post(f"/durably/{path}", data={"confirmed": "yes"}, headers=headers)
        assert answer.status_code == 403, path
    assert await now(durably, run.id) == run


async def test_a_form_has_the_hosts_own_token(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, csrf_token=lambda request: ("csrf<", '"token'))
    run = await failed(durably)
    async with asking(web) as client:
        page = (await client.get(f"/runs/{run.id}")).text
    assert page.count('<input type="hidden" name="csrf&lt;" value="&#34;token">') == 3


async def test_changes_are_told_to_the_audit(durably: Durably) -> None:
    heard: list[tuple[str, str, str, str | None]] = []

    def audit(entry: AuditEntry[str]) -> None:
        heard.append((entry.ctx, entry.action, entry.outcome, None if entry.run is None else entry.run.id))
        raise OSError("the disk is full")

    web = DurablyWeb(durably, authenticate=by_header, audit=audit)
    run = await failed(durably)
    async with asking(web) as client:
        for action in ("retry", "cancel", "retry", "cancel", "delete"):
            answer = await client.post(f"/runs/{run.id}/{action}", data={"confirmed": "yes"})
            assert answer.status_code == 303
        wrong = await client.post(f"/runs/{(await pending(durably)).id}/retry")
        await client.post("/jobs/approve-order/trigger", data={"f.": "A"})
    assert wrong.headers["location"].endswith("notice=conflict")
    assert heard[:5] == [
        ("ada", action, "done", run.id) for action in ("retry", "cancel", "retry", "cancel", "delete")
    ]
    assert [entry[1:3] for entry in heard[5:]] == [("retry", "conflict"), ("trigger", "done")]


async def test_the_theme_is_kept_for_a_year(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/durably/-/theme", data={"theme": "dark", "next": "/durably/jobs"})
    assert answer.headers["location"] == "/durably/jobs"
    assert "dw-theme=dark" in answer.headers["set-cookie"]
    assert "Path=/durably; SameSite=lax" in answer.headers["set-cookie"]
    assert 'data-theme="dark"' in (await client.get("/durably/jobs")).text
    answer = await client.post("/durably/-/theme", data={"theme": '"><script>'})
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert "script>" not in answer.headers["set-cookie"]
    client.cookies.set("dw-theme", "blue", domain="app.example", path="/durably")
    assert "data-theme" not in (await client.get("/durably/jobs")).text
