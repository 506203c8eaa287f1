"""What the application hides, whatever view it would have been in."""

import ast
import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import httpx2
import pytest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

import durably_web
from durably import (
    BehindKey,
    ConfigurationError,
    Durably,
    Ended,
    Retry,
    Run,
    RunError,
    RunFilter,
    Step,
    StepAttempt,
    StepContext,
    WaitingForSignal,
)
from durably_web import (
    AuthConfig,
    DurablyWeb,
    Payload,
    RunOperation,
    TriggerRequest,
    create_durably_handler,
)
from durably_web.components.base import RunComponent
from durably_web.gate import Gate
from durably_web.kit import COMPONENTS
from durably_web.redaction import HIDDEN, Redaction
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.test_embedding import host
from tests.web.patience import PATIENCE
from tests.web.requests import request
from tests.web.serving import listening, serving

SECRET: Final = "s3cr3t"


class Order(BaseModel):
    """What is ordered, and who pays."""

    card: str
    rows: int = 1


async def pay(step: StepContext, input: Order) -> Order:
    """Say the secret wherever something can be said."""
    card = input.card
    step.progress(1, 2, f"charging {card}")
    step.log.info(f"the card is {card}")
    step.log.info("charged", card=card)

    def flaky() -> str:
        if step.attempt == 1:
            raise ConnectionError(f"no answer about {card}")
        return card

    await step.run("charge", flaky, retry=Retry(attempts=2, delay=0.001))
    if input.rows == 2:
        await step.wait_for_signal("approval", str, key=f"key-{card}")
    elif input.rows == 3:
        await step.run("refuse", lambda: refuse(card))
    return input


def refuse(card: str) -> None:
    raise ValueError(f"{card} was refused")


