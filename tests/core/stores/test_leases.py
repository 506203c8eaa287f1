"""Keeping a run, and handing it back."""

from tests.core.stores.stage import Stage


async def test_disowning_hands_back_what_the_worker_does_not_know_of(stage: Stage) -> None:
    for id in ("known", "unknown", "cancelled"):
        await stage.trigger(id, concurrency_key=id)
    await stage.trigger("another's")
    leases = {claim.run.id: claim.lease for claim in (await stage.ask(limit=3)).claims}
    await stage.take("w2")
    await stage.store.cancel("cancelled", token="t")
    await stage.store.disown("w1", [leases["known"]])
    assert await stage.status("known") == "running"
    assert await stage.status("unknown") == "pending"
    assert await stage.status("another's") == "running"
    assert await stage.column("cancelled", "holds_key") == 0
    assert await stage.claim("w3") == ["unknown"]
