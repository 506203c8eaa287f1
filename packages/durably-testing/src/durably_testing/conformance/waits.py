"""How waits begin and end, and what parks and wakes a run."""

from dataclasses import replace

import pytest
from typing_extensions import Unpack

from durably import ConflictError, StepKind, ValidationError
from durably.spi import Lease, NewRun, NewSignal, Notes, Outcome, Reattempt, StepRecord, Wait
from durably_testing.conformance.guards import OWNER
from durably_testing.conformance.stage import BROKEN, DONE, STATES, RunFields, Stage, bring_to

NOTHING = Notes()


def wait(
    stage: Stage,
    kind: StepKind = "sleep",
    name: str = "wait",
    *,
    wake_in: float | None = None,
    key: str | None = None,
    child: str | None = None,
    child_key: str | None = None,
) -> Wait:
    step = replace(
        stage.step(name, "running"),
        kind=kind,
        wake_at=None if wake_in is None else stage.clock.now() + wake_in,
        signal_key=key,
        child_id=child,
    )
    new = None
    if child is not None:
        new = replace(
            stage.new(child, concurrency_key=child_key, key_scope="job" if child_key else None),
            parent_id="it",
        )
    return Wait(step=step, child=new)


def child_of(stage: Stage, parent: str) -> NewRun:
    return replace(stage.new("grandkid"), parent_id=parent)


async def step_of(stage: Stage, name: str = "wait", run: str = "it") -> StepRecord:
    [found] = [step for step in await stage.store.list_steps(run, after=0) if step.name == name]
    return StepRecord(
        name=found.name,
        status=found.status,
        position=found.position,
        attempt=found.attempt,
        sequence=found.sequence,
        started_at=found.started_at.timestamp(),
        result_json=found.result_json,
        error=found.error,
        kind=found.kind,
    )


async def running(stage: Stage, id: str = "it", **fields: Unpack[RunFields]) -> Lease:
    await stage.trigger(id, **fields)
    return (await stage.take()).lease


async def send(stage: Stage, name: str = "wait", *, id: str = "s1", key: str | None = None) -> str:
    run_id = "it" if key is None else None
    return await stage.store.send_signal(
        NewSignal(id=id, name=name, payload_json=f'"{id}"', run_id=run_id, key=key)
    )


def joining(stage: Stage, child_id: str = "child", *, job: str = "job", name: str = "join") -> Wait:
    step = replace(stage.step(name, "running", sequence=9, position=9), kind="child", child_id=child_id)
    return Wait(step=step, joins=job)


async def with_a_child(stage: Stage) -> Lease:
    """A run with a child."""
    await stage.trigger("it")
    lease = (await stage.take()).lease
    child = NewRun(id="child", job_name="job", input_json="{}", parent_id="it")
    step = replace(stage.step("side", "running"), kind="spawn", child_id="child")
    await stage.store.settle(lease, [Wait(step=step, child=child)], NOTHING)
    return lease


