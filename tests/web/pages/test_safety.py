"""What a page must never do, whatever is stored and whoever asks."""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from starlette.requests import Request

from durably import ConfigurationError, Durably, Run, RunFilter, StepContext
from durably_web import AuthConfig, DurablyWeb, allow_local
from durably_web.auth import OPERATIONS, RunOperation
from durably_web.components.base import RunComponent
from durably_web.kit import COMPONENTS
from tests.core.unchecked import unchecked
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.jobs import Import

PAGES = ["", "runs", "jobs", "jobs/import-csv", "workers", "runs/{id}"]


# Nobody gets in by mistake


@pytest.mark.parametrize(
    "options", [{}, {"authenticate": by_header, "auth": AuthConfig(authenticate=by_header)}]
)
def test_a_dashboard_without_authentication_is_refused(durably: Durably, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="authenticate=allow_local"):
        unchecked(DurablyWeb)(durably, **options)


def test_an_unknown_option_is_refused(durably: Durably) -> None:
    with pytest.raises(ConfigurationError, match=r"'perfix' \(did you mean 'prefix'\?\); there are: auth"):
        unchecked(DurablyWeb)(durably, authenticate=allow_local, perfix="/x")
    with pytest.raises(ConfigurationError, match="unknown option 'x'; there are"):
        unchecked(DurablyWeb)(durably, authenticate=allow_local, x=1)
    with pytest.raises(ConfigurationError, match=r"say auth=AuthConfig\(redact=…\)"):
        unchecked(DurablyWeb)(durably, authenticate=allow_local, redact=print)


@pytest.mark.parametrize(
    "path", [*PAGES, "-/live?topics=runs", "runs/{id}/logs.ndjson", "runs/{id}/input.json", "nowhere"]
)
async def test_nobody_sees_anything_without_authentication(
    client: httpx2.AsyncClient, durably: Durably, path: str
) -> None:
    run = await durably.jobs["approve-order"].trigger("secret-order", labels={"secret": "label"})
    del client.headers["user"]
    answer = await client.get(f"/durably/{path.replace('{id}', run.id)}")
    assert answer.status_code == 401
    assert "secret" not in answer.text


async def test_pages_lead_to_the_login_and_parts_of_pages_lead_the_page_there(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, login_url="/login")
    async with asking(web) as client:
        del client.headers["user"]
        page = await client.get("/runs?status=failed")
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fruns%3Fstatus%3Dfailed")
        part = await client.get(
            "/-/runs_table", headers={"hx-request": "true", "hx-current-url": "http://app.example/runs?q=a"}
        )
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login?next=%2Fruns%3Fq%3Da")
        assert (await client.post("/runs/x/cancel")).status_code == 401
        # A part of the login itself leads nowhere: it would lead there for ever.
        part = await client.get(
            "/-/runs_table",
            headers={"hx-request": "true", "hx-current-url": "http://app.example/login?next=/"},
        )
        assert (part.status_code, part.headers.get("hx-redirect")) == (401, None)


async def test_allow_local_lets_in_whoever_sits_here(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=allow_local)
    async with asking(web) as client:
        client.base_url = httpx2.URL("http://localhost:8000")
        assert (await client.get("/runs")).status_code == 200
        assert (await client.get("/runs", headers={"x-forwarded-for": "10.0.0.1"})).status_code == 403
        assert (await client.get("/runs", headers={"host": "evil.example"})).status_code == 403


async def test_only_hosts_that_are_ours_are_served(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, allowed_hosts=["app.example"])
    async with asking(web) as client:
        assert (await client.get("/runs")).status_code == 200
        assert (await client.get("/runs", headers={"host": "evil.example"})).status_code == 400


