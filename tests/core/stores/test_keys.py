"""Concurrency keys: at most one of a key at a time, in order, whatever happens to the holder."""

from tests.core.stores.stage import LEASE, Stage


async def test_a_delayed_run_neither_holds_nor_queues_until_it_is_due(stage: Stage) -> None:
    await stage.trigger("later", concurrency_key="k", delay=60)
    await stage.trigger("now", concurrency_key="k")
    lease = (await stage.take()).lease
    assert lease.run_id == "now"
    stage.clock.advance(60)
    await stage.store.renew("w1", [lease], lease_seconds=LEASE)
    assert await stage.claim() == []
    assert await stage.column("later", "timer_at") is None
    await stage.finish(lease)
    assert await stage.claim() == ["later"]


async def test_the_key_of_a_waiting_run_stays_taken(stage: Stage) -> None:
    await stage.trigger_keyed("a", "b")
    await stage.take()
    await stage.sql(
        "UPDATE durably_runs SET status = 'waiting', lease_owner = NULL, lease_expires_at = NULL, "
        "timer_at = :due WHERE id = 'a'",
        {"due": stage.clock.now() + 50},
    )
    assert await stage.claim() == []
    assert await stage.store.sweep() == 0
    stage.clock.advance(50)
    assert await stage.claim() == ["a"]
    assert await stage.status("a") == "running"


async def test_the_guard_of_the_claim_is_the_truth_about_a_key(stage: Stage) -> None:
    """Even if a run stands in the ready index by mistake."""
    await stage.trigger_keyed("a", "b")
    lease = (await stage.take()).lease
    await stage.sql("UPDATE durably_runs SET ready = 1 WHERE id = 'b'")
    assert await stage.claim() == []
    assert await stage.column("b", "ready") == 0
    await stage.finish(lease)
    assert await stage.claim() == ["b"]


async def test_a_sweep_gives_a_queue_without_a_head_one(stage: Stage) -> None:
    for key in ("k1", "k2", "k3"):
        await stage.trigger_keyed(f"{key}-a", f"{key}-b", key=key)
    assert await stage.store.sweep() == 0
    await stage.sql("UPDATE durably_runs SET ready = 0 WHERE concurrency_key <> 'k2'")
    assert await stage.claim() == ["k2-a"]
    assert await stage.store.sweep() == 2
    assert await stage.claim() == ["k1-a", "k3-a"]
    assert await stage.store.sweep() == 0


async def test_a_sweep_frees_a_key_that_an_ended_run_holds(stage: Stage) -> None:
    await stage.trigger_keyed("a", "b")
    await stage.finish((await stage.take()).lease)
    await stage.sql("UPDATE durably_runs SET ready = 0 WHERE id = 'b'")
    await stage.sql("UPDATE durably_runs SET holds_key = 1 WHERE id = 'a'")
    assert await stage.store.sweep() == 1
    assert await stage.claim() == ["b"]
