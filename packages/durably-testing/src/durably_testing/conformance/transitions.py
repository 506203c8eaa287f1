"""What people do to runs: cancel, retry, delete, purge; and doing it twice."""

from durably import RunError
from durably.spi import Failed, Notes
from durably_testing.conformance.stage import Stage, bring_to


class TransitionsContract:
    """What people do to runs: cancel, retry, delete, purge; and doing it twice."""

    async def test_a_cancel_repeated_with_its_token_answers_as_the_first_time(self, stage: Stage) -> None:
        await stage.trigger("it")
        first = await stage.store.cancel("it", token="t")
        stage.clock.advance(1)
        again = await stage.store.cancel("it", token="t")
        assert again == first
        assert again.applied
        assert not (await stage.store.cancel("it", token="other")).applied

    async def test_a_retry_repeated_with_its_token_answers_as_the_first_time(self, stage: Stage) -> None:
        await bring_to(stage, "failed")
        assert (await stage.store.retry("it", token="t")).applied
        await stage.take()
        again = await stage.store.retry("it", token="t")
        assert again.applied
        assert again.run is not None
        # Applied once: the run that is executing by now was not touched.
        assert again.run.status == "running"
        assert not (await stage.store.retry("it", token="other")).applied

    async def test_a_delete_repeated_finds_nothing(self, stage: Stage) -> None:
        await bring_to(stage, "completed")
        first = await stage.store.delete("it", token="t")
        assert first.applied
        assert first.run is not None
        assert first.run.status == "completed"
        again = await stage.store.delete("it", token="t")
        assert (again.applied, again.run) == (False, None)

    async def test_a_missing_run_is_told_apart_from_a_refusal(self, stage: Stage) -> None:
        for verb in (stage.store.cancel, stage.store.retry, stage.store.delete):
            answer = await verb("nobody", token="t")
            assert (answer.applied, answer.run) == (False, None)

    async def test_a_cancelled_run_of_a_living_body_keeps_its_owner(self, stage: Stage) -> None:
        lease = await bring_to(stage, "running")
        answer = await stage.store.cancel("it", token="t")
        assert answer.run is not None
        assert (answer.run.status, answer.run.lease_owner) == ("cancelled", "w1")
        assert await stage.store.check([lease]) == {"it": "cancelled"}
        assert await stage.save(lease) == "cancelled"

    async def test_of_cancel_and_finish_exactly_one_wins(self, stage: Stage) -> None:
        lease = await bring_to(stage, "running")
        assert await stage.finish(lease) == "applied"
        assert not (await stage.store.cancel("it", token="t")).applied
        other = await bring_to(stage, "running", id="other")
        assert (await stage.store.cancel("other", token="t")).applied
        assert await stage.finish(other) == "cancelled"
        assert (await stage.run("other")).output_json is None

    async def test_a_retry_drops_exactly_the_steps_that_ended_the_run(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        failure = RunError(type="E", message="m")
        await stage.save(lease, stage.step("good", position=1))
        await stage.save(lease, stage.step("caught", "failed", position=2, error=failure))
        await stage.save(lease, stage.step("bad", "failed", position=3, error=failure))
        await stage.save(lease, stage.step("worse", "failed", position=4, error=failure))
        notes = Notes(logs=[stage.line(sequence=9)])
        outcome = Failed(error=RunError(type="E", message="m", steps=("bad", "worse")))
        await stage.finish(lease, outcome, notes)
        answer = await stage.store.retry("it", token="t")
        assert answer.run is not None
        assert answer.run.completed_step_count == 1
        claim = await stage.take()
        assert [step.name for step in claim.steps] == ["good", "caught"]
        assert claim.last_sequence == 9
        assert await stage.save(claim.lease, stage.step("bad", position=5)) == "applied"

    async def test_a_retry_keeps_the_story_and_clears_the_end(self, stage: Stage) -> None:
        await bring_to(stage, "failed")
        before = await stage.run("it")
        stage.clock.advance(5)
        await stage.store.retry("it", token="t")
        after = await stage.run("it")
        assert (after.status, after.error, after.output_json, after.completed_at) == (
            "pending",
            None,
            None,
            None,
        )
        assert (after.created_at, after.started_at) == (before.created_at, before.started_at)
        assert (after.position, after.lease_generation) == (before.position, before.lease_generation)
        assert after.change > before.change

    async def test_a_retried_delayed_run_does_not_wait_again(self, stage: Stage) -> None:
        await stage.trigger("it", delay=100)
        await stage.store.cancel("it", token="t")
        await stage.store.retry("it", token="u")
        assert await stage.claim() == ["it"]

    async def test_a_purge_spares_a_key_that_a_cancelled_body_holds(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        lease = (await stage.take()).lease
        await stage.store.cancel("a", token="t")
        stage.clock.advance(5)
        assert await stage.store.purge(older_than=1, limit=9) == 0
        await stage.store.release([lease])
        assert await stage.store.purge(older_than=1, limit=9) == 1
