"""The page of a run: what happened, and why."""

import json
import re
from datetime import datetime, timedelta
from html import unescape

import httpx2
import pytest

from durably import Durably, StepContext, job
from durably_web import downloads
from durably_web.components import logs
from tests.web.pages.jobs import Import
from tests.web.patience import PATIENCE


async def trigger(durably: Durably, job: str, input: object, **labels: str) -> str:
    run = await durably.jobs[job].trigger(input, labels=labels)
    return run.id


async def show(client: httpx2.AsyncClient, run_id: str) -> str:
    page = await client.get(f"/durably/runs/{run_id}")
    assert page.status_code == 200, page.text
    return page.text


def part(page: str, component: str) -> str:
    """The inside of a component on a page."""
    found = re.search(
        rf'<(\w+)[^>]* data-dw-component="{component}".*?>(.*?)(?=<\w+[^>]* data-dw-component=|</main>)',
        page,
        re.DOTALL,
    )
    assert found is not None, component
    return found[0]


async def test_a_completed_run_shows_all_that_happened(client: httpx2.AsyncClient, durably: Durably) -> None:
    run_id = await trigger(durably, "import-csv", Import(filename="good.csv"), org="acme")
    await durably.process_until_idle()
    page = await show(client, run_id)

    assert run_id in page
    assert 'data-dw-status="completed"' in part(page, "run_status")
    assert "3/3 · row 3" in part(page, "run_progress")
    assert "100 %" in part(page, "run_progress")
    steps = part(page, "steps_waterfall")
    assert re.findall(r'<th scope="row" title="(\w+)"', steps) == ["validate", "load"]
    assert steps.count('class="dw-bar"') == 2
    log = part(page, "log_tail")
    assert "looks good" in log
    assert "{&#34;rows&#34;: 3}" in log
    assert "good.csv" in page
    assert "org=acme" in part(page, "run_facts")
    # Whatever a browser's numbers are, this one is not rounded.
    assert "12345678901234567890" in page
    assert "row 37" not in page
    # Nothing will happen any more: nobody needs to watch.
    assert page.count("data-dw-ended") == page.count('data-dw-run="')


