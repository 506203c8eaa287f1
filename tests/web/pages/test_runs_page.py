"""The list of runs: what narrows it, and how one walks through it."""

import re

import httpx2
import pytest

from durably import Durably
from durably_web.components import runs
from tests.web.pages.jobs import Import

RUN = re.compile(r'href="/durably/runs/([0-9a-f-]{36})"')


def listed(page: httpx2.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return RUN.findall(page.text)


async def build(durably: Durably) -> dict[str, str]:
    """A failed, a completed, a waiting, a pending and a cancelled run; by status."""
    job, order = durably.jobs["import-csv"], durably.jobs["approve-order"]
    runs = {
        "failed": await job.trigger(Import(filename="bad.csv"), labels={"org": "acme"}),
        "completed": await job.trigger(Import(filename="good.csv"), labels={"org": "globex"}),
        "waiting": await order.trigger("A-17"),
    }
    await durably.process_until_idle()
    runs["pending"] = await job.trigger(Import(filename="late.csv"), labels={"org": "acme", "env": "prod"})
    runs["cancelled"] = await job.trigger(Import(filename="off.csv"))
    await durably.cancel(runs["cancelled"].id)
    return {status: run.id for status, run in runs.items()}


async def test_all_runs_are_listed_newest_first(client: httpx2.AsyncClient, durably: Durably) -> None:
    runs = await build(durably)
    page = await client.get("/durably/runs")

    assert listed(page) == [
        runs[status] for status in ("cancelled", "pending", "waiting", "completed", "failed")
    ]
    assert "row 37: amount is negative" in page.text
    assert 'href="/durably/runs?q=env%3Dprod"' in page.text


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("status=failed", ["failed"]),
        ("status=failed&status=waiting", ["waiting", "failed"]),
        ("status=nonsense", ["cancelled", "pending", "waiting", "completed", "failed"]),
        ("job=approve-order", ["waiting"]),
        ("q=org=acme", ["pending", "failed"]),
        ("q=org%3Dacme+env%3Dprod", ["pending"]),
        ("q=org=acme&status=failed", ["failed"]),
        ("q=ORDER", ["waiting"]),
        ("q=org=acme+order", []),
        ("q=org:acme", ["pending", "failed"]),
        ("q=org:acme+env:prod", ["pending"]),
        ("q=org:globex+amount", []),
        ("q=amount+is+NEGATIVE", ["failed"]),
        ("q=valueerror", ["failed"]),
        ("q=import+amount", ["failed"]),
        ("q=%22import%22", []),
        ("q=%22org%3Dacme%22", []),
        ("q=order+amount", []),
        ("q=amount&status=completed", []),
        ("q=amount&created=24h", ["failed"]),
        ("q=nobody", []),
        ("label=org%3Dacme&label=env%3Dprod", ["pending"]),
        ("created=24h", ["cancelled", "pending", "waiting", "completed", "failed"]),
        ("created=24h&since=2999-01-01", ["cancelled", "pending", "waiting", "completed", "failed"]),
        ("created=&until=2000-01-01", ["cancelled", "pending", "waiting", "completed", "failed"]),
        ("created=exact&until=2000-01-01T10:00", []),
        ("until=2000-01-01", []),
        ("since=2000-01-01T10:00%2B05:00&until=2999-12-31T23:59&status=failed", ["failed"]),
        ("since=2999-01-01", []),
        ("since=yesterday", []),
        ("until=9999-12-31T23:59-12:00", []),
        ("q=%C3%A9=%00", []),
    ],
)
async def test_the_url_narrows_the_list(
    client: httpx2.AsyncClient, durably: Durably, query: str, statuses: list[str]
) -> None:
    runs = await build(durably)
    page = await client.get(f"/durably/runs?{query}")

    assert listed(page) == [runs[status] for status in statuses]
    assert ("No runs match these filters" in page.text) == (not statuses)


