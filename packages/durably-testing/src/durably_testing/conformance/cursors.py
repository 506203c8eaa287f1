"""How far the body of a step has come: written beside checkpoints, handed to the step's next attempt."""

from dataclasses import replace

import pytest

from durably import RunError
from durably.spi import Failed, Lease, Notes, Reattempt, StepRecord, Wait
from durably_testing.conformance.attempts import failed
from durably_testing.conformance.guards import OWNER
from durably_testing.conformance.stage import LEASE, STATES, Stage, bring_to

ERROR = RunError(type="OSError", message="no", steps=("one",))


def cursor(stage: Stage, text: str | None = "7", *, sequence: int = 1, attempt: int = 1) -> Notes:
    step = stage.step("one", "running", sequence=sequence, attempt=attempt)
    return Notes(cursors=[replace(step, cursor_json=text)])


async def shown(stage: Stage) -> list[tuple[str, int, object]]:
    return [(step.status, step.attempt, step.cursor) for step in await stage.store.list_steps("it", after=0)]


async def handed_out(stage: Stage) -> list[StepRecord]:
    return list((await stage.take("w2")).steps)


async def die_with(stage: Stage, text: str, *, max_crashes: int = 5) -> int:
    """A life in which the cursor comes to this; answers how many runs are parked for its end."""
    claim = await stage.take(f"w{stage.clock.now()}")
    await stage.store.note(claim.lease, cursor(stage, text, attempt=claim.lease.generation))
    stage.clock.advance(LEASE + 1)
    return len((await stage.ask("watcher", limit=0, max_crashes=max_crashes)).parked)


class CursorsContract:
    """How far the body of a step has come: written beside checkpoints, handed to the step's next attempt."""

    @pytest.fixture
    async def lease(self, stage: Stage) -> Lease:
        await stage.trigger("it")
        return (await stage.take()).lease

    @pytest.mark.parametrize("state", STATES)
    async def test_a_cursor_is_written_by_the_present_owner_only(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        assert await stage.store.note(lease, cursor(stage)) == OWNER[state]
        assert await shown(stage) == ([("running", 1, 7)] if OWNER[state] == "applied" else [])
        assert await stage.store.get_run("it") == before

    async def test_of_several_cursors_the_last_one_counts(self, stage: Stage, lease: Lease) -> None:
        await stage.store.note(lease, Notes(started=[stage.step("one", "running", sequence=9)]))
        # Its number is that of the moment in which it was saved, and may be below that of the mark.
        for text in ("1", "2", '"three"'):
            assert await stage.store.note(lease, cursor(stage, text, sequence=5)) == "applied"
        [step] = await stage.store.list_steps("it", after=0)
        assert (step.cursor, step.sequence) == ("three", 9)
        # The mark of a later attempt takes nothing away.
        again = stage.step("one", "running", sequence=10, attempt=2)
        await stage.store.note(lease, Notes(started=[again]))
        assert await shown(stage) == [("running", 2, "three")]

    async def test_the_next_owner_gets_it(self, stage: Stage, lease: Lease) -> None:
        await stage.store.note(lease, cursor(stage))
        await stage.crash()
        [step] = await handed_out(stage)
        assert (step.name, step.status, step.cursor_json) == ("one", "running", "7")

    async def test_a_failed_attempt_and_a_failure_keep_what_came_with_them(
        self, stage: Stage, lease: Lease
    ) -> None:
        assert (
            await stage.store.save_attempt(lease, failed(stage, sequence=2), cursor(stage, "1")) == "applied"
        )
        assert await shown(stage) == [("running", 1, 1)]
        last = stage.step("one", "failed", sequence=4, attempt=2, error=ERROR)
        assert await stage.save(lease, last, cursor(stage, "2", sequence=3, attempt=2)) == "applied"
        assert await shown(stage) == [("failed", 2, 2)]
        # The same again, whose answer did not come.
        assert await stage.save(lease, last, cursor(stage, "2", sequence=3, attempt=2)) == "applied"

    async def test_completing_drops_it_and_nothing_brings_it_back(self, stage: Stage, lease: Lease) -> None:
        await stage.store.note(lease, cursor(stage, "1"))
        assert await stage.save(lease, stage.step("one", sequence=3), cursor(stage, "2")) == "applied"
        assert await stage.store.note(lease, cursor(stage, "3")) == "applied"
        assert await shown(stage) == [("completed", 1, None)]

    @pytest.mark.parametrize("way", ["a person", "the job's own retry"])
    async def test_a_run_that_is_sent_back_goes_on_from_it(
        self, stage: Stage, lease: Lease, way: str
    ) -> None:
        await stage.save(lease, stage.step("before", sequence=1))
        last = stage.step("one", "failed", sequence=3, position=2, attempt=3, error=ERROR)
        await stage.save(lease, last, cursor(stage, sequence=2, attempt=3))
        if way == "a person":
            await stage.finish(lease, Failed(error=ERROR))
            await stage.store.retry("it", token="t")
        else:
            await stage.finish(lease, Reattempt(error=ERROR, attempt=1, delay=0))
        assert await shown(stage) == [("completed", 1, None), ("running", 0, 7)]
        _, step = await handed_out(stage)
        assert (step.position, step.attempt, step.failures, step.cursor_json) == (2, 0, 0, "7")
        assert (step.wake_at, step.error, step.completed_at) == (None, None, None)
        [_, kept] = await stage.store.list_steps("it", after=0)
        assert [(one.number, one.error.type) for one in kept.attempts] == [(3, "OSError")]

    async def test_a_failure_that_ended_nothing_stays_one(self, stage: Stage, lease: Lease) -> None:
        caught = stage.step("one", "failed", sequence=2, error=ERROR)
        await stage.save(lease, caught, cursor(stage))
        await stage.finish(lease, Failed(error=RunError(type="ValueError", message="other")))
        await stage.store.retry("it", token="t")
        assert await shown(stage) == [("failed", 1, 7)]

    async def test_a_wait_that_has_the_name_now_has_nothing_of_it(self, stage: Stage, lease: Lease) -> None:
        await stage.store.note(lease, cursor(stage))
        wait = Wait(step=replace(stage.step("one", "running", sequence=2), kind="signal"))
        assert (await stage.store.settle(lease, [wait], Notes())).answer == "applied"
        assert await shown(stage) == [("running", 1, None)]

    async def test_a_step_that_advances_at_each_death_is_not_poison(self, stage: Stage) -> None:
        await stage.trigger("it")
        for row in range(12):
            assert await die_with(stage, f"{row}") == 0
            run = await stage.run("it")
            assert (run.status, run.crashes) == ("pending", 1)
        claim = await stage.take()
        assert not claim.suspect
        assert [step.cursor_json for step in claim.steps] == ["11"]

    async def test_a_step_that_dies_in_the_same_place_is_poison(self, stage: Stage) -> None:
        await stage.trigger("it")
        await die_with(stage, "1")
        for death in range(1, 5):
            assert await die_with(stage, "2") == 0
            assert (await stage.run("it")).crashes == death
        assert await die_with(stage, "2") == 1
        assert await stage.status("it") == "failed"

    async def test_a_suspect_is_none_once_it_has_advanced(self, stage: Stage) -> None:
        await stage.trigger("it")
        for _ in range(3):
            await die_with(stage, "1")
        claim = await stage.take()
        assert claim.suspect
        await stage.store.note(claim.lease, cursor(stage, "2"))
        assert (await stage.run("it")).crashes == 0
        await stage.store.release([claim.lease])
        assert not (await stage.take()).suspect
