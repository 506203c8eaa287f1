"""The poison guard: what a death is charged to, and when a run is parked (S26)."""

import pytest

from durably.stores.sqlite.crashes import Record
from durably_testing.conformance.crashes import die
from tests.core.stores.stage import LEASE, Stage


async def test_a_worker_that_heartbeats_again_takes_back_what_it_was_charged(stage: Stage) -> None:
    await stage.introduce("w1")
    await stage.trigger("it")
    lease = (await stage.take("w1")).lease
    await die(stage, "w1")
    [worker] = await stage.store.list_workers()
    assert worker.state == "lost"
    assert (await stage.run("it")).crashes == 1
    assert await stage.store.renew("w1", [lease], lease_seconds=LEASE) == {"it": "lost"}
    [worker] = await stage.store.list_workers()
    assert worker.state == "active"
    assert (await stage.run("it")).crashes == 0
    assert await stage.column("it", "counted_crashes") == 0
    # And only once.
    await stage.take("w2")
    await die(stage, "w2")
    await stage.store.renew("w1", [], lease_seconds=LEASE)
    assert (await stage.run("it")).crashes == 1


@pytest.mark.parametrize(
    ("record", "checkpoints", "counts", "after"),
    [
        (Record(crashes=0, counted=0, checkpoints=0), 0, True, Record(crashes=1, counted=1, checkpoints=0)),
        (Record(crashes=1, counted=1, checkpoints=0), 0, True, Record(crashes=2, counted=2, checkpoints=0)),
        (Record(crashes=1, counted=0, checkpoints=2), 2, False, Record(crashes=2, counted=0, checkpoints=2)),
        (Record(crashes=4, counted=4, checkpoints=2), 3, True, Record(crashes=1, counted=1, checkpoints=3)),
        (Record(crashes=4, counted=4, checkpoints=2), 3, False, Record(crashes=1, counted=0, checkpoints=3)),
    ],
)
def test_the_record_of_a_run(record: Record, checkpoints: int, counts: bool, after: Record) -> None:
    assert record.after_death(checkpoints, counts=counts) == after


def test_a_new_cursor_begins_a_new_series_as_a_new_checkpoint_does() -> None:
    record = Record(crashes=4, counted=4, checkpoints=2)
    after = record.after_death(2, counts=True, has_new_cursor=True)
    assert after == Record(crashes=1, counted=1, checkpoints=2)
    assert not record.is_suspect(2, has_new_cursor=True)


def test_who_is_a_suspect() -> None:
    assert not Record(crashes=1, counted=1, checkpoints=0).is_suspect(0)
    assert Record(crashes=2, counted=0, checkpoints=3).is_suspect(3)
    assert not Record(crashes=2, counted=0, checkpoints=3).is_suspect(4)
