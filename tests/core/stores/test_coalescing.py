"""What a new run of a key does about one that waits already; S21."""

import pytest

from durably.models import Coalesce
from durably_testing.conformance.coalescing import MODES, offer
from tests.core.stores.stage import STATES, Stage, bring_to

NEVER_BEGUN = {"delayed", "pending"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", STATES)
async def test_only_a_run_that_has_never_begun_is_coalesced_with(
    stage: Stage, state: str, mode: Coalesce
) -> None:
    await bring_to(stage, state)
    await stage.sql(
        "UPDATE durably_runs SET concurrency_key = 'k', key_scope = job_name, "
        "holds_key = (status IN ('running', 'waiting') OR started_at IS NOT NULL AND status = 'pending')"
    )
    before = await stage.store.get_run("it")
    answer = await offer(stage, mode, delay=2000 if state == "delayed" else None)
    if state in NEVER_BEGUN:
        assert answer == {
            "skip": "coalesced it", "replace": "replaced it (cancelled)", "reject": "refused by it",
        }[mode]  # fmt: skip
    else:
        assert answer == "created"
        assert await stage.store.get_run("it") == before


async def test_a_higher_priority_still_moves_the_replacement_forward(stage: Stage) -> None:
    await stage.trigger("old", concurrency_key="k")
    await stage.trigger("new", concurrency_key="k", coalesce="replace", priority=1)
    ranks = {id: await stage.column(id, "rank") for id in ("old", "new")}
    assert ranks["new"] == float(str(ranks["old"])) - 60
    stage.clock.advance(1)
    await stage.trigger("lazy", concurrency_key="k", coalesce="replace", priority=-1)
    assert await stage.column("lazy", "rank") == ranks["new"]


async def test_reject_stores_nothing_of_the_whole_call(stage: Stage) -> None:
    await stage.trigger("it", concurrency_key="k")
    answer = await stage.store.enqueue(
        [
            stage.new("a", labels={"a": "b"}),
            stage.new("b", concurrency_key="j", coalesce="replace"),
            stage.new("c", concurrency_key="k", coalesce="reject"),
        ]
    )
    assert answer.conflict is not None
    assert answer.conflict.id == "it"
    assert await stage.ids() == ["it"]
    assert await stage.sql("SELECT * FROM durably_run_labels") == []
    answer = await stage.store.enqueue(
        [
            stage.new("a", concurrency_key="j", coalesce="reject"),
            stage.new("b", concurrency_key="j", coalesce="reject"),
        ]
    )
    assert answer.conflict is not None
    assert answer.conflict.id == "a"
    assert await stage.ids() == ["it"]
