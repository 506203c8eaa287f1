"""A job's page and its form."""

import json
import re

import httpx2
import pytest

from durably import Durably
from tests.web.pages.jobs import Import

GOOD = {
    "_mode": "form",
    "f.filename": "a.csv",
    "f.rows": "7",
    "f.mode": '"replace"',
    "f.notify": "true",
    "f.tags": "one\r\ntwo\r\n",
    "f.source.host": "h",
    "f.source.port": "22",
    "f.started_after": "2026-11-22T10:00",
    "f.mapping": '{"a": "b"}',
}


async def newest(durably: Durably) -> dict[str, object]:
    [run] = await durably.get_runs(limit=1)
    value: dict[str, object] = json.loads(run.input_json)
    return value


async def test_a_jobs_page_has_its_docstring_its_form_and_its_runs(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    await durably.jobs["import-csv"].trigger(Import(filename="good.csv"))
    await durably.process_until_idle()
    page = (await client.get("/durably/jobs/import-csv")).text

    assert "Import a CSV file row by row." in page
    names = re.findall(r'<(?:input|select|textarea) [^>]*name="(f\.[\w.]+)"', page)
    assert list(dict.fromkeys(names)) == [name for name in GOOD if name.startswith("f.")]
    assert 'placeholder="customers.csv"' in page
    assert re.search(r'name="f.source.port"[^>]* min="1" max="65535"', page)
    assert re.search(r"1 completed</span>.*0 failed</span> <span>median \d", page, re.DOTALL)
    assert page.count('class="dw-badge" data-status="completed"') == 1


async def test_a_single_value_is_called_what_the_function_calls_it(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/durably/jobs/approve-order")).text
    assert re.search(r"<label [^>]*>Order\b", page)


async def test_a_form_triggers_a_run(client: httpx2.AsyncClient, durably: Durably) -> None:
    options = {"_labels": "org=acme\nenv = prod", "_idempotency_key": "k", "_concurrency_key": "c"}
    answer = await client.post("/durably/jobs/import-csv/trigger", data={**GOOD, **options})

    [run] = await durably.get_runs()
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/durably/runs/{run.id}?notice=triggered",
    )
    assert await newest(durably) == {
        "filename": "a.csv",
        "rows": 7,
        "mode": "replace",
        "notify": True,
        "tags": ["one", "two"],
        "source": {"host": "h", "port": 22},
        "started_after": "2026-11-22T10:00:00Z",
        "mapping": {"a": "b"},
    }
    assert (run.labels, run.idempotency_key, run.concurrency_key) == (
        {"org": "acme", "env": "prod"},
        "k",
        "c",
    )
    again = await client.post("/durably/jobs/import-csv/trigger", data={**GOOD, **options})
    assert again.headers["location"] == f"/durably/runs/{run.id}?notice=idempotent"


async def test_what_is_left_empty_has_its_default(client: httpx2.AsyncClient, durably: Durably) -> None:
    empty = dict.fromkeys(GOOD, "") | {"f.filename": "a.csv"}
    answer = await client.post("/durably/jobs/import-csv/trigger", data=empty)
    assert answer.status_code == 303
    assert await newest(durably) == Import(filename="a.csv", notify=False).model_dump(mode="json")


async def test_what_does_not_fit_is_told_at_its_field(client: httpx2.AsyncClient, durably: Durably) -> None:
    bad = GOOD | {"f.rows": "many", "f.source.port": "0", "f.mapping": "{", "f.filename": "<b>"}
    answer = await client.post("/durably/jobs/import-csv/trigger", data=bad)
    assert answer.status_code == 422
    # What could not even be read comes first; nothing that was typed is lost.
    assert re.search(r'id="dw-form-import-csv-mapping-problem">This is no JSON<', answer.text)
    assert 'value="&lt;b&gt;"' in answer.text
    assert 'value="many"' in answer.text

    answer = await client.post("/durably/jobs/import-csv/trigger", data=bad | {"f.mapping": "{}"})
    assert answer.status_code == 422
    assert "2 values do not fit" in answer.text
    assert "data-dw-focus" in answer.text
    assert re.search(r'rows-problem">Input should be a valid integer', answer.text)
    assert re.search(r'source-port-problem">Input should be greater than or equal to 1<', answer.text)
    assert answer.text.count('aria-invalid="true"') == 2
    assert not await durably.get_runs()


async def test_an_option_that_cannot_be_used_is_told(client: httpx2.AsyncClient, durably: Durably) -> None:
    action = re.search(r'action="([^"]*trigger[^"]*)"', (await client.get("/durably/jobs/import-csv")).text)
    assert action is not None
    answer = await client.post(action[1], data=GOOD | {"_labels": "no label=x"})
    assert (answer.status_code, "is no label key" in answer.text) == (422, True)
    assert "<details open>" in answer.text
    assert not await durably.get_runs()


@pytest.mark.parametrize("labels", ["acme", "org=acme\nprod"])
async def test_a_line_that_is_no_label_is_told_and_makes_none(
    client: httpx2.AsyncClient, durably: Durably, labels: str
) -> None:
    answer = await client.post("/durably/jobs/import-csv/trigger", data=GOOD | {"_labels": labels})
    assert answer.status_code == 422
    line = labels.splitlines()[-1]
    assert f"labels: &#39;{line}&#39; is none; say key=value, one a line" in answer.text
    assert not await durably.get_runs()


async def test_form_and_json_show_the_same(client: httpx2.AsyncClient, durably: Durably) -> None:
    as_json = await client.post("/durably/jobs/import-csv/trigger", data=GOOD | {"_show": "json"})
    assert as_json.status_code == 200
    text = re.search(r'name="_json"[^>]*>\n(.*?)</textarea>', as_json.text, re.DOTALL)
    assert text is not None
    value = json.loads(text[1].replace("&#34;", '"'))
    assert value["tags"] == ["one", "two"]

    value["filename"] = "b.csv"
    body = {"_mode": "json", "_json": json.dumps(value)}
    as_form = await client.post("/durably/jobs/import-csv/trigger", data=body | {"_show": "form"})
    assert re.search(r'name="f.filename"[^>]*', as_form.text)
    assert 'value="b.csv"' in as_form.text
    assert not await durably.get_runs()

    assert (await client.post("/durably/jobs/import-csv/trigger", data=body)).status_code == 303
    assert (await newest(durably))["filename"] == "b.csv"


@pytest.mark.parametrize(
    ("text", "says"), [("{", "This is no JSON"), ('{"rows": 0}', "filename"), ("[1]", "valid")]
)
async def test_json_that_does_not_fit_is_told(client: httpx2.AsyncClient, text: str, says: str) -> None:
    body = {"_mode": "json", "_json": text}
    answer = await client.post("/durably/jobs/import-csv/trigger", data=body)
    assert (answer.status_code, says in answer.text) == (422, True)
    shown = await client.post("/durably/jobs/import-csv/trigger", data=body | {"_show": "form"})
    assert shown.status_code == 200


async def test_a_run_is_started_over_with_an_edited_input(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    run = await durably.jobs["import-csv"].trigger(Import(filename="old.csv", tags=["a", "b"], rows=9))
    await durably.process_until_idle()
    page = (await client.get(f"/durably/runs/{run.id}")).text
    link = re.search(r'href="([^"]*)">Edit input', page)
    assert link is not None
    form = (await client.get(link[1])).text
    assert 'value="old.csv"' in form
    assert ">\na\nb</textarea>" in form
    assert 'value="9"' in form


async def test_the_input_of_another_jobs_run_is_not_put_into_a_form(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    other = await durably.jobs["approve-order"].trigger("of-another-job")
    page = await client.get(f"/durably/jobs/import-csv?of={other.id}&mode=json")
    part = await client.get(f"/durably/-/trigger_form?job=anything&of={other.id}")
    assert "of-another-job" not in page.text + part.text


async def test_an_input_that_is_no_object_has_one_field(client: httpx2.AsyncClient, durably: Durably) -> None:
    page = (await client.get("/durably/jobs/approve-order")).text
    assert 'name="f."' in page
    answer = await client.post("/durably/jobs/approve-order/trigger", data={"f.": "A-1"})
    assert answer.status_code == 303
    assert (await durably.get_runs())[0].input_json == '"A-1"'


async def test_htmx_gets_the_form_or_the_new_run(client: httpx2.AsyncClient) -> None:
    headers = {"hx-request": "true"}
    bad = await client.post("/durably/jobs/flaky/trigger", data={"f.": "x"}, headers=headers)
    assert (bad.status_code, bad.text.lstrip().startswith("<form")) == (422, True)
    good = await client.post("/durably/jobs/flaky/trigger", data={"f.": "1"}, headers=headers)
    assert 'data-dw-component="run_panel"' in good.text


async def test_a_job_that_nobody_knows_is_not_found(client: httpx2.AsyncClient, durably: Durably) -> None:
    assert (await client.get("/durably/jobs/nobody")).status_code == 404
    assert (await client.post("/durably/jobs/nobody/trigger", data={})).status_code == 404


async def test_all_jobs_are_listed_with_how_they_do(client: httpx2.AsyncClient, durably: Durably) -> None:
    await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"))
    await durably.process_until_idle()
    page = (await client.get("/durably/jobs")).text
    assert re.findall(r'class="dw-name" href="/durably/jobs/([\w-]+)"', page) == [
        "anything",
        "approve-order",
        "flaky",
        "import-csv",
    ]
    assert "Wait until somebody approves an order." in page
    assert 'aria-label="0 completed, 1 failed in the last 24 hours"' in page


async def test_the_overview_tells_what_waits_and_what_fails(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    await durably.jobs["import-csv"].trigger(Import(filename="bad.csv"))
    await durably.jobs["import-csv"].trigger(Import(filename="good.csv"))
    await durably.process_until_idle()
    await durably.jobs["approve-order"].trigger("A", delay=3600)
    await durably.jobs["approve-order"].trigger("B")
    page = (await client.get("/durably/")).text
    tiles = dict(re.findall(r'class="dw-tile" data-status="(\w+)"[^>]*><b>([^<]+)</b>', page))
    assert tiles == {"pending": "2", "running": "0", "completed": "1", "failed": "1"}
    assert re.search(r"Pending · oldest waits \d+ ms|Pending · oldest waits \d", page)
    assert "50.0 %" in page
    assert 'aria-label="1 completed, 1 failed in the last 24 hours"' in page


async def test_workers_are_listed(client: httpx2.AsyncClient, durably: Durably) -> None:
    assert "No worker is listed" in (await client.get("/durably/workers")).text
    await durably.start()
    page = (await client.get("/durably/workers")).text
    assert "0/10" in page
    assert "active" in page
    assert 'href="/durably/jobs/import-csv"' in page
