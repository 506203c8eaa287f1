"""The end of a link and the beginning of the next, in one transaction."""

from dataclasses import replace

import pytest

from durably.spi import Continued, Lease, NewRun, Notes, Wait
from durably_testing.conformance.guards import OWNER
from durably_testing.conformance.stage import STATES, Stage, bring_to

NEXT = Continued(input_json='{"page":2}', link=1)


class LinksContract:
    """The end of a link and the beginning of the next, in one transaction."""

    @pytest.fixture
    async def lease(self, stage: Stage) -> Lease:
        await stage.trigger("it", input_json='{"page":1}')
        return (await stage.take()).lease

    @pytest.mark.parametrize("state", STATES)
    async def test_a_link_is_ended_by_the_present_owner_only(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        assert await stage.finish(lease, NEXT, Notes(logs=[stage.line()])) == OWNER[state]
        after = await stage.store.get_run("it")
        written = OWNER[state] == "applied"
        assert len(await stage.store.list_links("it")) == written
        assert len(await stage.store.list_logs("it", after=0, limit=None)) == written
        if written:
            assert after is not None
            assert (after.status, after.link, after.input_json) == ("pending", 2, '{"page":2}')
            assert (after.lease_owner, after.lease_expires_at) == (None, None)
        else:
            assert after == before

    async def test_the_next_link_is_claimed_without_anything_of_the_one_before(
        self, stage: Stage, lease: Lease
    ) -> None:
        await stage.save(lease, stage.step("done", sequence=41))
        await stage.finish(lease, NEXT)
        claim = await stage.take("w2")
        assert (claim.run.id, claim.run.link, claim.steps) == ("it", 2, [])
        assert claim.lease.generation == lease.generation + 1
        # A number that somebody may have seen is not given again.
        assert claim.last_sequence == 41
        assert await stage.finish(claim.lease, replace(NEXT, link=2)) == "applied"
        assert (await stage.take()).last_sequence == 41

    async def test_ending_a_link_again_after_an_unknown_outcome_is_applied_once(
        self, stage: Stage, lease: Lease
    ) -> None:
        assert await stage.finish(lease, NEXT) == "applied"
        before = await stage.run("it")
        assert await stage.finish(lease, NEXT) == "applied"
        assert await stage.run("it") == before
        assert len(await stage.store.list_links("it")) == 1
        # Once somebody has the next link, the last one's owner is a stranger to the run.
        await stage.take("w2")
        assert await stage.finish(lease, NEXT) == "lost"
        assert (await stage.run("it")).link == 2

    async def test_children_stay_children(self, stage: Stage, lease: Lease) -> None:
        child = NewRun(id="child", job_name="other", input_json="{}", parent_id="it")
        step = replace(stage.step("side", "running"), kind="spawn", child_id="child")
        await stage.store.settle(lease, [Wait(step=step, child=child)], Notes())
        await stage.finish(lease, NEXT)
        assert await stage.store.unfinished_children("it", limit=10) == ["child"]

    async def test_the_next_link_goes_before_the_queue_of_its_key(self, stage: Stage) -> None:
        await stage.trigger_keyed("it", "behind")
        lease = (await stage.take()).lease
        assert await stage.finish(lease, NEXT) == "applied"
        claim = await stage.take("w2")
        assert (claim.run.id, claim.run.link) == ("it", 2)
        assert await stage.claim("w3") == []
        await stage.finish(claim.lease)
        assert await stage.claim("w3") == ["behind"]
