"""Retrying and cancelling all runs that match what is asked for."""

import re
from collections.abc import Mapping
from html import unescape

import httpx2
import pytest
from starlette.exceptions import HTTPException

from durably import Durably, Run, RunFilter
from durably_web import AuthConfig, DurablyWeb, actions, bulk
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.jobs import Import

URL = "/durably/runs/bulk"
FORM = re.compile(r'<form class="dw-card-foot".*?</form>', re.DOTALL)
FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


async def failures(durably: Durably, count: int, **labels: str) -> list[Run]:
    """Runs that failed, the newest first."""
    job = durably.jobs["import-csv"]
    await job.batch_trigger([Import(filename="bad.csv", rows=1)] * count, labels=labels)
    await durably.process_until_idle()
    return await durably.get_runs(where=RunFilter(status=("failed",), labels=labels))


def fields(html: str) -> dict[str, str]:
    """A form's hidden fields; of none of these there are several."""
    return {name: unescape(value) for name, value in FIELD.findall(html)}


async def asked(client: httpx2.AsyncClient, page: str, action: str) -> httpx2.Response:
    """What the button under the list answers."""
    [form] = FORM.findall((await client.get(page)).text)
    assert f'name="action" value="{action}"' in form
    return await client.post(URL, data={**fields(form), "action": action})


def question(answer: httpx2.Response) -> tuple[str, dict[str, str]]:
    """The question, and the fields that say yes to it."""
    assert answer.status_code == 200, answer.text
    main = answer.text.partition("<main")[2]
    return re.findall(r"<h1>([^<]+)</h1>", main)[0], fields(main)


async def statuses(durably: Durably) -> Mapping[str, str]:
    return {run.id: run.status for run in await durably.get_runs()}


async def told(client: httpx2.AsyncClient, answer: httpx2.Response) -> str:
    assert answer.status_code == 303
    page = (await client.get(answer.headers["location"])).text
    [notice] = re.findall(r'<div class="dw-callout"[^>]*>([^<]+)</div>', page)
    return unescape(notice)


