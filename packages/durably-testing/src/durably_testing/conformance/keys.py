"""Concurrency keys: at most one of a key at a time, in order, whatever happens to the holder."""

import asyncio

from durably.spi import Lease
from durably_testing.conformance.stage import BROKEN, LEASE, Stage


class KeysContract:
    """Concurrency keys: at most one of a key at a time, in order, whatever happens to the holder."""

    async def test_the_runs_of_a_key_are_claimed_one_at_a_time_in_order(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b", "c")
        for id in ("a", "b", "c"):
            claim = await stage.take()
            assert claim.run.id == id
            assert await stage.claim() == []
            await stage.finish(claim.lease)

    async def test_a_failure_frees_the_key_too(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.finish((await stage.take()).lease, BROKEN)
        assert await stage.claim() == ["b"]

    async def test_other_keys_and_runs_without_one_are_not_held_up(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.trigger("other", concurrency_key="other")
        await stage.trigger("free")
        assert await stage.claim() == ["a", "other", "free"]

    async def test_a_key_belongs_to_its_job_unless_it_is_shared(self, stage: Stage) -> None:
        jobs = ["x", "y"]
        await stage.trigger("x1", job_name="x", concurrency_key="k")
        await stage.trigger("y1", job_name="y", concurrency_key="k")
        shared = await stage.trigger("x2", job_name="x", concurrency_key="k", key_scope="*")
        await stage.trigger("y2", job_name="y", concurrency_key="k", key_scope="*")
        assert shared.is_key_shared
        assert (await stage.run("x2")).is_key_shared
        assert await stage.claim(jobs=jobs) == ["x1", "y1", "x2"]

    async def test_within_a_key_rank_decides(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.trigger("urgent", concurrency_key="k", priority=1)
        lease = (await stage.take()).lease
        assert lease.run_id == "urgent"
        await stage.finish(lease)
        assert await stage.claim() == ["a"]

    async def test_the_key_stays_with_a_run_that_is_handed_back(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        lease = (await stage.take()).lease
        await stage.trigger("urgent", concurrency_key="k", priority=9)
        await stage.store.release([lease])
        assert await stage.claim() == ["a"]

    async def test_the_key_stays_with_a_run_whose_owner_died(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.take()
        await stage.trigger("urgent", concurrency_key="k", priority=9)
        stage.clock.advance(LEASE + 1)
        assert await stage.claim("w2") == ["a"]

    async def test_cancelling_a_resumable_holder_passes_the_key_on(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.store.release([(await stage.take()).lease])
        await stage.store.cancel("a", token="t")
        assert await stage.claim() == ["b"]

    async def test_cancelling_the_first_in_the_queue_lets_the_next_one_in(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b", "c")
        await stage.store.cancel("a", token="t")
        assert await stage.claim() == ["b"]

    async def test_cancelling_one_in_the_queue_changes_nothing_for_the_others(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b", "c")
        lease = (await stage.take()).lease
        await stage.store.cancel("b", token="t")
        assert await stage.claim() == []
        await stage.finish(lease)
        assert await stage.claim() == ["c"]

    async def test_a_cancelled_body_keeps_the_key_until_it_has_ended(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        lease = (await stage.take()).lease
        await stage.store.cancel("a", token="t")
        assert await stage.status("a") == "cancelled"
        assert await stage.claim() == []
        await stage.store.release([lease])
        assert await stage.claim() == ["b"]

    async def test_a_cancelled_body_keeps_the_key_until_its_lease_runs_out(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.take()
        await stage.store.cancel("a", token="t")
        stage.clock.advance(LEASE - 5)
        assert await stage.claim("w2") == []
        stage.clock.advance(5)
        assert await stage.claim("w2") == ["b"]
        assert (await stage.run("a")).crashes == 0

    async def test_a_renewed_lease_keeps_the_key_for_a_cancelled_body(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        lease = (await stage.take()).lease
        await stage.store.cancel("a", token="t")
        stage.clock.advance(LEASE - 1)
        assert await stage.store.renew("w1", [lease], lease_seconds=LEASE) == {"a": "cancelled"}
        stage.clock.advance(LEASE - 1)
        assert await stage.claim("w2") == []

    async def test_a_retried_run_waits_for_its_own_cancelled_body(self, stage: Stage) -> None:
        for key in ("k", None):
            id = f"run-of-{key}"
            await stage.trigger(id, concurrency_key=key)
            lease = (await stage.take()).lease
            await stage.store.cancel(id, token="t")
            retried = await stage.store.retry(id, token="u")
            assert retried.applied
            assert await stage.claim() == []
            assert await stage.save(lease) == "lost"
            await stage.store.release([lease])
            assert await stage.claim() == [id]

    async def test_a_retried_run_is_claimed_once_its_old_lease_has_run_out(self, stage: Stage) -> None:
        await stage.trigger("a", concurrency_key="k")
        await stage.take()
        await stage.store.cancel("a", token="t")
        await stage.store.retry("a", token="u")
        stage.clock.advance(LEASE)
        claim = await stage.take("w2")
        assert (claim.run.id, claim.run.crashes) == ("a", 0)

    async def test_a_retried_run_takes_its_turn_by_its_old_rank(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b", "c")
        await stage.finish((await stage.take()).lease, BROKEN)
        busy = (await stage.take()).lease
        assert busy.run_id == "b"
        await stage.store.retry("a", token="t")
        assert await stage.claim() == []
        await stage.finish(busy)
        assert await stage.claim() == ["a"]

    async def test_deleting_or_parking_a_holder_is_seen_by_the_queue(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        await stage.take()
        await stage.store.cancel("a", token="t")
        # Its body still lives: who deleted it now would let two bodies share the key.
        refused = await stage.store.delete("a", token="t")
        assert (refused.applied, refused.run is not None) == (False, True)
        stage.clock.advance(LEASE)
        assert await stage.claim("w2") == ["b"]
        assert (await stage.store.delete("a", token="t")).applied

    async def test_whatever_happens_a_key_never_has_two_bodies_and_nothing_is_left_over(
        self, stage: Stage
    ) -> None:
        """Many workers at once, some of which die, hand back, or are cancelled, over three keys."""
        ids = [f"{number:02}" for number in range(45)]
        await stage.store.enqueue([stage.new(id, concurrency_key=f"k{int(id) % 3}") for id in ids])
        ended: list[str] = []
        for turn in range(1000):
            answers = await asyncio.gather(*(stage.ask(f"w{number}", limit=2) for number in range(4)))
            claims = [claim for answer in answers for claim in answer.claims]
            leases = {claim.run.concurrency_key: claim.lease for claim in claims}
            left = {int(id) % 3 for id in ids if id not in ended}
            assert len(leases) == len(claims) == len(left)
            assert await stage.claim("x") == []
            if turn % 4 == 3:
                stage.clock.advance(LEASE + 1)
                continue
            for number, lease in enumerate(leases.values()):
                match (turn + number) % 4:
                    case 0:
                        await stage.store.release([lease])
                    case 1:
                        assert (await stage.store.cancel(lease.run_id, token=f"{turn}")).applied
                        await stage.store.release([lease, Lease(lease.run_id, 99, "x")])
                        ended.append(lease.run_id)
                    case _:
                        assert await stage.finish(lease) == "applied"
                        ended.append(lease.run_id)
            if len(ended) == len(ids):
                break
        assert sorted(ended) == ids
