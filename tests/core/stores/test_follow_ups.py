"""What follows a failure: one run, stored with it or not at all."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from durably.codec import codec_for
from durably.errors import StoreError
from durably.models import FailedRun, Run, RunError
from durably.stores.values import Completed, Failed, Reattempt
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import BROKEN, LEASE, HandClock, Stage

TELL = ("tell",)
ERROR = RunError(type="ValueError", message="no ü \x00", traceback="…", steps=("bad",))


async def followers(stage: Stage, of: str = "it") -> list[Run]:
    """The runs that follow a run, the oldest first."""
    runs = [await stage.run(id) for id in await stage.ids()]
    return sorted((run for run in runs if run.parent_id == of), key=lambda run: run.position)


async def fail(stage: Stage, id: str = "it") -> None:
    claim = await stage.take()
    assert claim.run.id == id
    assert await stage.finish(claim.lease, BROKEN) == "applied"


async def refuse_followers(stage: Stage) -> None:
    await stage.sql(
        "CREATE TRIGGER no_followers BEFORE INSERT ON durably_runs WHEN NEW.parent_id IS NOT NULL "
        "BEGIN SELECT RAISE(ABORT, 'no followers'); END"
    )


async def test_a_failure_is_followed_by_a_run_that_knows_all_about_it(stage: Stage, clock: HandClock) -> None:
    await stage.trigger(
        "it",
        input_json='{"big": 12345678901234567890}',
        labels={"a": "ü"},
        on_failure=("tell", "tell-louder"),
    )
    claim = await stage.take()
    assert claim.run.on_failure == ("tell", "tell-louder")
    await stage.finish(claim.lease, Failed(error=ERROR))
    [follower] = await followers(stage)
    assert (follower.job_name, follower.status, follower.is_detached) == ("tell", "pending", True)
    assert follower.on_failure == ("tell-louder",)
    assert codec_for(FailedRun).decode(follower.input_json, what="it") == FailedRun(
        run_id="it",
        job_name="job",
        input={"big": 12345678901234567890},
        labels={"a": "ü"},
        error=ERROR,
        failed_at=datetime.fromtimestamp(clock.now(), UTC),
    )
    assert await stage.claim(jobs=["tell"]) == [follower.id]


async def test_the_last_one_of_a_chain_is_followed_by_nobody(stage: Stage) -> None:
    await stage.trigger("it", on_failure=TELL)
    await fail(stage)
    [follower] = await followers(stage)
    assert follower.on_failure == ()
    [claim] = (await stage.ask(jobs=["tell"])).claims
    await stage.finish(claim.lease, BROKEN)
    assert await followers(stage, follower.id) == []


async def test_other_ends_are_followed_by_nobody(stage: Stage) -> None:
    for id in ("done", "again", "cancelled", "cancelled while running", "plain"):
        await stage.trigger(id, on_failure=() if id == "plain" else TELL)
    await stage.store.cancel("cancelled", token="t")
    leases = await stage.take_all()
    await stage.finish(leases["done"], Completed(output_json="1"))
    await stage.finish(leases["again"], Reattempt(error=ERROR, attempt=1, delay=5))
    await stage.store.cancel("cancelled while running", token="t")
    assert await stage.finish(leases["cancelled while running"], BROKEN) == "cancelled"
    await stage.finish(leases["plain"], BROKEN)
    assert len(await stage.ids()) == 5


async def test_a_failure_that_is_told_twice_is_followed_once(stage: Stage) -> None:
    await stage.trigger("it", on_failure=TELL)
    claim = await stage.take()
    assert await stage.finish(claim.lease, BROKEN) == "applied"
    assert await stage.finish(claim.lease, BROKEN) == "applied"
    [follower] = await followers(stage)
    await stage.store.cancel(follower.id, token="t")
    await stage.store.delete(follower.id, token="t")
    assert await stage.finish(claim.lease, BROKEN) == "applied"
    assert await followers(stage) == []


async def test_each_failure_has_its_own_follower(stage: Stage) -> None:
    await stage.trigger("it", on_failure=TELL)
    await fail(stage)
    await stage.store.retry("it", token="again")
    assert len(await followers(stage)) == 1
    await fail(stage)
    first, second = await followers(stage)
    assert first.id != second.id
    assert (first.status, second.status) == ("pending", "pending")


@pytest.mark.parametrize("slots", [10, 0])
async def test_a_parked_run_is_followed_too(stage: Stage, slots: int) -> None:
    await stage.trigger("it", on_failure=TELL)
    await stage.take()
    stage.clock.advance(LEASE + 1)
    answer = await stage.ask("w2", max_crashes=1, jobs=["job", "tell"], limit=slots)
    assert [run.id for run in answer.parked] == ["it"]
    [follower] = await followers(stage)
    assert json.loads(follower.input_json)["error"]["type"] == "WorkerCrashed"
    assert [claim.run.id for claim in answer.claims] == ([follower.id] if slots else [])


@pytest.mark.parametrize("parks", [False, True])
async def test_without_its_follower_a_run_does_not_fail(stage: Stage, parks: bool) -> None:
    """One transaction: what keeps one of them from being stored keeps both."""
    await stage.trigger("it", on_failure=TELL)
    claim = await stage.take()
    await refuse_followers(stage)
    if parks:
        stage.clock.advance(LEASE + 1)
        with pytest.raises((StoreError, sqlite3.Error)):
            await stage.ask("w2", max_crashes=1)
    else:
        with pytest.raises((StoreError, sqlite3.Error)):
            await stage.finish(claim.lease, BROKEN)
    assert (await stage.run("it")).status == "running"
    await stage.sql("DROP TRIGGER no_followers")
    if parks:
        assert len((await stage.ask("w2", max_crashes=1)).parked) == 1
    else:
        assert await stage.finish(claim.lease, BROKEN) == "applied"
    assert len(await followers(stage)) == 1


async def test_a_zombie_adds_no_follower(another: OpenAnother, clock: HandClock, file: Path) -> None:
    mine, theirs = await another(), await another()
    await mine.trigger("it", on_failure=TELL)
    stale = await mine.take("w1")
    clock.advance(LEASE + 1)
    fresh = await theirs.take("w2")
    assert await mine.finish(stale.lease, BROKEN) == "lost"
    assert await followers(mine) == []
    assert await theirs.finish(fresh.lease, BROKEN) == "applied"
    assert await mine.finish(stale.lease, BROKEN) == "lost"
    assert len(await followers(mine)) == 1


async def test_a_follower_is_nobodys_child_to_be_cancelled(stage: Stage) -> None:
    await stage.trigger("it", on_failure=TELL)
    await fail(stage)
    await stage.store.retry("it", token="again")
    await stage.store.cancel("it", token="enough")
    assert await stage.store.unfinished_children("it", limit=10) == []
    assert await stage.store.orphans(limit=10) == []
    [follower] = await followers(stage)
    await stage.store.delete("it", token="t")
    assert (await stage.run(follower.id)).status == "pending"


async def test_a_failure_frees_its_key_for_the_next_and_not_for_its_follower(stage: Stage) -> None:
    await stage.trigger("it", concurrency_key="k", on_failure=TELL)
    await stage.trigger("next", concurrency_key="k")
    await fail(stage)
    [follower] = await followers(stage)
    assert follower.concurrency_key is None
    assert await stage.claim(jobs=["job", "tell"]) == ["next", follower.id]
