"""The end of a link and the beginning of the next, in one transaction."""

from dataclasses import replace

import pytest

from durably.models import Progress, RunError
from durably.stores.sqlite.links import SECONDS_OF_DOUBT
from durably.stores.values import LINKS_KEPT, Lease, NewSignal, Notes, Reattempt, Wait
from durably_testing.conformance.attempts import failed
from durably_testing.conformance.links import NEXT
from tests.core.stores.stage import LEASE, Stage
from tests.core.stores.test_plans import cost


async def rows(stage: Stage) -> dict[str, object]:
    tables = ("steps", "attempts", "signals", "links", "logs", "runs")
    return {table: (await stage.sql(f"SELECT count(*) FROM durably_{table}"))[0][0] for table in tables}


@pytest.fixture
async def lease(stage: Stage) -> Lease:
    await stage.trigger("it", input_json='{"page":1}')
    return (await stage.take()).lease


async def test_the_link_goes_with_its_steps_and_attempts(stage: Stage, lease: Lease) -> None:
    await stage.save(lease, stage.step("done", sequence=1))
    await stage.store.save_attempt(lease, failed(stage, "flaky", sequence=2), Notes())
    await stage.store.note(lease, Notes(logs=[stage.line(sequence=3)], progress=Progress(current=7)))
    stage.clock.advance(10)
    assert await stage.finish(lease, NEXT) == "applied"

    [link] = await stage.store.list_links("it")
    run = await stage.run("it")
    assert (link.number, link.input_json) == (1, '{"page":1}')
    assert link.started_at == run.started_at
    assert (link.ended_at - link.started_at).total_seconds() == 10
    assert await rows(stage) == {
        "steps": 0, "attempts": 0, "signals": 0, "links": 1, "logs": 1, "runs": 1,
    }  # fmt: skip
    assert (run.completed_step_count, run.progress) == (0, Progress(current=7))


async def test_what_was_counted_begins_anew(stage: Stage, lease: Lease) -> None:
    error = RunError(type="OSError", message="no")
    await stage.finish(lease, Reattempt(error=error, attempt=1, delay=0))
    await stage.take()
    await stage.crash()
    claim = await stage.take("w2")
    assert (claim.run.attempt, claim.run.error, claim.run.crashes) == (2, error, 1)
    stage.clock.advance(5)
    await stage.finish(claim.lease, NEXT)
    run = await stage.run("it")
    assert (run.crashes, run.attempt, run.error, run.timed_from) == (0, 1, None, None)
    assert await stage.column("it", "counted_crashes") == 0
    again = (await stage.take("w3")).run
    assert again.started_at != again.timed_from
    assert again.timed_from is not None
    assert again.timed_from.timestamp() == stage.clock.now()


async def test_a_chain_keeps_its_key_and_its_rank(stage: Stage) -> None:
    await stage.trigger_keyed("it", "behind")
    await stage.trigger("urgent", priority=1)
    leases = await stage.take_all()
    rank = await stage.column("it", "rank")
    await stage.finish(leases["it"], NEXT)
    assert await stage.column("it", "rank") == rank
    assert await stage.claim("w2") == ["it"]
    assert await stage.column("behind", "ready") == 0


async def test_signals_that_were_taken_go_once_nobody_can_send_them_again(stage: Stage, lease: Lease) -> None:
    signal = NewSignal(id="s", name="add", payload_json="1", run_id="it")
    wait = Wait(step=replace(stage.step("add", "running"), kind="signal"))

    async def statuses() -> list[str]:
        return [step.status for step in (await stage.store.settle(lease, [wait], Notes())).steps]

    await stage.store.send_signal(signal)
    assert await statuses() == ["completed"]
    await stage.finish(lease, NEXT)
    lease = (await stage.take()).lease
    # Its sender, who heard nothing, says it again: it has been taken already.
    await stage.store.send_signal(signal)
    assert await statuses() == ["running"]
    await stage.store.send_signal(replace(signal, id="untaken", name="other"))

    stage.clock.advance(SECONDS_OF_DOUBT + 1)
    await stage.store.renew("w1", [lease], lease_seconds=LEASE)
    assert await stage.finish(lease, replace(NEXT, link=2)) == "applied"
    assert await stage.sql("SELECT id FROM durably_signals") == [("untaken",)]


async def test_thousands_of_links_grow_neither_the_rows_nor_the_claim(stage: Stage, lease: Lease) -> None:
    link = 0

    async def go_on() -> None:
        nonlocal lease, link
        link += 1
        for number in range(3):
            await stage.save(lease, stage.step(f"s-{number}", sequence=3 * link + number))
        await stage.store.send_signal(NewSignal(id=f"s-{link}", name="add", payload_json="1", run_id="it"))
        wait = Wait(step=replace(stage.step("add", "running", sequence=3 * link + 2), kind="signal"))
        await stage.store.settle(lease, [wait], Notes())
        assert await stage.finish(lease, replace(NEXT, link=link)) == "applied"
        claim = await stage.take()
        assert claim.steps == []
        lease = claim.lease
        stage.clock.advance(1)

    while link < LINKS_KEPT + 100:
        await go_on()
    early = (await rows(stage), await cost(stage, go_on))
    while link < 3000:
        await go_on()
    late = (await rows(stage), await cost(stage, go_on))
    assert late[0] == early[0]
    assert late[0]["links"] == LINKS_KEPT
    assert late[1] <= early[1] * 1.1 + 1, (early, late)
    assert (await stage.run("it")).link == link + 1
    numbers = [one.number for one in await stage.store.list_links("it")]
    assert numbers == list(range(link - LINKS_KEPT + 1, link + 1))


async def test_the_trail_goes_with_its_run(stage: Stage, lease: Lease) -> None:
    await stage.finish(lease, NEXT)
    await stage.store.cancel("it", token="t")
    await stage.store.delete("it", token="t")
    assert (await rows(stage))["links"] == 0
