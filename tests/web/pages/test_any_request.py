"""Whatever is sent: it is answered, in our words, and tells nothing of other people's runs."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message

from durably import Durably, Run, StepContext
from durably_testing import strategies
from durably_web import DurablyWeb
from durably_web.kit import COMPONENTS
from tests.web.pages.jobs import JOBS
from tests.web.pages.test_safety import TENANTS
from tests.web.patience import PATIENCE

HUSH: Final = "hush-globex"
"""Stands in everything that is not the visitor's."""
RUN: Final = ("", "/logs.ndjson", "/input.json", "/output.json")
ACTIONS: Final = ("cancel", "retry", "retrigger", "delete", "signal")
PATHS: Final = (
    *("/", "/runs", "/jobs", "/workers", "/jobs/import-csv", "/nowhere", "/static/0/durably-web.js", "/static/0/no"),
    *(f"/runs/{{}}{what}" for what in RUN),
    *(f"/runs/{{}}/{action}" for action in ACTIONS),
    *("/runs/bulk", "/jobs/import-csv/trigger", "/jobs/anything/trigger", "/-/theme", "/-/press", "/-/live", "/-/{}"),
    *(f"/-/{name}" for name in COMPONENTS),
    *(f"/api/{name}" for name in ("run", "runs", "steps", "subscribe", "runs/subscribe")),
    *(f"/api/{name}" for name in ("trigger", "retrigger", "cancel", "", "run/")),
)  # fmt: skip
NAMES: Final = sorted(
    {
        *("q", "job", "jobName", "status", "label", "label.org", "created", "since", "until", "cursor", "runId"),
        *("limit", "offset", "topics", "notice", "of", "next", "theme", "action", "run", "scope", "most", "confirmed"),
        *("name", "payload", "token", "f.", "f.filename", "f.rows", "f.mapping", "_mode", "_json", "_show", "_labels"),
        *("_idempotency_key", "_concurrency_key", "unfold", "at"),
        *(prop for component in COMPONENTS.values() for prop in component.__dataclass_fields__),
    }
)  # fmt: skip
WORDS: Final = (
    *("org=globex", "globex", HUSH, "import-csv", "anything", "failed", "running", "all", "yes", "retry", "cancel"),
    *("json", "form", "24h", "runs", "run:{}", "1", "-1", "0", "9" * 40, "1e999", "NaN", "null", "true", "[]", "{}"),
    *('{"org": "globex"}', '["failed"]', '"\\ud800"', "\0", "//evil.example", "javascript:alert(1)", "x" * 9000),
    *("[" * 1500, "[" * 900 + "]" * 900, "2026-01-01", "9999-12-31T23:59", "0001-01-01T00:00+14:00", "∞", "\ud800"),
)  # fmt: skip
HEADERS: Final = (
    *("host", "origin", "sec-fetch-site", "hx-request", "hx-current-url", "content-type", "accept", "cookie"),
    *("last-event-id", "range", "content-length", "x-forwarded-for", "referer", "if-none-match", "x"),
)  # fmt: skip
VALUES: Final = (
    *(b"", b"true", b"same-origin", b"cross-site", b"null", b"http://[", b"//[", b"http://app.example/runs?q=a", b"["),
    *(b"application/json", b"multipart/form-data", b"text/plain", b"dw-theme=dark; dw-theme", b"bytes=0-1", b"a/b"),
    *(b"1.1", b"999999999999999999.99999999999999", b"999999999999999999.999999999999999999", b"\xff\xfe", b"app:x"),
    *(b"javascript:alert(1)", b"x:javascript:alert(1)", b"-1", b"\x00"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as bytes."""

    method: str = "GET"
    path: str = "/"
    query: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: Sequence[bytes] = ()


@dataclass(kw_only=True)
class Answer:
    """What came back."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


async def ask(app: ASGIApp, sent: Sent) -> Answer:
    """Send it, as a server would, by somebody of acme who goes once everything was sent."""
    answer = Answer()
    pieces = iter([*sent.body, b""])

    async def receive() -> Message:
        piece = next(pieces, None)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status
            answer.status = message["status"]
            answer.headers = {
                name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]
            }
        else:
            answer.body += message.get("body", b"")

    raw = sent.path.encode("utf-8", "replace")
    given = {name for name, _ in sent.headers}
    usual = {b"host": b"app.example", b"user": b"acme", b"sec-fetch-site": b"same-origin"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": sent.method,
        # As servers decode it.
        "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
        "raw_path": quote_from_bytes(raw).encode(),
        "root_path": "",
        "query_string": sent.query,
        "headers": [*((name, value) for name, value in usual.items() if name not in given), *sent.headers],
        "client": ("127.0.0.1", 1),
        "server": ("app.example", 80),
        # Mounted somewhere: the router may raise what it refuses.
        "app": Starlette(),
    }
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return answer


@dataclass(kw_only=True)
class Place:
    """An application with runs of two tenants."""

    runner: asyncio.Runner
    durably: Durably
    app: ASGIApp
    theirs: Run
    ids: list[str]

    def ask(self, sent: Sent) -> Answer:
        """Send a request to it."""
        return self.runner.run(ask(self.app, sent))

    def find(self, run_id: str) -> Run | None:
        """A run as it is stored."""
        return self.runner.run(self.durably.get_run(run_id))


async def opened(folder: Path) -> tuple[Durably, Run, list[str]]:
    durably = Durably(f"sqlite:///{folder}/app.db", polling_interval=60, jobs=JOBS)
    await durably.migrate()

    @durably.job(name="told")
    async def told(step: StepContext, text: str) -> str:
        """Say it everywhere."""
        step.log.info(text, text=text)
        step.progress(1, 2, text)
        await step.run(text, lambda: text, result=str)
        raise ValueError(text)

    theirs = await told.trigger(
        HUSH, labels={"org": "globex", "secret": HUSH}, idempotency_key=HUSH, concurrency_key=HUSH
    )
    ours = await told.trigger("ours", labels={"org": "acme"})
    waiting = await durably.jobs["approve-order"].trigger("A", labels={"org": "acme"})
    await durably.process_until_idle()
    pending = await durably.jobs["anything"].trigger("A", labels={"org": "acme"})
    found = await durably.get_run(theirs.id)
    assert found is not None
    return durably, found, [theirs.id, ours.id, waiting.id, pending.id]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all requests: none of them may break it for the next one."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        durably, theirs, ids = runner.run(opened(tmp_path_factory.mktemp("any")))
        stack.callback(lambda: runner.run(durably.close()))
        web = DurablyWeb(durably, auth=TENANTS, secret_key="a key that only these tests know about", api=True)
        yield Place(runner=runner, durably=durably, app=web, theirs=theirs, ids=ids)


texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=20))
ids_too = st.one_of(texts, st.sampled_from([f"%({number})s" for number in range(4)]))
names = st.one_of(st.sampled_from(NAMES), st.sampled_from(["run_id", "runId", "job", "q"]), texts)
pairs = st.lists(st.tuples(names, ids_too), max_size=4)


