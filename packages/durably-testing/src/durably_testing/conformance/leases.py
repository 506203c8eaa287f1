"""Keeping a run, and handing it back."""

from durably_testing.conformance.stage import LEASE, Stage


class LeasesContract:
    """Keeping a run, and handing it back."""

    async def test_a_renewed_lease_is_not_taken_over(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        for _ in range(3):
            stage.clock.advance(LEASE - 1)
            assert await stage.store.renew("w1", [lease], lease_seconds=LEASE) == {}
            assert await stage.claim("w2") == []
            assert (await stage.ask("w2")).wake_in == LEASE
        assert await stage.save(lease) == "applied"

    async def test_a_lease_that_has_run_out_is_still_good_until_somebody_takes_it(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        stage.clock.advance(LEASE * 10)
        assert await stage.save(lease) == "applied"
        assert await stage.store.renew("w1", [lease], lease_seconds=LEASE) == {}
        assert await stage.claim("w2") == []

    async def test_renewing_does_not_count_as_a_change(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        before = await stage.run("it")
        stage.clock.advance(1)
        await stage.store.renew("w1", [lease], lease_seconds=LEASE)
        after = await stage.run("it")
        assert (after.change, after.updated_at) == (before.change, before.updated_at)
        assert after.lease_expires_at is not None
        assert before.lease_expires_at is not None
        assert after.lease_expires_at > before.lease_expires_at

    async def test_a_heartbeat_without_runs_is_noted(self, stage: Stage) -> None:
        await stage.introduce("w1")
        stage.clock.advance(7)
        assert await stage.store.renew("w1", [], lease_seconds=LEASE) == {}
        [worker] = await stage.store.list_workers()
        assert worker.heartbeat_at.timestamp() == stage.clock.now()

    async def test_a_released_run_can_be_claimed_at_once_and_is_charged_nothing(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        await stage.store.release([lease])
        await stage.store.release([lease])
        run = await stage.run("it")
        assert (run.status, run.lease_owner, run.lease_expires_at, run.crashes) == ("pending", None, None, 0)
        assert await stage.claim("w2") == ["it"]

    async def test_a_held_run_stays_with_its_draining_worker(self, stage: Stage) -> None:
        await stage.introduce("w1")
        await stage.trigger("it")
        lease = (await stage.take()).lease
        await stage.store.hold([lease], seconds=500)
        await stage.store.remove_worker("w1")
        [worker] = await stage.store.list_workers()
        assert (worker.state, worker.running) == ("draining", 1)
        stage.clock.advance(499)
        assert await stage.claim("w2") == []
        assert await stage.save(lease) == "applied"
        stage.clock.advance(1)
        claim = await stage.take("w2")
        assert (claim.run.id, claim.run.crashes) == ("it", 0)

    async def test_a_worker_that_drains_nothing_any_more_can_hand_back(self, stage: Stage) -> None:
        await stage.introduce("w1")
        await stage.trigger("it")
        lease = (await stage.take()).lease
        await stage.store.hold([lease], seconds=500)
        await stage.store.release([lease])
        assert await stage.claim("w2") == ["it"]

    async def test_workers_are_listed_with_what_they_hold(self, stage: Stage) -> None:
        await stage.introduce("w1", slots=3)
        stage.clock.advance(1)
        await stage.introduce("w2")
        await stage.trigger("it")
        await stage.take("w1")
        first, second = await stage.store.list_workers()
        assert (first.id, first.host, first.pid, first.state) == ("w1", "here/boot-1", 1, "active")
        assert (first.slots, first.running, first.jobs) == (3, 1, ("job",))
        assert first.started_at == first.heartbeat_at
        assert (second.id, second.running) == ("w2", 0)
        await stage.store.remove_worker("w1")
        await stage.store.remove_worker("w1")
        assert [worker.id for worker in await stage.store.list_workers()] == ["w2"]

    async def test_a_worker_silent_for_a_day_that_holds_nothing_is_forgotten(self, stage: Stage) -> None:
        await stage.introduce("silent")
        await stage.introduce("alive")
        await stage.introduce("holding")
        await stage.trigger("it")
        await stage.take("holding")
        stage.clock.advance(24 * 3600)
        await stage.store.renew("alive", [], lease_seconds=LEASE)
        assert await stage.store.sweep() == 0
        assert len(await stage.store.list_workers()) == 3
        stage.clock.advance(1)
        assert await stage.store.sweep() == 0
        assert {worker.id for worker in await stage.store.list_workers()} == {"alive", "holding"}
