"""What follows a failure: one run, stored with it or not at all."""

import json
from datetime import UTC, datetime

import pytest

from durably import FailedRun, Run, RunError
from durably.spi import Completed, Failed, Reattempt, codec_for
from durably_testing.conformance.stage import BROKEN, LEASE, HandClock, Stage

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


class FollowUpsContract:
    """What follows a failure: one run, stored with it or not at all."""

    async def test_a_failure_is_followed_by_a_run_that_knows_all_about_it(
        self, stage: Stage, clock: HandClock
    ) -> None:
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

    async def test_the_last_one_of_a_chain_is_followed_by_nobody(self, stage: Stage) -> None:
        await stage.trigger("it", on_failure=TELL)
        await fail(stage)
        [follower] = await followers(stage)
        assert follower.on_failure == ()
        [claim] = (await stage.ask(jobs=["tell"])).claims
        await stage.finish(claim.lease, BROKEN)
        assert await followers(stage, follower.id) == []

    async def test_other_ends_are_followed_by_nobody(self, stage: Stage) -> None:
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

    async def test_a_failure_that_is_told_twice_is_followed_once(self, stage: Stage) -> None:
        await stage.trigger("it", on_failure=TELL)
        claim = await stage.take()
        assert await stage.finish(claim.lease, BROKEN) == "applied"
        assert await stage.finish(claim.lease, BROKEN) == "applied"
        [follower] = await followers(stage)
        await stage.store.cancel(follower.id, token="t")
        await stage.store.delete(follower.id, token="t")
        assert await stage.finish(claim.lease, BROKEN) == "applied"
        assert await followers(stage) == []

    async def test_each_failure_has_its_own_follower(self, stage: Stage) -> None:
        await stage.trigger("it", on_failure=TELL)
        await fail(stage)
        await stage.store.retry("it", token="again")
        assert len(await followers(stage)) == 1
        await fail(stage)
        first, second = await followers(stage)
        assert first.id != second.id
        assert (first.status, second.status) == ("pending", "pending")

    @pytest.mark.parametrize("slots", [10, 0])
    async def test_a_parked_run_is_followed_too(self, stage: Stage, slots: int) -> None:
        await stage.trigger("it", on_failure=TELL)
        await stage.take()
        stage.clock.advance(LEASE + 1)
        answer = await stage.ask("w2", max_crashes=1, jobs=["job", "tell"], limit=slots)
        assert [run.id for run in answer.parked] == ["it"]
        [follower] = await followers(stage)
        assert json.loads(follower.input_json)["error"]["type"] == "WorkerCrashed"
        assert [claim.run.id for claim in answer.claims] == ([follower.id] if slots else [])

    async def test_a_follower_is_nobodys_child_to_be_cancelled(self, stage: Stage) -> None:
        await stage.trigger("it", on_failure=TELL)
        await fail(stage)
        await stage.store.retry("it", token="again")
        await stage.store.cancel("it", token="enough")
        assert await stage.store.unfinished_children("it", limit=10) == []
        assert await stage.store.orphans(limit=10) == []
        [follower] = await followers(stage)
        await stage.store.delete("it", token="t")
        assert (await stage.run(follower.id)).status == "pending"

    async def test_a_failure_frees_its_key_for_the_next_and_not_for_its_follower(self, stage: Stage) -> None:
        await stage.trigger("it", concurrency_key="k", on_failure=TELL)
        await stage.trigger("next", concurrency_key="k")
        await fail(stage)
        [follower] = await followers(stage)
        assert follower.concurrency_key is None
        assert await stage.claim(jobs=["job", "tell"]) == ["next", follower.id]