async def test_all_that_match_are_retried_after_a_question_that_names_how_many(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    ours = await failures(durably, 120, org="acme")
    [other] = await failures(durably, 1, org="globex")

    answer = await asked(client, "/durably/runs?q=org:acme&created=24h", "retry")
    words, yes = question(answer)
    assert words == "Retry 120 runs that match?"
    assert "Failed and cancelled runs: “org:acme” · created since 20" in answer.text
    assert "At most 1,000 at once." in answer.text
    # Nothing yet; and no ids travel, but the question itself, its times as instants.
    assert set((await statuses(durably)).values()) == {"failed"}
    assert (yes["scope"], yes["q"], yes["most"], "run" in yes, "created" in yes) == (
        "all", "org:acme", "120", False, False,
    )  # fmt: skip

    done = await client.post(URL, data=yes)
    assert await told(client, done) == "120 runs were retried."
    assert done.headers["location"].startswith("/durably/runs?q=org%3Aacme&created=24h&notice=")
    now = await statuses(durably)
    assert {now[run.id] for run in ours} == {"pending"}
    assert now[other.id] == "failed"
    # What was counted a moment before is counted anew for whoever has changed it.
    tabs = (await client.get("/durably/runs?q=org:acme&created=24h")).text
    assert re.findall(r'data-status="(?:pending|failed)".*?<b>(\d+)</b>', tabs) == ["120", "0"]


async def test_what_changes_meanwhile_is_left_alone(client: httpx2.AsyncClient, durably: Durably) -> None:
    first, second, third, fourth = await failures(durably, 4)
    _, yes = question(await asked(client, "/durably/runs?status=failed", "retry"))
    assert yes["most"] == "4"
    await durably.delete_run(first.id)
    await durably.retry(second.id)
    await durably.cancel(second.id)
    [new] = [run for run in await failures(durably, 1) if run.id not in {third.id, fourth.id}]

    done = await client.post(URL, data=yes)
    assert await told(client, done) == "2 runs were retried; 2 were no longer failed or cancelled."
    now = await statuses(durably)
    assert [now[run.id] for run in (second, third, fourth, new)] == [
        "cancelled",
        "pending",
        "pending",
        "failed",
    ]


async def test_never_more_runs_are_changed_than_the_question_named(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    job = durably.jobs["approve-order"]
    early = await job.trigger("A-17")
    await failures(durably, 3)
    _, yes = question(await asked(client, "/durably/runs", "retry"))
    # An older run has come to match: it takes nobody's place, and would be one too many.
    await durably.cancel(early.id)
    done = await client.post(URL, data=yes)
    assert await told(client, done) == "3 runs were retried."
    assert (await statuses(durably))[early.id] == "cancelled"


async def test_all_that_match_are_cancelled(client: httpx2.AsyncClient, durably: Durably) -> None:
    [failed] = await failures(durably, 1)
    job = durably.jobs["approve-order"]
    runs = await job.batch_trigger(["A", "B", "C"])
    await durably.process_until_idle()
    late = await job.trigger("D")

    words, yes = question(await asked(client, "/durably/runs?job=approve-order", "cancel"))
    assert words == "Cancel 4 runs that match?"
    await durably.cancel(late.id)
    done = await client.post(URL, data=yes)
    assert await told(client, done) == "3 runs were cancelled; 1 had ended already."
    assert set((await statuses(durably)).values()) == {"failed", "cancelled"}
    assert (await statuses(durably))[failed.id] == "failed"
    assert {run.id for run in runs} < set(await statuses(durably))


@pytest.mark.parametrize("page", [2, 3, 200])
async def test_a_search_for_a_text_matches_in_bulk_too(
    client: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(bulk, "PAGE", page)
    runs = await failures(durably, 3)
    flaky = await durably.jobs["flaky"].trigger(9)
    await durably.cancel(flaky.id)
    words, yes = question(await asked(client, "/durably/runs?q=negative", "retry"))
    assert words == "Retry 3 runs that match?"
    # Where the search goes on further back, its beginning is not what is on the page.
    assert not FORM.findall((await client.get("/durably/runs?q=negative&cursor=99")).text)
    await client.post(URL, data=yes)
    now = await statuses(durably)
    assert ({now[run.id] for run in runs}, now[flaky.id]) == ({"pending"}, "cancelled")


@pytest.mark.parametrize(
    ("query", "actions"),
    [
        ("", ["retry", "cancel"]),
        ("?status=failed", ["retry"]),
        ("?status=waiting&status=pending", ["cancel"]),
        ("?status=completed", None),
        ("?q=nobody", None),
    ],
)
async def test_only_what_makes_sense_is_offered(
    client: httpx2.AsyncClient, durably: Durably, query: str, actions: list[str] | None
) -> None:
    await durably.jobs["anything"].trigger(1)
    await durably.jobs["approve-order"].trigger("A-17")
    await failures(durably, 1)
    forms = FORM.findall((await client.get(f"/durably/runs{query}")).text)
    offered = [re.findall(r'name="action" value="(\w+)"', form) for form in forms]
    assert offered == ([] if actions is None else [actions])


async def test_there_is_a_limit_and_the_question_says_so(
    client: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST", 5)
    monkeypatch.setattr(bulk, "BATCH", 2)
    monkeypatch.setattr(bulk, "PAGE", 3)
    runs = await failures(durably, 8)
    words, yes = question(await asked(client, "/durably/runs", "retry"))
    assert words == "Retry the newest 5 of the runs that match?"
    assert await told(client, await client.post(URL, data=yes)) == "5 runs were retried."
    now = await statuses(durably)
    assert [now[run.id] for run in runs] == ["pending"] * 5 + ["failed"] * 3


async def test_whatever_a_form_says_no_more_are_changed_than_the_limit(
    client: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MOST", 2)
    await failures(durably, 3)
    form = {"scope": "all", "action": "retry", "confirmed": "yes", "most": "1000000"}
    assert await told(client, await client.post(URL, data=form)) == "2 runs were retried."


async def test_a_form_without_its_question_is_asked_it(client: httpx2.AsyncClient, durably: Durably) -> None:
    await failures(durably, 1)
    bare = {"scope": "all", "action": "retry", "confirmed": "yes"}
    for extra in ({}, {"most": "x"}, {"most": "0"}, {"most": "-1"}):
        words, _ = question(await client.post(URL, data={**bare, **extra}))
        assert words == "Retry 1 run that match?"
    assert set((await statuses(durably)).values()) == {"failed"}
    # A time that cannot be read must not mean all runs.
    nothing = await client.post(URL, data={**bare, "since": "garbage"})
    assert "there is no such run any more" in await told(client, nothing)
    assert (await client.post(URL, data={"scope": "all", "action": "delete"})).status_code == 400


async def test_everybody_changes_their_own_runs_only(durably: Durably) -> None:
    """Of some tenants the scope keeps runs away, of others the hook refuses each."""
    theirs = await failures(durably, 2, org="globex")
    ours = await failures(durably, 3, org="acme")

    def may(ctx: str, run: Run, operation: str) -> None:
        if operation == "retry" and run.labels["org"] != ctx:
            raise HTTPException(403)

    scoped = DurablyWeb(
        durably,
        auth=AuthConfig(
            authenticate=by_header, scope_runs=lambda ctx, wanted: wanted.and_labels(org=str(ctx))
        ),
    )
    hooked = DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, on_run_access=may))
    for web in (scoped, hooked):
        async with asking(web, user="acme") as client:
            body = {"scope": "all", "action": "retry"}
            words, yes = question(await client.post("/runs/bulk", data=body))
            assert words == "Retry 3 runs that match?"
            # What the form says of others does not widen it.
            done = await client.post("/runs/bulk", data={**yes, "label": "org=globex", "most": "1000"})
            assert "retried-0-of" in done.headers["location"]
            done = await client.post("/runs/bulk", data=yes)
            assert done.headers["location"].endswith("notice=retried-3-of-3")
        now = await statuses(durably)
        assert [now[run.id] for run in (*theirs, *ours)] == ["failed"] * 2 + ["pending"] * 3
        await durably.process_until_idle()


async def test_a_refusal_of_another_kind_is_not_swallowed(durably: Durably) -> None:
    [run] = await failures(durably, 1)

    async def broken(ctx: str, run: Run, operation: str) -> None:
        if operation == "retry":
            raise HTTPException(503, "the directory is down")

    web = DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, on_run_access=broken))
    async with asking(web, user="ada") as client:
        for body in ({"run": run.id}, {"scope": "all", "most": "1"}):
            answer = await client.post("/runs/bulk", data={"action": "retry", "confirmed": "yes", **body})
            assert answer.status_code == 503
    assert (await statuses(durably))[run.id] == "failed"