def encoded(fields: Sequence[tuple[str, str]]) -> bytes:
    return urlencode(fields, errors="surrogatepass").encode()


forms = pairs.map(encoded)
documents = st.one_of(
    strategies.json_values(),
    st.dictionaries(
        st.sampled_from(["jobName", "input", "labels", "idempotencyKey", "concurrencyKey", "coalesce"]),
        st.one_of(texts, strategies.json_values(), st.dictionaries(texts, texts, max_size=2)),
    ).map(lambda fields: {"jobName": "anything", **fields}),
).map(lambda value: json.dumps(value).encode())
bodies = st.one_of(forms, documents, st.binary(max_size=40)).flatmap(
    lambda body: st.sampled_from([(body,), (body[:7], body[7:]) if len(body) > 7 else (body,), ()])
)
ids = st.sampled_from([f"%({number})s" for number in range(4)])
paths = st.one_of(
    st.sampled_from(PATHS).flatmap(lambda path: ids.map(lambda one: path.replace("{}", one))),
    st.sampled_from(PATHS).flatmap(lambda path: ids.map(lambda one: path.replace("{}", one))),
    st.tuples(st.sampled_from(PATHS), texts).map(lambda both: both[0].replace("{}", both[1])),
    st.text(max_size=30).map(lambda text: f"/{text}"),
)
requests = st.builds(
    Sent,
    method=st.sampled_from(["GET", "POST", "GET", "POST", "HEAD", "DELETE", "PUT", "QUERY"]),
    path=paths,
    query=st.one_of(forms, st.binary(max_size=20)),
    headers=st.lists(
        st.tuples(
            st.sampled_from(HEADERS).map(str.encode),
            st.one_of(st.sampled_from(VALUES), st.binary(max_size=9)),
        ),
        max_size=3,
    ),
    body=bodies,
)


