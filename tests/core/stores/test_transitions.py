"""What people do to runs: cancel, retry, delete, purge; and doing it twice."""

from durably.stores.values import Failed
from tests.core.stores.stage import BROKEN, Stage


async def test_a_purge_takes_the_oldest_first_and_no_more_than_asked(stage: Stage) -> None:
    for id in "abcd":
        await stage.trigger(id)
        lease = (await stage.take()).lease
        await stage.save(lease)
        await stage.finish(lease, BROKEN if id == "b" else Failed(error=BROKEN.error))
        stage.clock.advance(10)
    await stage.trigger("young")
    stage.clock.advance(1)
    assert await stage.store.purge(older_than=15, limit=2) == 2
    assert await stage.ids() == ["young", "d", "c"]
    assert await stage.store.purge(older_than=15, limit=2) == 1
    assert await stage.store.purge(older_than=15, limit=2) == 0
    assert await stage.store.purge(older_than=0, limit=99) == 1
    assert await stage.ids() == ["young"]
    assert await stage.sql("SELECT count(*) FROM durably_steps") == [(0,)]