async def test_a_failed_run_shows_the_step_the_traceback_and_the_input_on_one_page(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    run_id = await trigger(durably, "import-csv", Import(filename="bad.csv"))
    await durably.process_until_idle()
    page = await show(client, run_id)
    error = part(page, "run_error")

    assert "Failed in step “load”" in error
    assert "<b>ValueError</b>: row 37: amount is negative" in error
    assert "Traceback (most recent call last)" in error
    assert "bad.csv" in page
    assert re.findall(r'data-dw-action="(\w+)"', page) == ["retry", "retrigger", "delete"]


async def test_of_a_long_error_the_end_is_shown_and_all_of_it_downloaded(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    @durably.job(name="talkative")
    async def talk(step: StepContext, lines: int) -> None:
        raise ValueError("\n".join(f"line {number}" for number in range(lines)))

    run_id = await trigger(durably, talk.name, 3000)
    await durably.process_until_idle()
    error = part(await show(client, run_id), "run_error")
    assert error.count("line 0") == error.count("line 2999") == 1
    assert "line 4" not in error
    assert re.search(r"2,9\d\d lines above are not shown", error)
    answer = await client.get(f"/durably/runs/{run_id}/error.txt")
    assert answer.text.startswith("Traceback (most recent call last)")
    assert answer.text.count("\nline ") == 2999
    assert answer.headers["content-disposition"] == f'attachment; filename="{run_id}-error.txt"'


async def test_a_waiting_run_says_what_it_waits_for_and_takes_it(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    run_id = await trigger(durably, "approve-order", "A-17")
    await durably.process_until_idle()
    page = await show(client, run_id)

    assert "Waiting for signal &#39;approval&#39;" in part(page, "run_explanation")
    assert f'action="/durably/runs/{run_id}/signal"' in page
    assert re.findall(r'data-dw-action="(\w+)"', page) == ["cancel"]
    assert "data-dw-ended" not in page

    sent = await client.post(f"/durably/runs/{run_id}/signal", data={"name": "approval", "payload": "true"})
    assert sent.headers["location"] == f"/durably/runs/{run_id}?notice=signalled"
    await durably.process_until_idle()
    assert "A-17: yes" in await show(client, run_id)


async def test_a_pending_run_says_why_it_is_not_running(client: httpx2.AsyncClient, durably: Durably) -> None:
    run_id = await trigger(durably, "approve-order", "A-17")
    assert "No worker is alive" in part(await show(client, run_id), "run_explanation")


async def test_attempts_are_shown(client: httpx2.AsyncClient, durably: Durably) -> None:
    run_id = await trigger(durably, "flaky", 2)
    await durably.start()
    await durably.wait_for_run(run_id, timeout=PATIENCE)
    steps = part(await show(client, run_id), "steps_waterfall")

    assert "attempt 3" in steps
    assert steps.count('data-status="attempt"') == 2


async def test_a_run_that_is_not_there_is_not_found(client: httpx2.AsyncClient) -> None:
    page = await client.get("/durably/runs/nobody")
    assert page.status_code == 404
    assert "There is no such page, run or job" in page.text
    assert page.headers["content-security-policy"]


async def test_payloads_and_logs_can_be_downloaded(client: httpx2.AsyncClient, durably: Durably) -> None:
    run_id = await trigger(durably, "import-csv", Import(filename="good.csv"))
    await durably.process_until_idle()
    files = {
        name: await client.get(f"/durably/runs/{run_id}/{name}")
        for name in ("input.json", "output.json", "logs.ndjson")
    }

    assert files["input.json"].json()["filename"] == "good.csv"
    assert files["output.json"].text == '{"rows":3,"big":12345678901234567890}'
    [line] = [json.loads(line) for line in files["logs.ndjson"].text.splitlines()]
    assert (line["message"], line["level"], line["step"], line["fields"]) == (
        "looks good",
        "info",
        "validate",
        {"rows": 3},
    )
    assert datetime.now().astimezone() - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)
    for file in files.values():
        assert file.headers["content-disposition"].startswith(f'attachment; filename="{run_id}')
        assert file.headers["x-content-type-options"] == "nosniff"
    for missing in (
        f"{run_id}/nothing.json",
        f"{run_id}/error.txt",
        "nobody/logs.ndjson",
        "nobody/input.json",
    ):
        assert (await client.get(f"/durably/runs/{missing}")).status_code == 404


async def test_half_a_character_does_not_take_its_page_away(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    @durably.job
    async def careless(step: StepContext, value: object) -> None:
        step.log.info("half \ud800", field="\ud800")
        step.progress(1, 2, "half \ud800")
        raise ValueError("half \ud800")

    run = await careless.trigger(1)
    await durably.process_until_idle()
    for path in (f"runs/{run.id}", "runs", "", f"-/log_tail?run_id={run.id}", f"runs/{run.id}/logs.ndjson"):
        answer = await client.get(f"/durably/{path}")
        assert answer.status_code == 200
        assert "half" in answer.text or "runs" not in path


async def test_an_answer_shows_so_many_lines_and_so_much_of_each(
    client: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_LINES", 2)
    monkeypatch.setattr(logs, "LONGEST_LINE", 5)

    @durably.job
    async def chatter(step: StepContext, lines: int) -> None:
        for number in range(lines):
            step.log.info(f"line-{number}", text="xxxxxxxxx")

    run = await chatter.trigger(3)
    await durably.process_until_idle()
    part = (await client.get(f"/durably/-/log_tail?run_id={run.id}&max_lines=1000000")).text
    assert part.count("data-dw-seq") == 2
    assert "line-…" in part
    assert "line-2" not in part
    assert "xxxx" not in part


@pytest.mark.parametrize("lines", [3, 6, 7])
async def test_a_log_is_downloaded_whole_whatever_its_length(
    client: httpx2.AsyncClient, durably: Durably, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    monkeypatch.setattr(downloads, "PORTION", 3)

    @durably.job
    async def chatter(step: StepContext, lines: int) -> None:
        for number in range(lines):
            step.log.info(str(number))

    run = await chatter.trigger(lines)
    await durably.process_until_idle()
    file = await client.get(f"/durably/runs/{run.id}/logs.ndjson")
    assert [json.loads(line)["message"] for line in file.text.splitlines()] == [str(n) for n in range(lines)]


async def test_a_large_payload_is_offered_and_not_drawn(client: httpx2.AsyncClient, durably: Durably) -> None:
    run_id = await trigger(durably, "anything", ["x" * 1000] * 70)
    page = await show(client, run_id)
    assert f'href="/durably/runs/{run_id}/input.json" download' in page
    assert "xxxxxxxx" not in page


async def test_a_long_log_is_shown_from_its_end(client: httpx2.AsyncClient, durably: Durably) -> None:
    from durably import StepContext

    @durably.job
    async def chatter(step: StepContext, lines: int) -> None:
        for number in range(lines):
            step.log.info(f"line {number}")

    run_id = await trigger(durably, "chatter", 1200)
    await durably.process_until_idle()
    page = await show(client, run_id)
    numbers = re.findall(r">line (\d+)<", page)
    assert (numbers[0], numbers[-1], len(numbers)) == ("700", "1199", 500)

    earlier = re.search(r'hx-get="(/durably/-/log_tail\?[^"]*before=\d+)"', page)
    assert earlier is not None
    above = (await client.get(earlier[1].replace("&amp;", "&"))).text
    assert re.findall(r">line (\d+)<", above)[-1] == "699"
    # What comes after a number, and nothing else; whoever slept for long is told the end.
    sequence = int(re.findall(r'data-dw-seq="(\d+)"', page)[-3])
    news = (await client.get(f"/durably/-/log_tail?run_id={run_id}&after={sequence}")).text
    assert re.findall(r">line (\d+)<", news) == ["1198", "1199"]
    slept = (await client.get(f"/durably/-/log_tail?run_id={run_id}&after=1")).text
    assert (len(re.findall(r">line (\d+)<", slept)), "Show earlier lines" in slept) == (500, True)


async def test_what_would_steer_a_terminal_is_not_in_a_line(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    from durably import StepContext

    @durably.job
    async def colours(step: StepContext, input: None) -> None:
        step.log.info("\x1b[31mred\x1b[0m\x07 \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\")

    run_id = await trigger(durably, "colours", None)
    await durably.process_until_idle()
    assert ">red link<" in await show(client, run_id)


@pytest.mark.parametrize("code", ["retried", "no-json", "retried-2-of-3", "cancelled-1-of-1"])
async def test_a_notice_is_a_text_of_ours(client: httpx2.AsyncClient, code: str) -> None:
    assert 'class="dw-callout"' in (await client.get("/durably/runs", params={"notice": code})).text


@pytest.mark.parametrize("code", ["<b>hello</b>", "retried-99999-of-1", "", "unknown"])
async def test_a_notice_of_somebody_else_is_not_shown(client: httpx2.AsyncClient, code: str) -> None:
    page = (await client.get("/durably/runs", params={"notice": code})).text
    assert 'class="dw-callout"' not in page


@job(name="sync-shop")
async def sync_shop(step: StepContext, count: int) -> None:
    """As many steps that are alike."""
    await step.run("list", lambda: count)
    for number in range(count):
        await step.run(f"sync-item-{number + 1}", lambda: None)


def names(steps: str) -> list[str]:
    return re.findall(r'<th scope="row" title="([^"]+)"', steps)


def links(steps: str, words: str) -> list[str]:
    return [unescape(url) for url in re.findall(rf'<a href="([^"]+)"[^>]*>{words}', steps)]


async def test_steps_that_are_alike_open_on_demand_without_a_script(
    client: httpx2.AsyncClient, durably: Durably
) -> None:
    durably.register(sync_shop)
    run_id = await trigger(durably, "sync-shop", 250)
    await durably.process_until_idle()
    steps = part(await show(client, run_id), "steps_waterfall")
    assert names(steps) == ["list", "sync-item-1 … sync-item-250"]
    assert "250 completed" in steps
    assert 'aria-expanded="false"' in steps

    [url] = links(steps, "▸")
    seen: list[str] = []
    while True:
        page = await client.get(url)
        steps = part(page.text, "steps_waterfall")
        first, folded, *items = names(steps)
        assert (first, folded, len(items)) == (
            "list",
            "sync-item-1 … sync-item-250",
            min(100, 250 - len(seen)),
        )
        seen += items
        assert f"{len(seen) - len(items) + 1} to {len(seen)} of 250" in steps
        # It fetches itself as it is shown.
        assert re.search(r'hx-get="/durably/-/steps_waterfall\?[^"]*unfold=sync-item-%23', steps)
        if not (later := links(steps, "Later")):
            break
        [url] = later
    assert seen == [f"sync-item-{number + 1}" for number in range(250)]
    [earlier], [closed] = links(steps, "Earlier"), links(steps, "▾")
    assert "sync-item-101" in names((await client.get(earlier)).text)
    assert len(names((await client.get(closed)).text)) == 2
    whole = part((await client.get(f"/durably/runs/{run_id}?unfold=*&at=x")).text, "steps_waterfall")
    assert len(names(whole)) == 200
    assert "1 to 200 of 251" in whole
    [folded] = links(whole, "Fold")
    assert len(names((await client.get(folded)).text)) == 2
