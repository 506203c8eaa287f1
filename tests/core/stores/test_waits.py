"""How waits begin and end, and what parks and wakes a run."""

import pytest

from durably.models import StepKind
from durably.stores.values import Notes
from durably_testing.conformance.waits import NOTHING, running, send, wait
from tests.core.stores.stage import Stage


async def test_a_signal_is_consumed_once_the_oldest_first(stage: Stage) -> None:
    lease = await running(stage)
    assert await send(stage, id="s1") == "sent"
    assert await send(stage, id="s1") == "sent"
    await send(stage, id="s2")
    waits = [wait(stage, "signal"), wait(stage, "signal", "other")]
    settled = await stage.store.settle(lease, waits, NOTHING)
    assert [(step.status, step.result_json) for step in settled.steps] == [
        ("completed", '"s1"'), ("running", None),
    ]  # fmt: skip
    again = await stage.store.settle(lease, waits, NOTHING)
    assert again.steps[0].result_json == '"s1"'
    # Sending it once more, after an unknown outcome, does not send it twice.
    await send(stage, id="s1")
    rows = await stage.sql("SELECT id, consumed_at IS NULL FROM durably_signals ORDER BY id")
    assert rows == [("s1", 0), ("s2", 1)]


async def test_signals_to_what_is_not_there_or_has_ended_are_refused(stage: Stage) -> None:
    assert await send(stage) == "missing"
    lease = await running(stage)
    await stage.finish(lease)
    assert await send(stage) == "ended"
    assert await stage.sql("SELECT count(*) FROM durably_signals") == [(0,)]


async def test_old_signals_by_key_are_forgotten_and_a_runs_own_go_with_it(stage: Stage) -> None:
    lease = await running(stage)
    await send(stage, id="own")
    await send(stage, id="old", key="k")
    stage.clock.advance(100)
    await send(stage, id="new", key="k")
    assert await stage.store.forget_signals(older_than=50, limit=10) == 1
    assert await stage.sql("SELECT id FROM durably_signals ORDER BY id") == [("new",), ("own",)]
    await stage.finish(lease)
    await stage.store.delete("it", token="t")
    assert await stage.sql("SELECT id FROM durably_signals") == [("new",)]


async def test_a_look_that_changes_nothing_opens_no_transaction(stage: Stage) -> None:
    lease = await running(stage)
    waits = [wait(stage, "signal", wake_in=60)]
    await stage.store.settle(lease, waits, NOTHING)
    statements: list[str] = []
    await stage.at_connection(lambda connection: connection.set_trace_callback(statements.append))
    settled = await stage.store.settle(lease, waits, NOTHING)
    await stage.at_connection(lambda connection: connection.set_trace_callback(None))
    assert settled.steps[0].status == "running"
    assert statements
    assert not [one for one in statements if one.startswith("BEGIN")]


@pytest.mark.parametrize("kind", ["sleep", "signal", "child", "spawn"])
@pytest.mark.parametrize("verb", ["settle", "suspend"])
async def test_a_body_that_was_begun_gives_way_to_a_wait_of_its_name(
    stage: Stage, kind: StepKind, verb: str
) -> None:
    lease = await running(stage)
    await stage.store.note(lease, Notes(started=[stage.step("wait", "running")]))
    await stage.sql("UPDATE durably_steps SET cursor = '7', cursor_at_crash = '5'")
    wanted = wait(stage, kind, wake_in=60, key="k", child="child" if kind in {"child", "spawn"} else None)
    if verb == "settle":
        (settled,) = (await stage.store.settle(lease, [wanted], NOTHING)).steps
        assert (settled.kind, settled.wake_at) == (kind, wanted.step.wake_at)
    else:
        await stage.store.suspend(lease, [wanted], NOTHING)
    [found] = await stage.store.list_steps("it", after=0)
    assert (found.kind, found.signal_key, found.child_id) == (kind, "k", wanted.step.child_id)
    assert found.status == ("completed" if kind == "spawn" else "running")
    assert await stage.sql("SELECT cursor, cursor_at_crash FROM durably_steps") == [(None, None)]