# What is sent


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_runs_nothing_that_is_not_ours(
    client: httpx2.AsyncClient, durably: Durably, path: str
) -> None:
    run = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"))
    await durably.process_until_idle()
    answer = await client.get(f"/durably/{path.replace('{id}', run.id)}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "nonce" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    tags = re.findall(r"<[a-z][^>]*>", answer.text)
    for tag in tags:
        assert not re.search(r"\s(?:style|on\w+|hx-on[^=]*)\s*=", tag), tag
        assert "javascript:" not in tag
        assert "js:" not in tag
    assert len(re.findall(r"<script", answer.text)) == 1
    assert "<style" not in answer.text
    # No trigger holds a filter, which would be code.
    assert not re.findall(r'hx-trigger="[^"]*\[', answer.text)
    ids = re.findall(r'\sid="([^"]+)"', answer.text)
    assert len(ids) == len(set(ids))


async def test_a_host_may_set_its_own_policy(durably: Durably) -> None:
    async with asking(DurablyWeb(durably, authenticate=by_header, csp=None)) as client:
        assert "content-security-policy" not in (await client.get("/runs")).headers


async def test_a_script_gets_the_same_page_as_a_person(client: httpx2.AsyncClient) -> None:
    page = await client.get("/durably/jobs")
    part = await client.get("/durably/jobs", headers={"hx-request": "true"})
    cut = re.compile(r'name="dw-now" content="\d+"')
    assert cut.sub("", page.text) == cut.sub("", part.text)


HOSTILE = [
    '"><img src=x onerror=alert(1)>',
    "<script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "{{ 7*7 }}{% raw %}${7*7}",
    "javascript:alert(1)",
    "\x1b[31mred\x1b]8;;javascript:alert(1)\x07",
    "</textarea></pre></title><svg onload=alert(1)>",
    "\u202egnp.exe",
]


TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "body",
    "a",
    "header",
    "div",
    "svg",
    "g",
    "rect",
    "nav",
    "form",
    "input",
    "label",
    "span",
    "select",
    "option",
    "button",
    "main",
    "h1",
    "h2",
    "dialog",
    "dl",
    "dt",
    "dd",
    "kbd",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "time",
    "progress",
    "section",
    "p",
    "pre",
    "b",
    "details",
    "summary",
    "textarea",
    "fieldset",
    "legend",
    "line",
    "circle",
    "path",
    "meter",
    "i",
}


class Tags(HTMLParser):
    """The tags of a page, as a browser would find them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


async def hostile_run(durably: Durably, text: str) -> str:
    """A run that has the text wherever text can be."""

    async def body(step: StepContext, value: object) -> object:
        step.progress(1, 2, text)
        step.log.warning(text, field=text)

        def fail() -> None:
            step.log.error(text)
            raise ValueError(text)

        name = text.translate(str.maketrans("/[]\x1b\x07", "_____"))
        await step.run(name, lambda: text, result=str)
        await step.run(f"{name}!", fail)
        return text

    body.__doc__ = text
    handle = durably.job(name="hostile")(body) if "hostile" not in durably.jobs else durably.jobs["hostile"]
    run = await handle.trigger(
        {text: [text]}, labels={"label": text}, idempotency_key=text, concurrency_key=text
    )
    await durably.process_until_idle()
    return run.id


@pytest.mark.parametrize("text", HOSTILE)
async def test_text_stays_text_in_every_view(client: httpx2.AsyncClient, durably: Durably, text: str) -> None:
    run_id = await hostile_run(durably, text)
    answers = [await client.get(f"/durably/{path.replace('{id}', run_id)}") for path in PAGES]
    answers.append(await client.get("/durably/jobs/hostile", params={"of": run_id}))
    answers.append(
        await client.get("/durably/runs", params={"q": text, "job": text, "status": text, "notice": text})
    )
    answers.append(await client.get(f"/durably/runs/{quote(text, safe='')}"))
    for name in COMPONENTS:
        answers.append(await client.get(f"/durably/-/{name}", params={"run_id": run_id, "id": text}))
        answers.append(
            await client.get(f"/durably/-/{name}", params={"run_id": text, "job_name": text, "job": text})
        )
    for answer in answers:
        assert answer.status_code in {200, 400, 404}, answer.text
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", answer.text)
        tags = Tags()
        tags.feed(answer.text)
        for tag, attributes in tags.found:
            assert tag in TAGS
            for name, value in attributes:
                assert not name.startswith(("on", "style", "hx-on"))
                if name in {"href", "src", "action", "hx-get", "hx-post"}:
                    assert (value or "").startswith(("/durably", "#")), value
    if "7*7" in text:
        assert "{{ 7*7 }}{% raw %}${7*7}" in unescape(
            answers[-1].text + (await client.get(f"/durably/runs/{run_id}")).text
        )


async def test_trouble_shows_a_number_and_nothing_else(
    web: DurablyWeb[str], durably: Durably, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> object:
        raise ZeroDivisionError("SELECT secret FROM /etc/passwd")

    monkeypatch.setattr(durably, "get_runs", broken)
    with caplog.at_level(logging.ERROR, "durably.web"):
        async with asking(web) as client:
            answer = await client.get("/runs")
            part = await client.get("/-/runs_table")
    assert (answer.status_code, part.status_code) == (500, 500)
    assert "secret" not in answer.text + part.text
    request_id = re.search(r'<span class="dw-mono">([0-9a-f-]{36})</span>', answer.text)
    assert request_id is not None
    assert request_id[1] in caplog.text


async def test_a_form_that_is_too_large_is_not_read(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/durably/jobs/anything/trigger", data={"f.": "x" * 1_300_000})
    assert answer.status_code == 413


# Other people's runs


@dataclass(frozen=True)
class User:
    org: str


async def member(request: Request) -> User | None:
    org = request.headers.get("user")
    return None if org is None else User(org)


def own(user: User, asked: RunFilter) -> RunFilter:
    return asked.and_labels(org=user.org)


TENANTS = AuthConfig(authenticate=member, scope_runs=own, trigger_labels=lambda user: {"org": user.org})


@pytest.fixture
async def acme(durably: Durably) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody of acme; what is globex's is not theirs."""
    async with asking(DurablyWeb(durably, auth=TENANTS), user="acme") as client:
        yield client