async def test_an_id_leads_to_its_run(client: httpx2.AsyncClient, durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A-17")
    found = await client.get("/durably/runs", params={"q": f" {run.id} "})
    assert (found.status_code, found.headers["location"]) == (303, f"/durably/runs/{run.id}")


async def test_the_end_of_an_id_as_it_is_shown_finds_its_run(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    runs = await build(durably)
    wanted = runs["completed"]
    for part in (wanted[-8:], f"…{wanted[-8:].upper()}", wanted[:-1]):
        page = await client.get("/durably/runs", params={"q": part})
        assert listed(page)[:1] == [wanted], part
    page = await client.get("/durably/runs", params={"q": f"{wanted[-8:]} status", "status": "failed"})
    assert listed(page) == []
    page = await client.get("/durably/runs", params={"q": f"{wanted[-8:]} org:globex"})
    assert listed(page) == [wanted]
    assert f"With “{wanted[-8:]}” in their id, of all 5 runs" in page.text
    page = await client.get("/durably/runs", params={"q": "ffffffff-0000"})
    assert "None of all 5 runs has “ffffffff-0000” in its id." in page.text
    assert 'href="/durably/runs?q=%22ffffffff-0000%22">Search the errors' in page.text


async def test_a_search_says_how_far_it_looked_and_goes_on(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    job = durably.jobs["import-csv"]
    for _ in range(3):
        await job.trigger(Import(filename="bad.csv"))
    await durably.process_until_idle()
    [newest, middle, oldest] = [run.id for run in await durably.get_runs()]

    first = await client.get("/durably/-/runs_table?q=amount&page_size=2")
    assert listed(first) == [newest, middle]
    assert "The newest with “amount” in their error" in first.text
    older = re.search(r'href="[^"]*cursor=(\d+)" rel="next">Search older', first.text)
    assert older is not None
    rest = await client.get(f"/durably/runs?q=amount&cursor={older[1]}")
    assert listed(rest) == [oldest]
    assert "With “amount” in their error, of all 1 failed runs that match" in rest.text
    assert 'href="/durably/runs?q=amount">Newest' in rest.text
    assert 'data-dw-topics=""' in rest.text
    # What was found is not counted: each status would be a search of its own.
    assert "<b>" not in rest.text.partition("dw-tabs")[2].partition("</nav>")[0]
    assert (await client.get("/durably/runs?q=amount&cursor=nonsense")).status_code == 200


async def test_the_page_says_which_times_are_asked_for(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/durably/runs?created=7d")).text
    assert '<option value="7d" selected>' in page
    assert 'name="since" value=""' in page
    page = (await client.get("/durably/runs?created=90d")).text
    assert '<option value="90d" selected>last 90d' in page
    page = (await client.get("/durably/runs?since=2026-11-22T10:00%2B02:00&until=2026-11-23T00:00:30")).text
    assert '<option value="exact" selected>' in page
    assert (
        'From (UTC) <input class="dw-input" type="datetime-local" name="since" value="2026-11-22T08:00"'
        in page
    )
    assert 'name="until" value="2026-11-23T00:00:30"' in page
    # Tabs and pages keep to them.
    assert "/durably/runs?status=failed&amp;since=2026-11-22T10%3A00%2B02%3A00&amp;until=2026" in page
    page = (await client.get("/durably/runs?label=org%3Da&created=1h")).text
    assert '<input type="hidden" name="label" value="org=a">' in page
    assert 'href="/durably/runs?status=failed&amp;label=org%3Da&amp;created=1h"' in page
    page = (await client.get("/durably/runs?q=org:a&job=b&created=7d")).text
    assert 'href="/durably/runs?status=failed&amp;q=org%3Aa&amp;job=b&amp;created=7d"' in page


async def test_a_search_is_not_made_again_at_every_change(client: httpx2.AsyncClient) -> None:
    for query, bell in (("", "dw-runs"), ("?q=org:acme", "dw-runs"), ("?q=timeout", "dw-stats")):
        page = (await client.get(f"/durably/runs{query}")).text
        table = page.partition('data-dw-component="runs_table"')[2]
        assert f'data-dw-bells="{bell}"' in table[:400]


async def test_a_label_with_spaces_finds_its_runs(client: httpx2.AsyncClient, durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A-17", labels={"customer": "Ada Lovelace"})
    page = (await client.get("/durably/runs")).text
    [link] = re.findall(r'class="dw-chip" href="([^"]+)"', page)
    assert listed(await client.get(link.replace("&amp;", "&"))) == [run.id]
    assert listed(await client.get("/durably/runs", params={"q": 'customer:"Ada Byron"'})) == []


async def test_tabs_count_what_the_other_filters_leave(client: httpx2.AsyncClient, durably: Durably) -> None:
    await build(durably)
    page = (await client.get("/durably/runs?q=org=acme&status=failed")).text
    tabs = dict(re.findall(r'class="dw-tab" data-status="(\w+)".*?<b>([^<]+)</b>', page))

    assert tabs == {
        "all": "2", "pending": "1", "running": "0", "waiting": "0", "completed": "0", "failed": "1", "cancelled": "0",
    }  # fmt: skip
    assert 'href="/durably/runs?status=pending&amp;q=org%3Dacme"' in page
    assert re.search(r'data-status="failed"[^>]*aria-current="true"', page)


async def test_pages_lead_on_to_older_runs_and_back(client: httpx2.AsyncClient, durably: Durably) -> None:
    job = durably.jobs["approve-order"]
    ids = [run.id for run in reversed(await job.batch_trigger([str(n) for n in range(120)]))]
    seen: list[str] = []
    page = await client.get("/durably/runs?job=approve-order")
    while True:
        seen += listed(page)
        older = re.search(r'href="([^"]+)" rel="next">Older', page.text)
        if older is None:
            break
        page = await client.get(older[1].replace("&amp;", "&"))

    assert seen == ids
    # The last page follows nothing, and leads back, to the first one at once or page by page.
    assert 'data-dw-topics="" data-dw-bells=""' in page.text
    assert 'href="/durably/runs?job=approve-order">Newest' in page.text
    back = listed(page)
    while newer := re.search(r'href="([^"]+)" rel="prev">Newer', page.text):
        page = await client.get(newer[1].replace("&amp;", "&"))
        back = listed(page) + back
    assert back == ids


async def test_a_full_page_behind_which_there_is_nothing_leads_nowhere(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    await durably.jobs["approve-order"].batch_trigger(["A", "B"])
    page = await client.get("/durably/-/runs_table?page_size=2")
    assert len(listed(page)) == 2
    assert 'rel="next"' not in page.text


async def test_also_the_longest_page_leads_on(client: httpx2.AsyncClient, durably: Durably) -> None:
    await durably.jobs["approve-order"].batch_trigger(["A"] * 201)
    page = await client.get("/durably/-/runs_table?page_size=1000")
    assert len(listed(page)) == 199
    assert 'rel="next">Older' in page.text


async def test_a_list_without_any_run_says_what_a_run_is(client: httpx2.AsyncClient) -> None:
    page = await client.get("/durably/runs")
    assert "No runs yet" in page.text
    assert 'href="/durably/jobs"' in page.text


async def test_counting_stops_at_its_cap(
    client: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    await durably.jobs["approve-order"].batch_trigger([str(n) for n in range(12)])
    part = await client.get("/durably/-/status_tabs?limit=10")
    assert "<b>10+</b>" in part.text
    # Nobody has more counted than that.
    monkeypatch.setattr(runs, "CAP", 11)
    assert "<b>11+</b>" in (await client.get("/durably/-/status_tabs?limit=1000")).text