def masked(value: object) -> object:
    """The value with the secret struck out, at whatever depth."""
    if isinstance(value, str):
        return value.replace(SECRET, "***")
    if isinstance(value, list):
        return [masked(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: masked(item) for key, item in cast("dict[str, object]", value).items()}
    return value


def struck_out(user: str, payload: Payload) -> object:
    return masked(payload.value)


HIDING: Final = AuthConfig(authenticate=by_header, redact=struck_out)
OPEN: Final = AuthConfig(authenticate=by_header)


@pytest.fixture
async def runs(durably: Durably) -> AsyncIterator[dict[str, str]]:
    """A completed run, one that waits, and a failed one; each has the secret everywhere."""
    handle = durably.job(name="pay")(pay)
    made: dict[str, str] = {}
    async with durably:
        for rows, status in enumerate(("completed", "waiting", "failed"), 1):
            run = await handle.trigger(
                Order(card=SECRET, rows=rows),
                idempotency_key=f"{status}-{SECRET}",
                concurrency_key=f"{status}-{SECRET}",
            )
            made[status] = run.id
        for status in ("completed", "failed"):
            assert [update async for update in durably.subscribe(made[status])]
        async for _ in durably.subscribe(made["waiting"]):
            if isinstance(await durably.explain(made["waiting"]), WaitingForSignal):
                break
        yield made


def views(runs: dict[str, str]) -> dict[str, str]:
    """Everything that can be asked for with GET, by its name."""
    found = {path: path for path in ("/", "/runs", "/jobs", "/jobs/pay", "/workers", "/runs?status=failed")}
    for status, run_id in runs.items():
        found[f"page of the {status} run"] = f"/runs/{run_id}"
        found[f"form of the {status} run"] = f"/jobs/pay?of={run_id}"
        for file in ("logs.ndjson", "input.json", "output.json", "error.txt"):
            found[f"{file} of the {status} run"] = f"/runs/{run_id}/{file}"
        for name, component in COMPONENTS.items():
            if issubclass(component, RunComponent):
                found[f"{name} of the {status} run"] = f"/-/{name}?run_id={run_id}"
        found[f"output of the {status} run"] = f"/-/run_io?run_id={run_id}&which=output"
    for name, component in COMPONENTS.items():
        if not issubclass(component, RunComponent) and name != "trigger_button":
            props = [f"{prop}=pay" for prop in ("job", "job_name") if prop in component.__dataclass_fields__]
            found[name] = f"/-/{name}?{'&'.join(props)}"
    return found


TELLING: Final = re.compile(
    r"^/$|^/runs|^page of|^form of|ndjson|input\.json|^output(\.json)? of the completed"
    r"|(log_tail|run_facts|run_panel|run_io|run_progress) of|(run_error|error\.txt) of the failed"
    r"|run_explanation of the waiting|^job_panel|^runs_table"
)
"""Views that would show something of the secret."""


async def test_no_view_shows_what_is_hidden(durably: Durably, runs: dict[str, str]) -> None:
    async with (
        asking(DurablyWeb(durably, auth=OPEN)) as open_client,
        asking(DurablyWeb(durably, auth=HIDING)) as client,
    ):
        telling: set[str] = set()
        for name, url in views(runs).items():
            shown, hidden = await open_client.get(url), await client.get(url)
            if SECRET in shown.text:
                telling.add(name)
            assert (hidden.status_code, SECRET in hidden.text) == (shown.status_code, False), name
    assert telling == {name for name in views(runs) if TELLING.search(name)}


ENDPOINTS: Final = ("run?runId={}", "steps?runId={}")


async def test_no_answer_of_the_interface_tells_what_is_hidden(
    durably: Durably, runs: dict[str, str]
) -> None:
    for auth, is_told in ((OPEN, True), (HIDING, False)):
        async with asking(create_durably_handler(durably, auth=auth)) as client:
            assert (SECRET in (await client.get("/runs")).text) == is_told
            for run_id in runs.values():
                for endpoint in ENDPOINTS:
                    answer = await client.get(f"/{endpoint.format(run_id)}")
                    assert answer.status_code == 200
                    assert (SECRET in answer.text) == is_told, endpoint
                refused = await client.post(f"/cancel?runId={run_id}")
                assert SECRET not in refused.text


@pytest.mark.parametrize("auth", [OPEN, HIDING], ids=["open", "hiding"])
async def test_no_stream_tells_what_is_hidden(durably: Durably, auth: AuthConfig[str]) -> None:
    handle = durably.job(name="pay")(pay)
    is_told = auth is OPEN
    async with (
        durably,
        serving(create_durably_handler(durably, auth=auth)) as url,
        asyncio.timeout(PATIENCE),
        httpx2.AsyncClient(base_url=url, headers={"user": "ada"}, timeout=PATIENCE) as client,
        listening(client, "/runs/subscribe") as list_ears,
    ):
        assert await list_ears.next() is not None
        waiting = await handle.trigger(Order(card=SECRET, rows=2))
        await list_ears.until("log:write")
        failing = await handle.trigger(Order(card=SECRET, rows=3))
        for run, end in ((waiting, "run:complete"), (failing, "run:fail")):
            async with listening(client, f"/subscribe?runId={run.id}") as ears:
                told = await ears.until("log:write")
                if run is waiting:
                    await durably.signal("approval", SECRET, run_id=run.id)
                told += await ears.rest()
            types = {one.type for one in told}
            assert end in types
            assert {"step:complete", "log:write"} <= types
            assert (SECRET in "".join(ears.raw)) == is_told
        await list_ears.until("run:fail")
    assert (SECRET in "".join(list_ears.raw)) == is_told


async def test_values_for_pages_of_others_are_hidden_too(durably: Durably, runs: dict[str, str]) -> None:
    web = DurablyWeb(durably, auth=HIDING)
    handle = durably.jobs["pay"]

    async def page(request: Request) -> str:
        view = await web.use_job_run(request, runs["completed"])
        job = await web.use_job(request, handle, initial_run_id=runs["completed"], follow_latest=False)
        actions = await web.actions(request)
        assert view is not None
        # What still fits the job's type has it.
        assert view.output == Order(card="***", rows=1)
        assert view.run.input == Order(card="***", rows=1)
        found: list[object] = [
            view,
            job,
            await actions.get_steps(runs["failed"]),
            await actions.get_run(runs["failed"]),
        ]
        found.append((await web.use_runs(request)).runs)
        found.append(await web.use_job_logs(request, runs["waiting"]))
        return "".join(_everything(one) for one in found)

    async with asking(host(web, page)) as client:
        text = (await client.get("/order")).text
    assert "***" in text
    assert SECRET not in text


def _everything(value: object) -> str:
    """All that is in a value, also what a repr leaves out."""
    fields: dict[str, Any] = getattr(type(value), "__dataclass_fields__", {})
    if fields:
        return "".join(_everything(getattr(value, name)) for name in fields if not name.startswith("_"))
    if isinstance(value, list | tuple):
        return "".join(_everything(item) for item in cast("list[object]", value))
    return str(value)


async def test_what_changes_a_run_answers_it_with_what_is_hidden(durably: Durably) -> None:
    durably.job(name="pay")(pay)
    who = await Gate(durably, HIDING).admit(request(headers={"user": "ada"}))
    wanted = TriggerRequest(job_name="pay", input={"card": SECRET})
    run = await who.trigger(wanted)
    for answer in (run, await who.cancel(run.id), await who.retry(run.id), await who.cancel(run.id)):
        assert SECRET not in answer.input_json
    again = await who.retrigger(run.id)
    assert again.input_json == '{"card":"***","rows":1}'


async def test_buttons_are_decided_by_what_is_stored(durably: Durably) -> None:
    def by_input(user: str, run: Run) -> list[RunOperation]:
        return ["cancel"] if SECRET in run.input_json else []

    auth = AuthConfig(authenticate=by_header, redact=struck_out, allowed=by_input)
    who = await Gate(durably, auth).admit(request(headers={"user": "ada"}))
    run = await durably.job(name="pay")(pay).trigger(Order(card=SECRET))
    assert await who.allowed(await who.run(run.id)) == {"cancel"}


async def test_no_text_of_a_step_or_an_explanation_is_left_out(durably: Durably) -> None:
    error = RunError(type="ValueError", message=SECRET, traceback=SECRET, steps=("a",))
    now = datetime.now().astimezone()
    step = Step(
        name="a",
        status="failed",
        position=1,
        attempt=1,
        sequence=1,
        started_at=now,
        result_json=f'"{SECRET}"',
        cursor_json=f'"{SECRET}"',
        signal_key=SECRET,
        error=error,
        attempts=(StepAttempt(number=1, started_at=now, ended_at=now, error=error),),
    )
    behind = BehindKey(key=SECRET, holder_id="x", holder_status="pending", since=now, position=1)
    ended = Ended(status="failed", ended_at=now, error=error)
    shorter = WaitingForSignal(name="s", key=SECRET, until=None)
    run = await durably.jobs["anything"].trigger(1)
    redaction = Redaction(struck_out, "ada")
    shown = [redaction.step(run, step)]
    texts = [_everything(one) for one in shown]
    texts += [_everything(redaction.explanation(run, one)) for one in (behind, ended, shorter)]
    assert not any(SECRET in text for text in texts)
    assert [text.count("***") for text in texts] == [7, 1, 2, 1]


# What the hook is asked, and what it answers


async def test_the_hook_is_told_what_whose_and_for_whom(durably: Durably, runs: dict[str, str]) -> None:
    asked: list[tuple[str, str, str | None, object]] = []

    def note(user: str, payload: Payload) -> object:
        assert payload.run.input == Order.model_validate_json(payload.run.input_json)
        asked.append((user, payload.kind, payload.step_name, payload.value))
        return payload.value

    async with asking(DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, redact=note))) as client:
        shown = await client.get(f"/runs/{runs['failed']}")
        await client.get(f"/runs/{runs['waiting']}")
    assert SECRET in shown.text
    assert {user for user, *_ in asked} == {"ada"}
    assert {kind for _, kind, *_ in asked} == {
        "input", "error", "traceback", "progress", "log", "key",
    }  # fmt: skip
    assert ("ada", "input", None, {"card": SECRET, "rows": 3}) in asked
    assert ("ada", "error", "charge", f"no answer about {SECRET}") in asked
    assert ("ada", "log", None, {"card": SECRET}) in asked
    assert ("ada", "key", "approval", f"key-{SECRET}") in asked or any(
        value == f"key-{SECRET}" for *_, value in asked
    )