async def foreign(durably: Durably, **labels: str) -> Run:
    run = await durably.jobs["import-csv"].trigger(
        Import(filename="bad.csv"), labels={"org": "globex", "secret": "hush", **labels}
    )
    await durably.process_until_idle()
    found = await durably.get_run(run.id)
    assert found is not None
    return found


def _get(path: str) -> Callable[[httpx2.AsyncClient, str], Awaitable[httpx2.Response]]:
    return lambda client, run_id: client.get(path.replace("{id}", run_id))


def _post(path: str) -> Callable[[httpx2.AsyncClient, str], Awaitable[httpx2.Response]]:
    return lambda client, run_id: client.post(
        path.replace("{id}", run_id), data={"confirmed": "yes", "name": "approval", "payload": "true"}
    )


OF_A_RUN = {
    "page": _get("/runs/{id}"),
    **{
        name: _get(f"/-/{name}?run_id={{id}}")
        for name, component in COMPONENTS.items()
        if issubclass(component, RunComponent)
    },
    **{file: _get(f"/runs/{{id}}/{file}") for file in ("logs.ndjson", "input.json", "output.json")},
    "of": _get("/-/trigger_form?job=import-csv&of={id}"),
    **{
        action: _post(f"/runs/{{id}}/{action}")
        for action in ("cancel", "retry", "retrigger", "delete", "signal")
    },
}


@pytest.mark.parametrize("view", OF_A_RUN)
async def test_a_foreign_run_is_as_one_that_is_not_there(
    acme: httpx2.AsyncClient, durably: Durably, view: str
) -> None:
    run = await foreign(durably)
    theirs, missing = await OF_A_RUN[view](acme, run.id), await OF_A_RUN[view](acme, run.id[:-1])

    assert theirs.status_code == missing.status_code == 404
    same = re.compile(rf"{run.id}|{run.id[:-1]}|content=\"\d+\"")
    assert same.sub("", theirs.text) == same.sub("", missing.text)
    assert await durably.get_run(run.id) == run
    assert len(await durably.get_runs()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/runs",
        "/runs?q=org=globex",
        "/runs?status=failed&job=import-csv",
        "/jobs",
        "/jobs/import-csv",
        "/workers",
        *(f"/-/{name}" for name, component in COMPONENTS.items() if not issubclass(component, RunComponent)),
        "/-/runs_table?labels=%7B%22org%22%3A%22globex%22%7D",
        "/-/throughput_chart?job_name=import-csv",
        "/-/job_card?job=import-csv",
        "/-/trigger_form?job=import-csv",
    ],
)
async def test_lists_and_figures_are_of_ones_own_runs(
    acme: httpx2.AsyncClient, durably: Durably, path: str
) -> None:
    run = await foreign(durably)
    assert run.status == "failed"
    await durably.start()
    text = (await acme.get(path)).text
    for secret in (run.id, "hush", "row 37", "1 failed", "bad.csv", "50.0 %", "process"):
        assert secret not in text
    # Tabs and tiles count nothing of others.
    assert set(re.findall(r"<b>([\d,k+]+)</b>", text)) <= {"0"}
    [worker] = await durably.get_workers()
    assert worker.id not in text


