"""What an owner writes: steps, notes, outcomes."""

from dataclasses import replace

import pytest

from durably import Progress, RunError, StepKind
from durably.spi import Completed, Failed, Lease, Notes
from durably_testing.conformance.stage import BROKEN, LEASE, Stage

ERROR = RunError(type="mod.E", message="bad \udc80 \x00", traceback="tb", steps=("a", "b"))


class CheckpointsContract:
    """What an owner writes: steps, notes, outcomes."""

    @pytest.fixture
    async def lease(self, stage: Stage) -> Lease:
        await stage.trigger("it")
        return (await stage.take()).lease

    async def test_a_step_comes_back_as_it_was_written(self, stage: Stage, lease: Lease) -> None:
        await stage.save(lease, stage.step("done", result='{"a": [1, 2]}', sequence=1))
        await stage.save(lease, stage.step("bad", "failed", position=2, sequence=2, error=ERROR, attempt=4))
        done, bad = await stage.store.list_steps("it", after=0)
        assert (done.name, done.status, done.position, done.attempt) == ("done", "completed", 1, 1)
        assert done.result == {"a": [1, 2]}
        assert done.completed_at is not None
        assert done.completed_at.timestamp() == stage.clock.now()
        assert (bad.status, bad.error, bad.attempt, bad.result) == ("failed", ERROR, 4, None)
        assert [step.name for step in await stage.store.list_steps("it", after=1)] == ["bad"]
        assert (await stage.run("it")).completed_step_count == 1

    @pytest.mark.parametrize(("begun", "ended"), [("run", "map"), ("map", "run")])
    async def test_a_step_is_of_the_kind_that_was_written_last(
        self, stage: Stage, lease: Lease, begun: StepKind, ended: StepKind
    ) -> None:
        await stage.store.note(lease, Notes(started=[replace(stage.step(status="running"), kind=begun)]))
        assert [step.kind for step in await stage.store.list_steps("it", after=0)] == [begun]
        await stage.save(lease, replace(stage.step(sequence=2), kind=ended))
        assert [step.kind for step in await stage.store.list_steps("it", after=0)] == [ended]

    @pytest.mark.parametrize("first", ["completed", "failed"])
    async def test_a_finished_step_is_never_overwritten(self, stage: Stage, lease: Lease, first: str) -> None:
        record = stage.step(result="1") if first == "completed" else stage.step(status="failed", error=ERROR)
        other = stage.step(result="2")
        assert await stage.save(lease, record) == "applied"
        assert await stage.save(lease, record) == "applied"
        assert await stage.save(lease, other) == "lost"
        await stage.store.note(lease, Notes(started=[stage.step(status="running", attempt=2)]))
        [stored] = await stage.store.list_steps("it", after=0)
        assert (stored.status, stored.result_json, stored.attempt) == (first, record.result_json, 1)

    async def test_a_repeated_record_after_the_lease_is_lost_is_refused(
        self, stage: Stage, lease: Lease
    ) -> None:
        record = stage.step()
        await stage.save(lease, record)
        stage.clock.advance(LEASE + 1)
        await stage.take("w2")
        assert await stage.save(lease, record) == "lost"

    async def test_a_running_step_is_overwritten_by_its_outcome(self, stage: Stage, lease: Lease) -> None:
        await stage.store.note(lease, Notes(started=[stage.step(status="running")]))
        assert [step.status for step in await stage.store.list_steps("it", after=0)] == ["running"]
        await stage.save(lease, stage.step(status="cancelled", sequence=2))
        await stage.save(lease, stage.step(sequence=3))
        assert [step.status for step in await stage.store.list_steps("it", after=0)] == ["completed"]

    async def test_notes_ride_along_with_a_step(self, stage: Stage, lease: Lease) -> None:
        notes = Notes(
            logs=[stage.line("one", sequence=2), stage.line("two \udc80 ü", sequence=3)],
            progress=Progress(current=1, total=3, message="ü \udc80"),
            started=[stage.step("next", "running", position=2, sequence=4)],
        )
        assert await stage.save(lease, stage.step(), notes) == "applied"
        assert await stage.save(lease, stage.step(), notes) == "applied"
        logs = await stage.store.list_logs("it", after=0, limit=None)
        assert [(line.sequence, line.message, line.level) for line in logs] == [
            (2, "one", "info"),
            (3, "two \\udc80 ü", "info"),
        ]
        assert logs[0].fields == {"a": 1}
        assert logs[0].created_at.timestamp() == stage.clock.now()
        assert (await stage.run("it")).progress == Progress(current=1, total=3, message="ü \\udc80")
        assert [step.name for step in await stage.store.list_steps("it", after=0)] == ["one", "next"]

    async def test_a_refused_step_takes_its_notes_with_it(self, stage: Stage, lease: Lease) -> None:
        await stage.store.cancel("it", token="t")
        notes = Notes(logs=[stage.line()], progress=Progress(current=1))
        assert await stage.save(lease, stage.step(), notes) == "cancelled"
        assert await stage.store.note(lease, notes) == "cancelled"
        assert await stage.finish(lease, notes=notes) == "cancelled"
        assert list(await stage.store.list_logs("it", after=0, limit=None)) == []
        assert (await stage.run("it")).progress is None

    async def test_a_checkpoint_alone_does_not_move_the_run(self, stage: Stage, lease: Lease) -> None:
        before = await stage.run("it")
        stage.clock.advance(1)
        await stage.save(lease)
        after = await stage.run("it")
        assert (after.updated_at, after.change) == (before.updated_at, before.change)
        await stage.store.note(lease, Notes(progress=Progress(current=0)))
        moved = await stage.run("it")
        assert moved.change > after.change
        assert moved.updated_at > after.updated_at

    async def test_a_completed_run_has_its_output_and_no_owner(self, stage: Stage, lease: Lease) -> None:
        await stage.save(lease)
        stage.clock.advance(1)
        notes = Notes(logs=[stage.line()])
        assert await stage.finish(lease, Completed(output_json="[1]"), notes) == "applied"
        run = await stage.run("it")
        assert (run.status, run.output, run.error) == ("completed", [1], None)
        assert (run.lease_owner, run.lease_expires_at, run.lease_generation) == (None, None, 1)
        assert run.completed_at is not None
        assert run.completed_at.timestamp() == stage.clock.now()
        assert run.completed_step_count == 1
        assert len(await stage.store.list_logs("it", after=0, limit=None)) == 1

    async def test_a_failed_run_has_its_error(self, stage: Stage, lease: Lease) -> None:
        assert await stage.finish(lease, Failed(error=ERROR)) == "applied"
        run = await stage.run("it")
        assert (run.status, run.output, run.error) == ("failed", None, ERROR)

    @pytest.mark.parametrize("outcome", [Completed(output_json="1"), BROKEN])
    async def test_the_same_outcome_again_is_applied_and_another_is_not(
        self, stage: Stage, lease: Lease, outcome: Completed | Failed
    ) -> None:
        assert await stage.finish(lease, outcome) == "applied"
        before = await stage.run("it")
        stage.clock.advance(1)
        assert await stage.finish(lease, outcome) == "applied"
        assert await stage.finish(lease, Completed(output_json="2")) == "lost"
        assert await stage.run("it") == before

    async def test_a_zombie_writes_nothing_whichever_way_it_lost_its_lease(
        self, stage: Stage, lease: Lease
    ) -> None:
        stage.clock.advance(LEASE + 1)
        fresh = (await stage.take("w2")).lease
        notes = Notes(logs=[stage.line()], progress=Progress(current=9), started=[stage.step("z", "running")])
        assert await stage.save(lease, stage.step("z"), notes) == "lost"
        assert await stage.store.note(lease, notes) == "lost"
        assert await stage.finish(lease, notes=notes) == "lost"
        await stage.store.release([lease])
        assert await stage.store.renew("w1", [lease, fresh], lease_seconds=LEASE) == {"it": "lost"}
        run = await stage.run("it")
        assert (run.lease_owner, run.progress) == ("w2", None)
        assert list(await stage.store.list_steps("it", after=0)) == []
        assert await stage.finish(fresh) == "applied"