def breaking(user: str, payload: Payload) -> object:
    raise RuntimeError(f"what shall I do with {payload.value}?")


def objecting(user: str, payload: Payload) -> object:
    return object()


def mutating(user: str, payload: Payload) -> object:
    """Strikes out in place, and answers the very same value."""
    if isinstance(payload.value, dict):
        value = cast("dict[str, object]", payload.value)
        value.update(dict.fromkeys(value, "gone"))
        return value
    return None


def silent(user: str, payload: Payload) -> object:
    return None


@pytest.mark.parametrize("hook", [breaking, objecting, mutating, silent])
async def test_what_the_hook_cannot_show_is_hidden(
    durably: Durably, runs: dict[str, str], hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    web = DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, redact=hook))
    with caplog.at_level(logging.DEBUG):
        async with asking(web) as client:
            for name, url in views(runs).items():
                if not re.search(r"^page of|^form of|ndjson|json of|^/runs$", name):
                    continue
                answer = await client.get(url)
                assert answer.status_code in {200, 404}, name
                assert SECRET not in answer.text, name
                if name == "page of the failed run":
                    assert HIDDEN in answer.text
    assert SECRET not in caplog.text
    assert SECRET not in "".join(str(record.exc_info) for record in caplog.records)
    told = [record.getMessage() for record in caplog.records if record.name == "durably.web"]
    if hook is breaking:
        assert any(
            re.search(rf"the input of run {runs['failed']}, .* RuntimeError in .*test_redaction.py", line)
            for line in told
        )
    assert bool(told) == (hook in {breaking, objecting})


async def test_what_is_not_hidden_is_shown_as_it_is_stored(durably: Durably) -> None:
    def careful(user: str, payload: Payload) -> object:
        return True if payload.value == 1 else payload.value

    who = await Gate(durably, AuthConfig(authenticate=by_header, redact=careful)).admit(
        request(headers={"user": "ada"})
    )
    anything = durably.jobs["anything"]
    big = await anything.trigger([12345678901234567890123, 0.1, 1.0, "é"])
    assert (await who.run(big.id)).input_json == big.input_json
    # 1 and True are equal, and not the same.
    one = await anything.trigger(1)
    assert (await who.run(one.id)).input_json == "true"
    nothing = await anything.trigger(None)
    assert (await who.run(nothing.id)).input_json == "null"