MEANT: Final[Sequence[tuple[str, str, dict[str, str], dict[str, str]]]] = (
    ("GET", "/runs", {"q": "torn", "job": "told", "status": "failed", "label": "org=acme", "cursor": "9"}, {}),
    ("GET", "/runs", {"created": "exact", "since": "2026-01-01", "until": "2030-01-01", "before": "9", "q": "a=b"}, {}),
    ("GET", "/runs/%(1)s", {"unfold": "*", "at": "1", "notice": "cancelled"}, {}),
    ("GET", "/jobs/told", {"of": "%(1)s"}, {}),
    ("GET", "/-/runs_table", {"q": "told", "status": "failed", "labels": "{}", "since": "24h", "page_size": "2"}, {}),
    ("GET", "/-/runs_table", {"columns": '["run"]', "before": "9", "after": "1", "bulk": "true", "id": "a"}, {}),
    ("GET", "/-/log_tail", {"run_id": "%(1)s", "max_lines": "1", "min_level": "info", "step": "ours", "after": "0"}, {}),
    ("GET", "/-/steps_waterfall", {"run_id": "%(1)s", "max_rows": "10", "unfold": "*", "at": "0"}, {}),
    ("GET", "/-/run_io", {"run_id": "%(1)s", "which": "input", "max_bytes": "9", "open_depth": "1"}, {}),
    ("GET", "/-/run_actions", {"run_id": "%(1)s", "actions": '["cancel"]'}, {}),
    ("GET", "/-/run_panel", {"run_id": "%(1)s", "parts": '["logs"]'}, {}),
    ("GET", "/-/run_error", {"run_id": "%(1)s", "lines": "1"}, {}),
    ("GET", "/-/status_tabs", {"limit": "9", "job_name": "told", "q": "a=b", "until": "2030-01-01"}, {}),
    ("GET", "/-/trigger_form", {"job": "import-csv", "initial": '{"rows": 1}', "fields": '["rows"]', "of": "%(1)s"}, {}),
    ("GET", "/-/failing_jobs", {"limit": "2"}, {}),
    ("GET", "/-/job_panel", {"job": "told", "auto_resume": "false"}, {}),
    ("GET", "/-/live", {"topics": "runs run:%(1)s", "after": "runs=1"}, {}),
    ("GET", "/api/runs", {"limit": "9", "offset": "0", "status": "failed", "jobName": "told", "label.org": "acme"}, {}),
    ("GET", "/api/run", {"runId": "%(1)s"}, {}),
    ("GET", "/api/steps", {"runId": "%(1)s"}, {}),
    ("GET", "/api/subscribe", {"runId": "%(1)s"}, {}),
    ("GET", "/api/runs/subscribe", {"jobName": "told", "label.org": "acme"}, {}),
    ("POST", "/api/retrigger", {"runId": "%(1)s"}, {}),
    ("POST", "/jobs/import-csv/trigger", {"options": "true"}, {"f.filename": "a", "f.rows": "1", "f.mapping": "{}"}),
    ("POST", "/jobs/import-csv/trigger", {}, {"f.filename": "a", "f.tags": "a", "f.source.port": "1", "f.mode": '"append"'}),
    ("POST", "/jobs/anything/trigger", {}, {"_mode": "json", "_json": "[]", "_labels": "a=b", "next": "/x"}),
    ("POST", "/jobs/anything/trigger", {"mode": "json"}, {"_mode": "form", "f.": "[]", "_show": "json"}),
    ("POST", "/jobs/anything/trigger", {}, {"f.": "1", "_idempotency_key": "k", "_concurrency_key": "k"}),
    ("POST", "/runs/%(2)s/signal", {}, {"name": "approval", "payload": "1", "next": "/x"}),
    ("POST", "/runs/bulk", {}, {"action": "retry", "run": "%(1)s", "confirmed": "yes", "next": "/x"}),
    ("POST", "/runs/bulk", {}, {"action": "cancel", "scope": "all", "q": "x", "most": "2", "confirmed": "yes", "job": "no"}),
    ("POST", "/-/theme", {}, {"theme": "dark", "next": "/x"}),
)  # fmt: skip
"""What the pages ask for themselves."""


