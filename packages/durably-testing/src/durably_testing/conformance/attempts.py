"""Attempts that failed: at a step, and at a whole job."""

from dataclasses import replace

import pytest

from durably import RunError
from durably.spi import Failed, Lease, Notes, Reattempt, StepRecord
from durably_testing.conformance.guards import OWNER
from durably_testing.conformance.stage import BROKEN, LEASE, STATES, Stage, bring_to

ERROR = RunError(type="OSError", message="no")


AGAIN = Reattempt(error=RunError(type="OSError", message="no", steps=("bad",)), attempt=1, delay=60)


def failed(stage: Stage, name: str = "one", *, sequence: int = 1, attempt: int = 1) -> StepRecord:
    """An attempt that failed, its next one due in a minute."""
    now = stage.clock.now()
    return replace(
        stage.step(name, "running", sequence=sequence, attempt=attempt),
        completed_at=now,
        wake_at=now + 60,
        error=ERROR,
    )


class AttemptsContract:
    """Attempts that failed: at a step, and at a whole job."""

    @pytest.fixture
    async def lease(self, stage: Stage) -> Lease:
        await stage.trigger("it")
        return (await stage.take()).lease

    @pytest.mark.parametrize("state", STATES)
    async def test_a_job_is_sent_back_by_the_present_owner_only(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        assert await stage.finish(lease, AGAIN) == OWNER[state]
        after = await stage.store.get_run("it")
        if OWNER[state] == "applied":
            assert after is not None
            assert (after.status, after.attempt, after.lease_owner) == ("pending", 2, None)
        else:
            assert after == before

    async def test_attempts_are_those_of_a_body_whatever_was_begun_under_the_name(
        self, stage: Stage, lease: Lease
    ) -> None:
        keys = replace(stage.step("one", "running"), kind="map")
        await stage.store.note(lease, Notes(started=[keys]))
        await stage.store.save_attempt(lease, failed(stage, sequence=2), Notes())
        [step] = await stage.store.list_steps("it", after=0)
        assert (step.kind, len(step.attempts)) == ("run", 1)

    async def test_a_failed_attempt_leaves_its_step_running_and_goes_to_its_history(
        self, stage: Stage, lease: Lease
    ) -> None:
        for number in (1, 2):
            record = failed(stage, sequence=number, attempt=number)
            assert await stage.store.save_attempt(lease, record, Notes()) == "applied"
            stage.clock.advance(1)
        [step] = await stage.store.list_steps("it", after=1)
        assert (step.status, step.attempt, step.sequence, step.error) == ("running", 2, 2, None)
        assert [(one.number, one.error) for one in step.attempts] == [(1, ERROR), (2, ERROR)]
        assert step.wake_at is not None
        assert step.wake_at.timestamp() == stage.clock.now() - 1 + 60

    async def test_the_same_attempt_again_is_applied_once(self, stage: Stage, lease: Lease) -> None:
        record = failed(stage)
        assert await stage.store.save_attempt(lease, record, Notes()) == "applied"
        assert await stage.store.save_attempt(lease, record, Notes()) == "applied"
        [step] = await stage.store.list_steps("it", after=0)
        assert len(step.attempts) == 1

    async def test_a_finished_step_has_no_further_attempt(self, stage: Stage, lease: Lease) -> None:
        await stage.save(lease, stage.step(sequence=1))
        assert await stage.store.save_attempt(lease, failed(stage, sequence=2), Notes()) == "lost"
        [step] = await stage.store.list_steps("it", after=0)
        assert (step.status, step.attempts) == ("completed", ())

    async def test_a_mark_that_comes_late_does_not_hide_an_attempt(self, stage: Stage, lease: Lease) -> None:
        await stage.store.save_attempt(lease, failed(stage, sequence=2), Notes())
        await stage.store.note(lease, Notes(started=[stage.step("one", "running", sequence=1)]))
        [step] = await stage.store.list_steps("it", after=0)
        assert (step.sequence, step.wake_at is not None) == (2, True)
        await stage.store.note(lease, Notes(started=[stage.step("one", "running", sequence=3, attempt=2)]))
        [step] = await stage.store.list_steps("it", after=0)
        assert (step.sequence, step.attempt, step.wake_at) == (3, 2, None)

    async def test_the_next_owner_is_told_how_often_each_step_failed(
        self, stage: Stage, lease: Lease
    ) -> None:
        await stage.store.save_attempt(lease, failed(stage, sequence=1), Notes())
        await stage.store.save_attempt(lease, failed(stage, sequence=2, attempt=2), Notes())
        await stage.store.save_attempt(lease, failed(stage, "two", sequence=3), Notes())
        await stage.save(lease, stage.step("three", sequence=4, position=3))
        stage.clock.advance(LEASE + 1)
        claim = await stage.take("w2")
        assert {step.name: step.failures for step in claim.steps} == {"one": 2, "two": 1, "three": 0}
        assert claim.last_sequence == 4

    async def test_a_job_that_begins_again_keeps_what_had_ended_and_counts_anew(
        self, stage: Stage, lease: Lease
    ) -> None:
        await stage.save(lease, stage.step("good", sequence=1))
        await stage.save(lease, stage.step("handled", "failed", position=2, sequence=2, error=ERROR))
        await stage.save(lease, stage.step("bad", "failed", position=3, sequence=3, error=ERROR, attempt=4))
        await stage.store.save_attempt(lease, failed(stage, "cut off", sequence=4), Notes())
        assert await stage.finish(lease, AGAIN, Notes(logs=[stage.line(sequence=5)])) == "applied"

        run = await stage.run("it")
        assert (run.status, run.attempt, run.error, run.completed_at) == ("pending", 2, AGAIN.error, None)
        assert run.due_at is not None
        assert run.due_at.timestamp() == stage.clock.now() + 60
        assert await stage.claim() == []
        stage.clock.advance(60)
        claim = await stage.take()
        steps = {step.name: (step.status, step.failures, step.wake_at) for step in claim.steps}
        assert steps == {
            "good": ("completed", 0, None),
            "handled": ("failed", 0, None),
            "cut off": ("running", 0, None),
        }
        # What was dropped is shown once the step is there again.
        await stage.save(claim.lease, stage.step("bad", position=3, sequence=6))
        shown = {step.name: step.attempts for step in await stage.store.list_steps("it", after=0)}
        assert [one.number for one in shown["bad"]] == [4]
        assert [one.number for one in shown["cut off"]] == [1]
        assert await stage.finish(claim.lease) == "applied"
        done = await stage.run("it")
        assert (done.status, done.error, done.attempt) == ("completed", None, 2)

    async def test_a_delay_of_nothing_makes_the_run_ready_at_once(self, stage: Stage, lease: Lease) -> None:
        await stage.finish(lease, replace(AGAIN, delay=0))
        assert await stage.claim() == ["it"]

    async def test_the_same_reattempt_again_is_applied_once(self, stage: Stage, lease: Lease) -> None:
        assert await stage.finish(lease, AGAIN) == "applied"
        before = await stage.run("it")
        stage.clock.advance(1)
        assert await stage.finish(lease, AGAIN) == "applied"
        assert await stage.run("it") == before
        # Neither another outcome, nor the same once the next owner has begun.
        assert await stage.finish(lease, BROKEN) == "lost"
        stage.clock.advance(60)
        await stage.take("w2")
        assert await stage.finish(lease, AGAIN) == "lost"

    async def test_a_zombies_reattempt_is_not_taken_for_its_predecessors(
        self, stage: Stage, lease: Lease
    ) -> None:
        await stage.finish(lease, AGAIN)
        stage.clock.advance(60)
        second = (await stage.take()).lease
        # Handed back: pending, with the error of the first attempt, as the second would leave it.
        await stage.store.release([second])
        assert await stage.finish(second, replace(AGAIN, attempt=2)) == "lost"
        assert (await stage.run("it")).attempt == 2

    async def test_a_run_that_waits_for_its_next_attempt_keeps_its_key(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        lease = (await stage.take()).lease
        await stage.finish(lease, AGAIN)
        assert await stage.claim() == []
        assert await stage.store.sweep() == 0
        stage.clock.advance(60)
        assert await stage.claim() == ["a"]

    async def test_a_cancel_ends_the_wait_and_frees_the_key(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b")
        lease = (await stage.take()).lease
        await stage.finish(lease, AGAIN)
        assert (await stage.store.cancel("a", token="t")).applied
        assert await stage.claim() == ["b"]

    async def test_a_retry_gives_fresh_attempts_and_a_fresh_clock(self, stage: Stage, lease: Lease) -> None:
        begun = stage.clock.now()
        await stage.store.save_attempt(lease, failed(stage, sequence=1), Notes())
        await stage.finish(lease, Failed(error=ERROR))
        first = await stage.run("it")
        assert first.timed_from is not None
        assert first.timed_from.timestamp() == begun
        stage.clock.advance(100)
        await stage.store.retry("it", token="t")
        assert (await stage.run("it")).timed_from is None
        stage.clock.advance(100)
        claim = await stage.take()
        assert [(step.failures, step.wake_at) for step in claim.steps] == [(0, None)]
        after = await stage.run("it")
        assert after.timed_from is not None
        assert after.timed_from.timestamp() == begun + 200
        assert after.started_at == first.started_at

    async def test_numbers_are_never_given_twice_though_a_retry_drops_a_step(
        self, stage: Stage, lease: Lease
    ) -> None:
        await stage.save(lease, stage.step("bad", "failed", sequence=9, error=ERROR))
        await stage.finish(lease, AGAIN)
        stage.clock.advance(60)
        assert (await stage.take()).last_sequence == 9

    async def test_a_suspended_run_is_claimable_again_at_the_end_of_its_time(
        self, stage: Stage, lease: Lease
    ) -> None:
        until = stage.clock.now() + 10
        assert await stage.store.suspend(lease, [], Notes(), until=until) == "applied"
        assert await stage.claim() == []
        stage.clock.advance(10)
        assert await stage.claim() == ["it"]
