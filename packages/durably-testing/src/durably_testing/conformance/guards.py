"""Every verb on a run in every state: what is allowed, and what the run is afterwards.

The table is the promise; a line that changes here changes what users can rely on.
"""

import pytest

from durably import RunStatus
from durably.spi import Answer, Notes
from durably_testing.conformance.stage import BROKEN, LEASE, STATES, Stage, bring_to

OWNER: dict[str, Answer] = {
    "missing": "lost",
    "delayed": "lost",
    "pending": "lost",
    "handed back": "lost",
    "running": "applied",
    "running elsewhere": "lost",
    "waiting": "lost",
    "completed": "lost",
    "failed": "lost",
    "cancelled, body alive": "cancelled",
    "cancelled": "cancelled",
}


CANCEL = {"delayed", "pending", "handed back", "running", "running elsewhere", "waiting"}


RETRY = {"failed", "cancelled", "cancelled, body alive"}


DELETE = {"completed", "failed", "cancelled", "cancelled, body alive"}


async def status_of(stage: Stage) -> RunStatus | None:
    run = await stage.store.get_run("it")
    return None if run is None else run.status


class GuardsContract:
    """Every verb on a run in every state: what is allowed, and what the run is afterwards."""

    @pytest.mark.parametrize("state", STATES)
    async def test_a_checkpoint_is_written_by_the_present_owner_only(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        notes = Notes(logs=[stage.line()])
        assert await stage.save(lease, stage.step("new"), notes) == OWNER[state]
        written = OWNER[state] == "applied"
        assert len(await stage.store.list_steps("it", after=0)) == written
        assert len(await stage.store.list_logs("it", after=0, limit=None)) == written
        after = await stage.store.get_run("it")
        if not written:
            assert after == before

    @pytest.mark.parametrize("state", STATES)
    async def test_notes_are_written_by_the_present_owner_only(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        notes = Notes(logs=[stage.line()], started=[stage.step("new", "running")])
        assert await stage.store.note(lease, notes) == OWNER[state]
        written = OWNER[state] == "applied"
        assert len(await stage.store.list_steps("it", after=0)) == written
        assert len(await stage.store.list_logs("it", after=0, limit=None)) == written

    @pytest.mark.parametrize("state", STATES)
    async def test_a_run_is_ended_by_the_present_owner_only(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        # Failing, with another error than the run in the state `failed` has.
        outcome = type(BROKEN)(error=BROKEN.error.__class__(type="Other", message="m"))
        assert await stage.finish(lease, outcome) == OWNER[state]
        if OWNER[state] == "applied":
            assert await status_of(stage) == "failed"
        else:
            assert await stage.store.get_run("it") == before

    @pytest.mark.parametrize("state", STATES)
    async def test_only_a_good_lease_is_renewed(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        stage.clock.advance(1)
        refused = await stage.store.renew("w1", [lease], lease_seconds=LEASE)
        assert refused == ({} if OWNER[state] == "applied" else {"it": OWNER[state]})
        assert await stage.store.check([lease]) == refused

    @pytest.mark.parametrize("state", STATES)
    async def test_only_a_run_that_is_held_is_handed_back(self, stage: Stage, state: str) -> None:
        lease = await bring_to(stage, state)
        before = await stage.store.get_run("it")
        await stage.store.release([lease])
        after = await stage.store.get_run("it")
        if state == "running":
            assert after is not None
            assert (after.status, after.lease_owner, after.crashes) == ("pending", None, 0)
        elif state == "cancelled, body alive":
            assert after is not None
            assert (after.status, after.lease_owner) == ("cancelled", None)
        else:
            assert after == before

    @pytest.mark.parametrize("state", STATES)
    async def test_what_has_not_ended_can_be_cancelled(self, stage: Stage, state: str) -> None:
        await bring_to(stage, state)
        before = await stage.store.get_run("it")
        answer = await stage.store.cancel("it", token="t")
        assert answer.applied == (state in CANCEL)
        assert answer.run == await stage.store.get_run("it")
        if state in CANCEL:
            assert answer.run is not None
            assert answer.run.status == "cancelled"
            assert answer.run.completed_at is not None
        else:
            assert answer.run == before

    @pytest.mark.parametrize("state", STATES)
    async def test_what_failed_or_was_cancelled_can_be_retried(self, stage: Stage, state: str) -> None:
        await bring_to(stage, state)
        before = await stage.store.get_run("it")
        answer = await stage.store.retry("it", token="t")
        assert answer.applied == (state in RETRY)
        assert answer.run == await stage.store.get_run("it")
        if state in RETRY:
            assert answer.run is not None
            assert (answer.run.status, answer.run.error, answer.run.completed_at) == ("pending", None, None)
        else:
            assert answer.run == before

    @pytest.mark.parametrize("state", STATES)
    async def test_what_has_ended_can_be_deleted(self, stage: Stage, state: str) -> None:
        await bring_to(stage, state)
        before = await stage.store.get_run("it")
        answer = await stage.store.delete("it", token="t")
        assert answer.applied == (state in DELETE)
        assert answer.run == before
        assert (await stage.store.get_run("it") is None) == (state in DELETE or state == "missing")

    @pytest.mark.parametrize("state", STATES)
    async def test_only_what_ended_long_ago_is_purged(self, stage: Stage, state: str) -> None:
        await bring_to(stage, state)
        stage.clock.advance(100)
        assert await stage.store.purge(older_than=101 + LEASE, limit=10) == 0
        assert await stage.store.purge(older_than=99, limit=10) == (state in DELETE)
        assert (await stage.store.get_run("it") is None) == (state in DELETE or state == "missing")

    @pytest.mark.parametrize("state", STATES)
    async def test_only_what_is_ready_is_claimed(self, stage: Stage, state: str) -> None:
        await bring_to(stage, state)
        claimed = await stage.claim("w3")
        assert claimed == (["it"] if state in {"pending", "handed back"} else [])

    @pytest.mark.parametrize("state", STATES)
    async def test_an_ended_run_is_frozen(self, stage: Stage, state: str) -> None:
        """Whatever an owner does to it, early or late, nothing of it changes but who holds it."""
        lease = await bring_to(stage, state)
        if state not in {"completed", "failed", "cancelled"}:
            return
        before = await stage.store.get_run("it")
        await stage.save(lease, stage.step("late"))
        await stage.store.note(lease, Notes(logs=[stage.line()]))
        await stage.finish(lease)
        await stage.store.release([lease])
        await stage.store.disown("w1", [])
        await stage.store.hold([lease], seconds=100)
        stage.clock.advance(1000)
        await stage.claim("w3")
        await stage.store.sweep()
        assert await stage.store.get_run("it") == before