@pytest.mark.parametrize(
    "path",
    ["/jobs", "/runs", "/", "/jobs/import-csv", "/-/job_list", "/-/runs_filter"]
    + [f"/-/{name}?job=import-csv" for name in ("trigger_form", "job_panel")]
    + ["/-/job_card?job=import-csv", "/-/trigger_form?job=import-csv&mode=json"],
)
async def test_a_job_whose_runs_are_not_there_is_not_there(durably: Durably, path: str) -> None:
    auth = AuthConfig(authenticate=by_header, scope_runs=lambda ctx, asked: asked.and_jobs("flaky"))
    async with asking(DurablyWeb(durably, auth=auth)) as client:
        answer = await client.get(path)
        sent = await client.post(
            "/jobs/import-csv/trigger", data={"_show": "json"}, headers={"hx-request": "true"}
        )
    assert "File name" not in answer.text + sent.text
    assert "import a csv" not in answer.text.lower()
    assert "approve-order" not in answer.text
    assert answer.status_code == (404 if "import-csv" in path else 200)
    assert sent.status_code == 404


async def test_what_was_counted_for_one_is_not_told_to_another(durably: Durably) -> None:
    order = durably.jobs["approve-order"]
    await order.batch_trigger(["A", "B", "C"], labels={"org": "acme"})
    await order.trigger("D", labels={"org": "globex"})
    await durably.jobs["flaky"].batch_trigger([1, 2], labels={"org": "globex"})
    scopes: list[AuthConfig[User]] = [
        TENANTS,
        AuthConfig(authenticate=member, scope_runs=lambda user, asked: asked.and_jobs(user.org)),
    ]
    seen = [("acme", 3), ("globex", 3), ("nobody", 0)], [("approve-order", 4), ("flaky", 2), ("nobody", 0)]
    for auth, counts in zip(scopes, seen, strict=True):
        web = DurablyWeb(durably, auth=auth)
        for path in ("/-/status_tabs", "/-/stats_tiles"):
            for user, count in counts:
                async with asking(web, user=user) as client:
                    text = (await client.get(path)).text
                    nothing = [
                        (await client.get(f"/-/status_tabs?{asked}")).text
                        for asked in (
                            "since=nonsense",
                            "job_name=import-csv",
                            "since=2100-01-01",
                            "until=2000-01-01",
                        )
                    ]
                pending = re.search(r'data-status="pending".*?<b>(\d+)</b>', text, re.DOTALL)
                assert pending is not None
                assert int(pending[1]) == count
                assert all("<b>0</b>" in one for one in nothing)
                assert not re.search("<b>[1-9]", "".join(nothing))


async def test_an_id_does_not_lead_to_a_foreign_run(acme: httpx2.AsyncClient, durably: Durably) -> None:
    run = await foreign(durably)
    answer = await acme.get("/runs", params={"q": run.id})
    assert (answer.status_code, "No runs match" in answer.text) == (200, True)


async def test_of_selected_runs_only_ones_own_are_touched(acme: httpx2.AsyncClient, durably: Durably) -> None:
    theirs = await foreign(durably)
    ours = await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"), labels={"org": "acme"})
    await durably.process_until_idle()
    answer = await acme.post(
        "/runs/bulk", data={"action": "retry", "confirmed": "yes", "run": [theirs.id, ours.id]}
    )
    assert answer.headers["location"].endswith("retried-1-of-1")
    assert await durably.get_run(theirs.id) == theirs