@st.composite
def twisted(draw: st.DrawFn) -> Sent:
    """What a page asks for, with something else in one place or two."""
    method, path, query, form = draw(st.sampled_from(MEANT))
    asked = {**query, **draw(st.dictionaries(st.sampled_from(sorted(query) or ["q"]), ids_too, max_size=2))}
    sent = {**form, **draw(st.dictionaries(st.sampled_from(sorted(form) or ["q"]), ids_too, max_size=2))}
    is_htmx = draw(st.booleans())
    return Sent(
        method=method,
        path=path,
        query=encoded([*asked.items()]),
        headers=[(b"hx-request", b"true")] if is_htmx else [],
        body=[encoded([*sent.items()])] if method == "POST" else [],
    )


def to(path: str, **query: str) -> Sent:
    return Sent(path=path, query=urlencode(query).encode())


def filled(sent: Sent, ids: Sequence[str]) -> Sent:
    """With the ids of runs in it."""
    for number, run_id in enumerate(ids):
        slot = f"%({number})s"
        coded, id = quote(slot, safe="").encode(), run_id.encode()
        sent = replace(
            sent,
            path=sent.path.replace(slot, run_id),
            query=sent.query.replace(coded, id),
            body=[piece.replace(coded, id) for piece in sent.body],
        )
    return sent


def check(place: Place, sent: Sent) -> None:
    sent = filled(sent, place.ids)
    answer = place.ask(sent)
    assert answer.status != 500
    assert 200 <= answer.status <= 503
    # What was said to us may be said back.
    said = HUSH.encode() in b"".join([sent.path.encode("utf-8", "replace"), sent.query, *sent.body])
    assert said or HUSH.encode() not in answer.body
    if sent.method == "HEAD":
        return
    assert answer.headers["x-content-type-options"] == "nosniff"
    if "durably-web.js" not in sent.path:
        assert "no-store" in answer.headers["cache-control"]
    if answer.body.startswith(b"<!doctype"):
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert b"<script>" not in answer.body
    if (target := answer.headers.get("location")) is not None:
        assert target.startswith("/")
        assert not target.startswith("//")


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
    deadline=None,
)
@given(st.one_of(requests, twisted(), twisted()))
@example(Sent(method="POST", path="/workers"))
@example(Sent(method="DELETE", path="/static/0/no"))
@example(to("/-/runs_table", before="9" * 30))
@example(
    Sent(
        method="POST",
        path="/jobs/anything/trigger",
        body=[encoded([("_mode", "json"), ("_json", "[" * 9000)])],
    )
)
@example(to("/-/log_tail", run_id="%(1)s", after="9" * 19))
@example(to("/-/runs_table", q="torn", cursor="9" * 40))
@example(to("/-/runs_table", labels='{"": "x"}'))
@example(Sent(path="/runs", headers=[(b"hx-current-url", b"http://[::1")]))
@example(Sent(path="/runs", query=b"q=\xff"))
@example(Sent(path="/api/runs/subscribe", headers=[(b"last-event-id", b"1." + b"9" * 18)]))
@example(Sent(path="/runs/" + quote("\0")))
def test_whatever_is_sent_is_answered_in_our_words(place: Place, sent: Sent) -> None:
    check(place, sent)
    assert place.find(place.theirs.id) == place.theirs
