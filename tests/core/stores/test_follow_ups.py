"""What follows a failure: one run, stored with it or not at all."""

import sqlite3
from pathlib import Path

import pytest

from durably.errors import StoreError
from durably_testing.conformance.follow_ups import TELL, followers
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import BROKEN, LEASE, HandClock, Stage


async def refuse_followers(stage: Stage) -> None:
    await stage.sql(
        "CREATE TRIGGER no_followers BEFORE INSERT ON durably_runs WHEN NEW.parent_id IS NOT NULL "
        "BEGIN SELECT RAISE(ABORT, 'no followers'); END"
    )


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