async def test_a_form_gives_the_labels_of_ones_own(acme: httpx2.AsyncClient, durably: Durably) -> None:
    answer = await acme.post("/jobs/anything/trigger", data={"f.": "1", "_labels": "org=globex"})
    assert answer.status_code == 403
    answer = await acme.post("/jobs/anything/trigger", data={"f.": "1"})
    assert answer.status_code == 303
    assert (await durably.get_runs())[0].labels == {"org": "acme"}


async def test_who_holds_a_key_is_not_told(acme: httpx2.AsyncClient, durably: Durably) -> None:
    order = durably.jobs["approve-order"]
    theirs = await order.trigger("theirs", concurrency_key="k", labels={"org": "globex"})
    ours = await order.trigger("ours", concurrency_key="k", labels={"org": "acme"})
    text = (await acme.get(f"/runs/{ours.id}")).text
    assert "Waiting for another run with the same concurrency key" in text
    assert theirs.id not in text


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_only_what_is_allowed_is_offered(durably: Durably, *, is_allowed: bool) -> None:
    waiting = await durably.jobs["approve-order"].trigger("A")
    failed = await foreign(durably)

    def allowed(ctx: str, run: Run) -> Sequence[RunOperation]:
        return OPERATIONS if is_allowed else ("read",)

    auth = AuthConfig(authenticate=by_header, allowed=allowed)
    async with asking(DurablyWeb(durably, auth=auth)) as client:
        texts = [(await client.get(f"/runs/{run_id}")).text for run_id in (waiting.id, failed.id)]
    buttons = set(re.findall(r'data-dw-action="(\w+)"', "".join(texts)))
    assert buttons == ({"cancel", "retry", "retrigger", "delete"} if is_allowed else set())
    assert ("Send “approval”" in texts[0]) is is_allowed
    assert ("Edit input" in texts[1]) is is_allowed


async def test_a_run_of_a_job_that_is_gone_is_not_offered_to_be_started_over(
    durably: Durably, tmp_path: Path
) -> None:
    @durably.job
    async def gone(step: StepContext, value: int) -> None: ...

    run = await gone.trigger(1)
    await durably.process_until_idle()
    path = f"/-/run_actions?run_id={run.id}"
    async with asking(DurablyWeb(durably, authenticate=by_header)) as client:
        assert 'data-dw-action="retrigger"' in (await client.get(path)).text
    async with (
        Durably(f"sqlite:///{tmp_path}/app.db", worker=False) as other,
        asking(DurablyWeb(other, authenticate=by_header)) as client,
    ):
        text = (await client.get(path)).text
    assert 'data-dw-action="retrigger"' not in text
    assert 'data-dw-action="delete"' in text


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_a_role_may_not_do_is_not_done(durably: Durably, operation: str) -> None:
    refused = AuthConfig(authenticate=by_header, on_run_access=lambda ctx, run, asked: asked != operation)
    run = await durably.jobs["approve-order"].trigger("A", labels={"org": "acme"})
    failed = await foreign(durably)
    await durably.process_until_idle()
    views = {
        "read": _get("/runs/{id}"),
        "steps": _get("/-/steps_waterfall?run_id={id}"),
        "logs": _get("/runs/{id}/logs.ndjson"),
        "subscribe": _get("/-/live?topics=run:{id}"),
        **{
            name: _post(f"/runs/{{id}}/{name}")
            for name in ("retry", "retrigger", "signal", "cancel", "delete")
        },
    }
    subject = run.id if operation in {"cancel", "signal"} else failed.id
    before = await durably.get_run(subject)
    async with asking(DurablyWeb(durably, auth=refused)) as client:
        if operation == "subscribe":
            return
        answer = await views[operation](client, subject)
        page = await client.get(f"/runs/{subject}")
    if operation == "steps":
        assert "No steps" in answer.text
        assert "validate" not in answer.text
    else:
        assert answer.status_code == (404 if operation == "read" else 403)
    assert page.status_code == (404 if operation == "read" else 200)
    assert await durably.get_run(subject) == before
