"""Storing new runs."""

import pytest

from tests.core.stores.stage import Stage, bring_to


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "running", "waiting"])
async def test_an_idempotency_key_lives_as_long_as_its_run(stage: Stage, state: str) -> None:
    await bring_to(stage, state)
    await stage.sql("UPDATE durably_runs SET idempotency_key = 'i'")
    again = await stage.trigger("again", idempotency_key="i")
    assert (again.id, again.disposition) == ("it", "idempotent")
    if state == "completed":
        await stage.store.delete("it", token="t")
        assert (await stage.trigger("again", idempotency_key="i")).disposition == "created"
