"""Several who do something at the same moment: each is told what became of it, and it is done once."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from durably import Durably, RunCancelledError
from durably_web import AuditEntry, DurablyWeb
from tests.web.pages.conftest import asking, by_header
from tests.web.patience import PATIENCE

AT_ONCE = 6


@pytest.mark.parametrize("is_htmx", [False, True], ids=["form", "htmx"])
@pytest.mark.parametrize(
    ("action", "others"), [("cancel", {"conflict"}), ("retry", {"conflict"}), ("delete", {"conflict", None})]
)
async def test_what_several_do_to_a_run_is_done_by_one(
    durably: Durably, action: str, others: set[str | None], *, is_htmx: bool
) -> None:
    run = await durably.jobs["anything"].trigger(1)
    if action != "cancel":
        await durably.cancel(run.id)
    entries: list[AuditEntry[str]] = []
    async with asking(DurablyWeb(durably, authenticate=by_header, audit=entries.append)) as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    f"/runs/{run.id}/{action}",
                    data={"confirmed": "yes"},
                    headers={"hx-request": "true"} if is_htmx else {},
                )
                for _ in range(AT_ONCE)
            )
        )
    assert {answer.status_code for answer in answers} <= {200, 303, 404}
    told = Counter(entry.outcome for entry in entries)
    assert told["done"] == 1
    assert told.keys() <= {"done", *others}
    done = sum("notice=" in answer.headers.get("location", "") and "conflict" not in answer.headers["location"]
               for answer in answers)  # fmt: skip
    assert done == (0 if is_htmx and action != "delete" else 1)


async def test_who_retries_and_who_deletes_a_run_do_not_both_succeed(durably: Durably) -> None:
    async with asking(DurablyWeb(durably, authenticate=by_header)) as client:
        for _ in range(5):
            run = await durably.jobs["anything"].trigger(1)
            await durably.cancel(run.id)
            answers = await asyncio.gather(
                *(
                    client.post(f"/runs/{run.id}/{one}", data={"confirmed": "yes"})
                    for one in ("retry", "delete")
                )
            )
            assert {answer.status_code for answer in answers} <= {303, 404}
            left = await durably.get_run(run.id)
            assert left is None or left.status == "pending"
            if left is not None:
                assert "conflict" in answers[1].headers["location"]


async def test_a_bulk_action_beside_a_worker_counts_what_it_did(durably: Durably) -> None:
    runs = await durably.jobs["anything"].batch_trigger([{"value": number} for number in range(60)])
    async with asking(DurablyWeb(durably, authenticate=by_header)) as client:
        await durably.start()
        answer = await client.post(
            "/runs/bulk", data={"action": "cancel", "confirmed": "yes", "run": [run.id for run in runs]}
        )
    async with asyncio.timeout(PATIENCE):
        for run in runs:
            with suppress(RunCancelledError):
                await durably.wait_for_run(run.id)
    ended = await durably.get_runs(limit=100)
    cancelled = sum(run.status == "cancelled" for run in ended)
    assert {run.status for run in ended} <= {"cancelled", "completed"}
    assert answer.headers["location"] == f"/runs?notice=cancelled-{cancelled}-of-60"


async def test_a_trigger_sent_twice_at_once_with_a_key_makes_one_run(durably: Durably) -> None:
    async with asking(DurablyWeb(durably, authenticate=by_header)) as client:
        answers = await asyncio.gather(
            *(
                client.post("/jobs/anything/trigger", data={"f.": "1", "_idempotency_key": "once"})
                for _ in range(AT_ONCE)
            )
        )
    [run] = await durably.get_runs()
    told = sorted(answer.headers["location"] for answer in answers)
    assert told == [f"/runs/{run.id}?notice=idempotent"] * (AT_ONCE - 1) + [
        f"/runs/{run.id}?notice=triggered"
    ]


async def test_an_instance_that_is_closed_meanwhile_is_told_as_such(durably: Durably) -> None:
    run = await durably.jobs["anything"].trigger(1)
    async with asking(DurablyWeb(durably, authenticate=by_header)) as client:
        pages = [
            "/",
            "/runs",
            f"/runs/{run.id}",
            "/jobs",
            "/-/runs_table",
            f"/-/run_panel?run_id={run.id}",
        ] * 3
        asked = [asyncio.create_task(client.get(page)) for page in pages]
        await asyncio.sleep(0)
        await durably.close()
        answers = await asyncio.gather(*asked)
        after = await client.get("/runs")
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert after.status_code == 503