class WaitsContract:
    """How waits begin and end, and what parks and wakes a run."""

    @pytest.mark.parametrize("state", STATES)
    async def test_only_the_present_owner_parks_a_run_or_settles_its_waits(
        self, stage: Stage, state: str
    ) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        settled = await stage.store.settle(lease, [wait(stage, wake_in=60)], NOTHING)
        assert settled.answer == OWNER[state]
        parked = await stage.store.suspend(lease, [wait(stage, name="two", wake_in=60)], NOTHING)
        assert parked == OWNER[state]
        if OWNER[state] == "applied":
            assert await stage.status("it") == "waiting"
        else:
            assert await stage.store.get_run("it") == before
            assert await stage.store.list_steps("it", after=0) == []

    async def test_a_parked_run_is_nobodys_until_its_time(self, stage: Stage) -> None:
        lease = await running(stage)
        line = Notes(logs=[stage.line()])
        assert (
            await stage.store.suspend(
                lease, [wait(stage, wake_in=60), wait(stage, name="b", wake_in=90)], line
            )
            == "applied"
        )
        run = await stage.run("it")
        assert (run.status, run.lease_owner, run.lease_expires_at) == ("waiting", None, None)
        assert len(await stage.store.list_logs("it", after=0, limit=None)) == 1
        assert await stage.save(lease) == "lost"
        assert (await stage.ask()).wake_in == 60
        stage.clock.advance(60)
        claim = await stage.take("w2")
        assert {step.name: step.status for step in claim.steps} == {"wait": "completed", "b": "running"}
        assert claim.last_sequence >= max(step.sequence for step in claim.steps)
        assert claim.run.crashes == 0

    async def test_the_first_deadline_counts(self, stage: Stage) -> None:
        lease = await running(stage)
        await stage.store.settle(lease, [wait(stage, wake_in=60)], NOTHING)
        stage.clock.advance(30)
        settled = await stage.store.settle(lease, [wait(stage, wake_in=60)], NOTHING)
        assert settled.steps[0].wake_at == stage.clock.now() + 30
        assert settled.steps[0].status == "running"
        stage.clock.advance(30)
        settled = await stage.store.settle(lease, [wait(stage, wake_in=60)], NOTHING)
        assert settled.steps[0].status == "completed"

    async def test_a_run_whose_wait_is_over_is_not_parked(self, stage: Stage) -> None:
        lease = await running(stage)
        await send(stage)
        assert await stage.store.suspend(lease, [wait(stage, "signal")], NOTHING) == "applied"
        assert await stage.status("it") == "pending"
        assert (await stage.take()).steps[0].result_json == '"s1"'

    async def test_a_signal_goes_to_a_suspended_wait_at_once(self, stage: Stage) -> None:
        for id in ("it", "younger"):
            lease = await running(stage, id)
            await stage.store.suspend(lease, [wait(stage, "signal", key="k")], NOTHING)
            stage.clock.advance(1)
        await send(stage, id="s1", key="k")
        assert [await stage.status(id) for id in ("it", "younger")] == ["pending", "waiting"]
        await send(stage, id="s2", key="k")
        assert [await stage.status(id) for id in ("it", "younger")] == ["pending", "pending"]
        assert (await step_of(stage, run="younger")).result_json == '"s2"'

    async def test_a_signal_sent_after_the_deadline_is_too_late(self, stage: Stage) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "signal", wake_in=60)], NOTHING)
        stage.clock.advance(61)
        await send(stage)
        step = await step_of(stage)
        assert step.status == "failed"
        assert step.error is not None
        assert step.error.type == "durably.errors.SignalTimeout"
        assert await stage.status("it") == "pending"
        assert (await stage.take()).steps[0].status == "failed"

    @pytest.mark.parametrize("outcome", [DONE, BROKEN])
    async def test_a_childs_end_wakes_its_parent(self, stage: Stage, outcome: Outcome) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", child="kid")], NOTHING)
        kid = await stage.take()
        assert (kid.run.id, kid.run.parent_id) == ("kid", "it")
        await stage.finish(kid.lease, outcome)
        assert await stage.status("it") == "pending"
        step = await step_of(stage)
        if outcome is DONE:
            assert (step.status, step.result_json) == ("completed", '"done"')
        else:
            assert step.error is not None
            assert (step.error.type, step.error.steps) == ("ValueError", ())

    async def test_a_cancelled_child_wakes_its_parent(self, stage: Stage) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", child="kid")], NOTHING)
        await stage.store.cancel("kid", token="t")
        assert await stage.status("it") == "pending"
        assert (await step_of(stage)).status == "failed"

    async def test_a_child_that_ends_while_its_parent_is_executing_is_seen_at_the_next_look(
        self,
        stage: Stage,
    ) -> None:
        lease = await running(stage)
        first = await stage.store.settle(lease, [wait(stage, "child", child="kid")], NOTHING)
        assert first.steps[0].status == "running"
        kid = await stage.take()
        await stage.finish(kid.lease)
        assert (await step_of(stage)).status == "running"
        second = await stage.store.settle(lease, [wait(stage, "child", child="kid")], NOTHING)
        assert second.steps[0].result_json == '"done"'
        assert len(await stage.ids()) == 2

    async def test_a_waiting_run_keeps_its_key(self, stage: Stage) -> None:
        lease = await running(stage, concurrency_key="k")
        await stage.trigger("before", concurrency_key="k")
        await stage.store.suspend(lease, [wait(stage, wake_in=60)], NOTHING)
        await stage.trigger("after", concurrency_key="k")
        assert await stage.claim() == []
        stage.clock.advance(61)
        assert await stage.claim() == ["it"]

    async def test_a_spawned_child_is_stored_with_its_checkpoint(self, stage: Stage) -> None:
        lease = await running(stage)
        settled = await stage.store.settle(lease, [wait(stage, "spawn", child="kid")], NOTHING)
        assert (settled.steps[0].status, settled.steps[0].result_json) == ("completed", '"kid"')
        assert await stage.status("kid") == "pending"
        assert await stage.store.unfinished_children("it", limit=10) == ["kid"]

    async def test_a_child_of_an_ancestors_key_is_refused_and_not_stored(self, stage: Stage) -> None:
        lease = await running(stage, concurrency_key="k", key_scope="job")
        with pytest.raises(ConflictError, match="'k'"):
            await stage.store.settle(lease, [wait(stage, "child", child="kid", child_key="k")], NOTHING)
        assert await stage.ids() == ["it"]
        # A spawned one queues behind it, and nobody waits.
        await stage.store.settle(lease, [wait(stage, "spawn", child="kid", child_key="k")], NOTHING)
        assert await stage.ids() == ["kid", "it"]

    async def test_children_of_a_cancelled_parent_are_found_if_nobody_came_to_them(
        self, stage: Stage
    ) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", child="kid")], NOTHING)
        assert await stage.store.orphans(limit=10) == []
        await stage.store.cancel("it", token="t")
        assert await stage.store.orphans(limit=10) == ["kid"]
        await stage.store.cancel("kid", token="t")
        assert await stage.store.orphans(limit=10) == []

    async def test_a_retry_waits_for_the_failed_child_again_and_retries_it(self, stage: Stage) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", "bad", child="kid")], NOTHING)
        await stage.finish((await stage.take()).lease, BROKEN)
        parent = await stage.take()
        await stage.finish(parent.lease, BROKEN)
        await stage.store.retry("it", token="t")
        assert [await stage.status(id) for id in ("it", "kid")] == ["pending", "pending"]
        step = await step_of(stage, "bad")
        assert (step.status, step.error) == ("running", None)

    async def test_a_job_that_begins_again_retries_the_child_that_failed_it(self, stage: Stage) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", "bad", child="kid")], NOTHING)
        await stage.finish((await stage.take()).lease, BROKEN)
        again = Reattempt(error=BROKEN.error, attempt=1, delay=0)
        await stage.finish((await stage.take()).lease, again)
        assert [await stage.status(id) for id in ("it", "kid")] == ["pending", "pending"]

    async def test_a_job_that_begins_again_does_not_revive_a_child_that_a_person_cancelled(
        self, stage: Stage
    ) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", "bad", child="kid")], NOTHING)
        await stage.store.cancel("kid", token="t")
        again = Reattempt(error=BROKEN.error, attempt=1, delay=0)
        assert await stage.finish((await stage.take()).lease, again) == "applied"
        assert [await stage.status(id) for id in ("it", "kid")] == ["pending", "cancelled"]
        # So the job's next attempt meets the same end of it.
        assert [(step.name, step.status) for step in (await stage.take()).steps] == [("bad", "failed")]

    async def test_a_retry_of_a_cancelled_run_takes_the_child_along_that_was_cancelled_with_it(
        self,
        stage: Stage,
    ) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", child="kid")], NOTHING)
        kid = (await stage.take()).lease
        grandchild = replace(wait(stage, "child", child="grandkid"), child=child_of(stage, "kid"))
        await stage.store.suspend(kid, [grandchild], NOTHING)
        for id in ("it", "kid", "grandkid"):
            await stage.store.cancel(id, token="c")
        assert (await stage.store.retry("it", token="r")).applied
        assert [await stage.status(id) for id in ("it", "kid", "grandkid")] == ["pending"] * 3
        # The same call again touches nothing.
        await stage.store.cancel("grandkid", token="d")
        assert (await stage.store.retry("it", token="r")).applied
        assert await stage.status("grandkid") == "cancelled"

    async def test_a_retry_begins_a_child_that_was_deleted_anew(self, stage: Stage) -> None:
        lease = await running(stage)
        await stage.store.suspend(lease, [wait(stage, "child", "bad", child="kid")], NOTHING)
        await stage.finish((await stage.take()).lease, BROKEN)
        await stage.finish((await stage.take()).lease, BROKEN)
        await stage.store.delete("kid", token="d")
        await stage.store.retry("it", token="t")
        claim = await stage.take()
        assert claim.steps == []
        settled = await stage.store.settle(claim.lease, [wait(stage, "child", "bad", child="kid")], NOTHING)
        assert [step.status for step in settled.steps] == ["running"]
        assert await stage.status("kid") == "pending"

    @pytest.mark.parametrize("order", ["id first", "key first"])
    async def test_of_signals_by_id_and_by_key_the_older_is_taken(self, stage: Stage, order: str) -> None:
        lease = await running(stage)
        both = [
            NewSignal(id="by id", name="wait", payload_json='"id"', run_id="it"),
            NewSignal(id="by key", name="wait", payload_json='"key"', key="k"),
        ]
        for signal in both if order == "id first" else reversed(both):
            await stage.store.send_signal(signal)
            stage.clock.advance(1)
        (settled,) = (await stage.store.settle(lease, [wait(stage, "signal", key="k")], NOTHING)).steps
        assert settled.result_json == f'"{order.partition(" ")[0]}"'

    async def test_the_ripe_waits_are_those_that_settling_ends(self, stage: Stage) -> None:
        lease = await running(stage)
        other = await running(stage, "other")
        await stage.store.settle(
            lease,
            [
                wait(stage, "sleep", "nap", wake_in=60),
                wait(stage, "sleep", "long nap", wake_in=600),
                wait(stage, "signal", "go"),
                wait(stage, "signal", "paid", key="k"),
                wait(stage, "signal", "in time", wake_in=60),
                wait(stage, "child", "call", child="kid"),
                wait(stage, "child", "lost", child="gone"),
                wait(stage, "run", "attempt", wake_in=1),
            ],
            NOTHING,
        )
        await stage.store.settle(other, [wait(stage, "sleep", "nap", wake_in=60)], NOTHING)

        async def ripe() -> set[str]:
            names = set(await stage.store.ripe_waits("it"))
            waits = [Wait(step=await step_of(stage, name)) for name in names]
            settled = (await stage.store.settle(lease, waits, NOTHING)).steps
            assert {step.status for step in settled} <= {"completed", "failed"}
            assert await stage.store.ripe_waits("it") == []
            return names

        assert await ripe() == set()
        for name, key in (("go", None), ("paid", "k"), ("paid", "other key"), ("nobody's", None)):
            signal = NewSignal(
                id=f"{name}-{key}", name=name, payload_json="1", key=key, run_id=None if key else "it"
            )
            await stage.store.send_signal(signal)
        assert await ripe() == {"go", "paid"}
        await stage.store.cancel("kid", token="t")
        await stage.store.cancel("gone", token="t")
        await stage.store.delete("gone", token="t")
        assert await ripe() == {"call", "lost"}
        stage.clock.advance(60)
        assert await ripe() == {"nap", "in time"}

    @pytest.mark.parametrize("first", ["sleep", "signal", "child"])
    async def test_a_wait_that_has_begun_stays_what_it_is(self, stage: Stage, first: StepKind) -> None:
        lease = await running(stage)
        child = "child" if first == "child" else None
        await stage.store.settle(lease, [wait(stage, first, wake_in=60, child=child)], NOTHING)
        before = await stage.store.list_steps("it", after=0)
        for kind in ("run", "sleep", "signal"):
            (kept,) = (await stage.store.settle(lease, [wait(stage, kind, wake_in=5)], NOTHING)).steps
            assert kept.kind == first
        assert await stage.store.list_steps("it", after=0) == before

    @pytest.mark.parametrize("ended", [True, False])
    async def test_a_child_is_joined_whether_it_has_ended_or_not(self, stage: Stage, ended: bool) -> None:
        lease = await with_a_child(stage)
        child = await stage.take("w2")
        if ended:
            await stage.finish(child.lease)
        [step] = (await stage.store.settle(lease, [joining(stage)], NOTHING)).steps
        assert (step.status, step.result_json) == (("completed", '"done"') if ended else ("running", None))
        assert await stage.store.suspend(lease, [joining(stage)], NOTHING) == "applied"
        assert await stage.status("it") == ("pending" if ended else "waiting")
        if not ended:
            await stage.finish(child.lease)
            assert await stage.status("it") == "pending"
        assert [(one.name, one.result_json) for one in (await stage.take()).steps][1] == ("join", '"done"')

    @pytest.mark.parametrize(("child_id", "job"), [("stranger", "job"), ("it", "job"), ("child", "other")])
    async def test_a_stranger_is_not_joined_and_nothing_is_stored(
        self, stage: Stage, child_id: str, job: str
    ) -> None:
        lease = await with_a_child(stage)
        await stage.trigger("stranger")
        with pytest.raises(ValidationError):
            await stage.store.settle(lease, [joining(stage, child_id, job=job)], Notes(logs=[stage.line()]))
        assert [step.name for step in await stage.store.list_steps("it", after=0)] == ["side"]
        assert await stage.store.list_logs("it", after=0, limit=None) == []

    async def test_a_child_that_is_not_there_any_more_ends_the_join(self, stage: Stage) -> None:
        lease = await with_a_child(stage)
        [step] = (await stage.store.settle(lease, [joining(stage, "gone")], NOTHING)).steps
        assert step.status == "failed"
        assert step.error is not None
        assert step.error.type == "ChildMissing"
