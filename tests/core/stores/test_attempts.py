"""Attempts that failed: at a step, and at a whole job."""

import pytest

from durably.stores.values import Lease, Notes
from durably_testing.conformance.attempts import failed
from durably_testing.conformance.guards import OWNER
from tests.core.stores.stage import STATES, Stage, bring_to


@pytest.fixture
async def lease(stage: Stage) -> Lease:
    await stage.trigger("it")
    return (await stage.take()).lease


@pytest.mark.parametrize("state", STATES)
async def test_an_attempt_is_written_by_the_present_owner_only(stage: Stage, state: str) -> None:
    lease = await bring_to(stage, state)
    before = await stage.store.get_run("it")
    notes = Notes(logs=[stage.line()])
    assert await stage.store.save_attempt(lease, failed(stage), notes) == OWNER[state]
    written = OWNER[state] == "applied"
    assert len(await stage.store.list_steps("it", after=0)) == written
    assert len(await stage.store.list_logs("it", after=0, limit=None)) == written
    assert await stage.sql("SELECT count(*) FROM durably_attempts") == [(written,)]
    if not written:
        assert await stage.store.get_run("it") == before


async def test_a_deleted_run_takes_its_attempts_along(stage: Stage, lease: Lease) -> None:
    await stage.store.save_attempt(lease, failed(stage), Notes())
    await stage.finish(lease)
    assert (await stage.store.delete("it", token="t")).applied
    assert await stage.sql("SELECT count(*) FROM durably_attempts") == [(0,)]