async def test_what_does_not_fit_the_job_any_more_is_plain(durably: Durably) -> None:
    handle = durably.job(name="pay")(pay)
    auth = AuthConfig(authenticate=by_header, redact=silent)
    who = await Gate(durably, auth).admit(request(headers={"user": "ada"}))
    run = await handle.trigger(Order(card=SECRET))
    shown: Run[Any, Any] = await who.run(run.id)
    assert shown.input == HIDDEN


async def later(user: str, payload: Payload) -> object:
    return payload.value


def test_a_hook_that_must_be_awaited_is_refused(durably: Durably) -> None:
    with pytest.raises(ConfigurationError, match="redact must be a plain function"):
        DurablyWeb(durably, auth=AuthConfig(authenticate=by_header, redact=later))


# What is hidden is not written back, and not found


async def test_an_input_that_is_hidden_cannot_be_edited_but_started_over(
    durably: Durably, runs: dict[str, str]
) -> None:
    async with asking(DurablyWeb(durably, auth=HIDING)) as client:
        page = (await client.get(f"/runs/{runs['failed']}")).text
        assert "Edit input" not in page
        form = (await client.get(f"/jobs/pay?of={runs['failed']}")).text
        assert "You may not see all of that run’s input" in form
        assert "***" not in form.partition('<form class="dw-form"')[2].partition("</form>")[0]
        done = await client.post(f"/runs/{runs['failed']}/retrigger")
    assert done.status_code == 303
    [newest] = await durably.get_runs(limit=1)
    assert json.loads(newest.input_json) == {"card": SECRET, "rows": 3}


async def test_an_input_of_which_nothing_is_hidden_can_be_edited(durably: Durably) -> None:
    run = await durably.jobs["approve-order"].trigger("A-17")
    await durably.cancel(run.id)
    async with asking(DurablyWeb(durably, auth=HIDING)) as client:
        assert "Edit input" in (await client.get(f"/runs/{run.id}")).text
        assert 'value="A-17"' in (await client.get(f"/jobs/approve-order?of={run.id}")).text


async def test_nobody_finds_a_run_by_what_is_hidden(durably: Durably, runs: dict[str, str]) -> None:
    async with asking(DurablyWeb(durably, auth=HIDING)) as client:
        for q in (SECRET, f"card={SECRET}", f"completed-{SECRET}"):
            page = (await client.get("/runs", params={"q": q})).text
            assert "No runs match these filters" in page
            assert not any(run_id in page for run_id in runs.values())


async def test_nothing_is_found_by_an_error_of_which_something_may_be_hidden(
    durably: Durably, runs: dict[str, str]
) -> None:
    everything = RunFilter()
    for auth, found in ((OPEN, [runs["failed"]]), (HIDING, [])):
        who = await Gate(durably, auth).admit(request(headers={"user": "ada"}))
        for text in (SECRET, "refused"):
            answer = await who.search(text, by="error", asked=everything, limit=10)
            assert [run.id for run in answer.runs] == found
        [run] = (await who.search(runs["failed"], by="id", asked=everything, limit=10)).runs
        assert (SECRET in run.input_json) == (auth is OPEN)
        with pytest.raises(HTTPException, match="cannot be made"):
            await who.search("", by="id", asked=everything, limit=10)


async def test_the_list_says_that_errors_are_not_searched(durably: Durably, runs: dict[str, str]) -> None:
    for auth, is_said in ((OPEN, False), (HIDING, True)):
        async with asking(DurablyWeb(durably, auth=auth)) as client:
            page = (await client.get("/runs", params={"q": "nothing has this"})).text
            assert ("Errors are not searched" in page) == is_said
    assert runs


def test_nothing_reads_runs_past_the_one_place_that_hides() -> None:
    """Whoever reads a run, a step or a line for a view does so as a `Caller`."""
    readers = {"get_run", "get_runs", "get_steps", "get_logs", "get_last_logs", "get_changes", "get_links",
               "search_runs", "explain", "subscribe", "subscribe_runs"}  # fmt: skip
    # The doorbell tells names only; of what `news` tells, each listener decides what it shows.
    knowing = {"caller.py", "doorbell.py", "news.py"}
    found: set[str] = set()
    for file in Path(durably_web.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in readers:
                owner = ast.unparse(node.value)
                if owner.endswith("durably") and file.name not in knowing:
                    found.add(f"{file.name}: {ast.unparse(node)}")
    assert not found
