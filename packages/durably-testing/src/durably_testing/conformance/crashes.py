"""The poison guard: what a death is charged to, and when a run is parked (S26)."""

from durably.spi import Lease, Notes
from durably_testing.conformance.stage import LEASE, Stage

ALONE = 5


async def die(stage: Stage, worker: str) -> None:
    """A worker falls silent, and somebody with no slot free notices."""
    del worker
    stage.clock.advance(LEASE + 1)
    await stage.ask("watcher", limit=0)


class CrashesContract:
    """The poison guard: what a death is charged to, and when a run is parked (S26)."""

    async def test_a_run_that_kills_its_worker_five_times_in_a_row_is_parked(self, stage: Stage) -> None:
        await stage.trigger("killer")
        for death in range(1, ALONE):
            await stage.take(f"w{death}")
            await die(stage, f"w{death}")
            run = await stage.run("killer")
            assert (run.status, run.crashes) == ("pending", death)
        last = await stage.take("w5")
        started = Notes(started=[stage.step("boom", "running")])
        await stage.store.note(last.lease, started)
        stage.clock.advance(LEASE + 1)
        answer = await stage.ask("watcher")
        assert [run.id for run in answer.parked] == ["killer"]
        assert list(answer.claims) == []
        run = await stage.run("killer")
        assert run == answer.parked[0]
        assert run.status == "failed"
        assert run.completed_at is not None
        assert run.error is not None
        assert run.error.type == "WorkerCrashed"
        assert "5 workers" in run.error.message
        assert "'boom' was running" in run.error.message
        assert await stage.ask("watcher") == type(answer)(wake_in=None)

    async def test_the_message_of_a_parked_run_names_the_last_step_that_finished(self, stage: Stage) -> None:
        await stage.trigger("killer")
        await stage.save((await stage.take()).lease, stage.step("before"))
        for _ in range(2):
            await die(stage, "w1")
            await stage.take()
        stage.clock.advance(LEASE + 1)
        [parked] = (await stage.ask("w2", max_crashes=2)).parked
        assert parked.error is not None
        assert "after step 'before' had finished" in parked.error.message
        assert parked.completed_step_count == 1

    async def test_the_message_of_a_parked_run_says_when_it_never_got_anywhere(self, stage: Stage) -> None:
        await stage.trigger("killer")
        await stage.take()
        stage.clock.advance(LEASE + 1)
        [parked] = (await stage.ask("w2", max_crashes=1)).parked
        assert parked.error is not None
        assert "before its first step" in parked.error.message

    async def test_parking_frees_the_key(self, stage: Stage) -> None:
        await stage.trigger_keyed("killer", "next")
        await stage.take()
        stage.clock.advance(LEASE + 1)
        answer = await stage.ask("w2", max_crashes=1)
        assert [claim.run.id for claim in answer.claims] == ["next"]

    async def test_a_parked_run_can_be_retried_with_a_clean_record(self, stage: Stage) -> None:
        await stage.trigger("killer")
        await stage.take()
        stage.clock.advance(LEASE + 1)
        await stage.ask("w2", max_crashes=1)
        await stage.store.retry("killer", token="t")
        claim = await stage.take()
        assert (claim.run.crashes, claim.suspect) == (0, False)

    async def test_a_new_checkpoint_begins_a_new_series(self, stage: Stage) -> None:
        await stage.trigger("it")
        for number in range(2 * ALONE):
            lease = (await stage.take()).lease
            saved = stage.step(f"step-{number}", "completed" if number % 2 else "failed")
            assert await stage.save(lease, saved) == "applied"
            assert (await stage.run("it")).crashes == 0
            await die(stage, "w1")
            assert (await stage.run("it")).crashes == 1
        assert await stage.status("it") == "pending"

    async def test_a_graceful_stop_does_not_count(self, stage: Stage) -> None:
        await stage.trigger("it")
        for _ in range(2 * ALONE):
            await stage.store.release([(await stage.take()).lease])
        assert (await stage.run("it")).crashes == 0

    async def test_an_innocent_neighbour_of_a_killer_is_never_parked(self, stage: Stage) -> None:
        """Workers take everything; the killer kills them; its neighbours make no progress at all."""
        await stage.trigger("killer")
        for number in range(3):
            await stage.trigger(f"neighbour-{number}")
        parked: list[str] = []
        for life in range(40):
            claims = (await stage.ask(f"w{life}")).claims
            killed = any(claim.run.id == "killer" for claim in claims)
            stage.clock.advance(1)
            if killed:
                stage.clock.advance(LEASE + 1)
                parked += [run.id for run in (await stage.ask("watcher", limit=0)).parked]
            else:
                await stage.store.release([claim.lease for claim in claims])
        assert parked == ["killer"]
        for number in range(3):
            assert await stage.status(f"neighbour-{number}") == "pending"

    async def test_a_suspect_is_claimed_alone(self, stage: Stage) -> None:
        await stage.trigger("suspect")
        for _ in range(2):
            await stage.take()
            await die(stage, "w1")
        await stage.trigger("b")
        answer = await stage.ask("w2")
        assert [(claim.run.id, claim.suspect) for claim in answer.claims] == [("suspect", True)]
        assert [claim.run.id for claim in (await stage.ask("w3")).claims] == ["b"]

    async def test_a_batch_ends_before_a_suspect_and_says_that_there_is_more(self, stage: Stage) -> None:
        await stage.trigger("suspect")
        for _ in range(2):
            await stage.take()
            await die(stage, "w1")
        await stage.trigger("urgent", priority=9)
        await stage.trigger("after")
        answer = await stage.ask("w2")
        assert [claim.run.id for claim in answer.claims] == ["urgent"]
        assert answer.wake_in == 0
        assert [claim.run.id for claim in (await stage.ask("w2")).claims] == ["suspect"]
        assert [claim.run.id for claim in (await stage.ask("w2")).claims] == ["after"]

    async def test_a_suspect_with_a_new_checkpoint_is_none_any_more(self, stage: Stage) -> None:
        await stage.trigger("it")
        for _ in range(2):
            await stage.take()
            await die(stage, "w1")
        claim = await stage.take()
        assert claim.suspect
        await stage.save(claim.lease)
        await stage.store.release([claim.lease])
        await stage.trigger("other")
        answer = await stage.ask("w2")
        assert [(claim.run.id, claim.suspect) for claim in answer.claims] == [("it", False), ("other", False)]

    async def test_the_runs_of_one_owner_are_judged_together(self, stage: Stage) -> None:
        """Two runs, one lease each, one death: neither is charged as if it had been alone."""
        await stage.trigger("a")
        await stage.trigger("b")
        for _ in range(10):
            # Two claims, as b would be claimed alone once it is a suspect.
            await stage.ask("w1", limit=1)
            await stage.ask("w1", limit=1)
            stage.clock.advance(LEASE + 1)
            assert list((await stage.ask("watcher", limit=0, max_crashes=3)).parked) == []
        assert (await stage.run("a")).crashes == 10

    async def test_a_lease_that_ends_later_than_its_neighbours_is_judged_without_them(
        self, stage: Stage
    ) -> None:
        await stage.introduce("w1")
        await stage.trigger("early")
        await stage.take("w1")
        stage.clock.advance(LEASE / 2)
        await stage.trigger("late")
        await stage.take("w1")
        stage.clock.advance(LEASE / 2)
        await stage.ask("w2", limit=0, max_crashes=1)
        stage.clock.advance(LEASE / 2)
        # When its lease ends too it is all that w1 holds, but it was not all that w1 died with.
        assert list((await stage.ask("w2", limit=0, max_crashes=1)).parked) == []
        assert (await stage.run("late")).crashes == 1

    async def test_a_worker_that_only_says_what_it_knows_is_not_heard_from_by_that(
        self, stage: Stage
    ) -> None:
        await stage.introduce("w1")
        await stage.trigger("it")
        await stage.take("w1")
        await die(stage, "w1")
        await stage.introduce("w1")
        [worker] = await stage.store.list_workers()
        assert worker.state == "lost"
        await stage.store.renew("w1", [], lease_seconds=LEASE)
        assert (await stage.run("it")).crashes == 0

    async def test_a_charge_wiped_by_a_newer_checkpoint_is_not_given_back_twice(self, stage: Stage) -> None:
        await stage.introduce("w1")
        await stage.trigger("it")
        await stage.take("w1")
        await die(stage, "w1")
        lease = (await stage.take("w2")).lease
        await stage.save(lease)
        await die(stage, "w2")
        assert (await stage.run("it")).crashes == 1
        await stage.store.renew("w1", [], lease_seconds=LEASE)
        assert (await stage.run("it")).crashes == 1

    async def test_a_worker_that_finds_its_own_lease_run_out_has_not_died(self, stage: Stage) -> None:
        await stage.introduce("w1")
        await stage.trigger("it")
        await stage.take("w1")
        stage.clock.advance(LEASE + 1)
        claim = await stage.take("w1")
        assert (claim.run.crashes, claim.lease.generation) == (0, 2)
        [worker] = await stage.store.list_workers()
        assert worker.state == "active"

    async def test_a_cancelled_body_is_a_suspect_neighbour_but_charged_nothing(self, stage: Stage) -> None:
        await stage.trigger("cancelled")
        await stage.trigger("other")
        leases = await stage.take_all()
        await stage.store.cancel("cancelled", token="t")
        stage.clock.advance(LEASE + 1)
        # The other was not alone: the cancelled one's body may have been the killer.
        assert list((await stage.ask("watcher", limit=0, max_crashes=1)).parked) == []
        assert (await stage.run("cancelled")).crashes == 0
        assert (await stage.run("other")).crashes == 1
        assert await stage.store.check(list(leases.values())) == {"cancelled": "cancelled", "other": "lost"}

    async def test_leases_unknown_to_the_store_are_lost(self, stage: Stage) -> None:
        assert await stage.store.check([Lease("nobody", 1, "w1")]) == {"nobody": "lost"}
