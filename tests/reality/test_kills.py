"""Workers are killed and paused, again and again, under jobs of every kind."""

import asyncio
from collections import Counter
from pathlib import Path

from durably_testing.killing.kill_loop import KillLoop
from tests.reality.apps import app, basket, order, rounds
from tests.volume import limit, volume

PARTS = sum(range(3)) + sum(range(1, 5))


async def keep_busy(loop: KillLoop) -> dict[str, object]:
    """Trigger while there is somebody to be killed; answers what each run has to answer."""
    orders, baskets = loop.durably.register(order), loop.durably.register(basket)
    circles = loop.durably.register(rounds)
    expected: dict[str, object] = {}
    number = 0
    while not loop.is_over:
        number += 10
        runs = [
            *await orders.batch_trigger([number, number + 1, number + 2]),
            await orders.trigger(number + 3, concurrency_key="one at a time"),
            await orders.trigger(number + 4, concurrency_key="one at a time"),
        ]
        for run, offset in zip(runs, range(5), strict=True):
            expected[run.id] = number + offset + PARTS
        run = await baskets.trigger(number + 5)
        await loop.durably.signal("paid", 7, run_id=run.id)
        expected[run.id] = 2 * (number + 5 + PARTS) + 1 + 1 + 7
        runs.append(run)
        circle = await circles.trigger((4, 0))
        expected[circle.id] = 5
        again = await orders.trigger(number, idempotency_key=f"{number // 20}")
        expected.setdefault(again.id, again.input + PARTS)
        await asyncio.gather(*(loop.durably.wait_for_run(run.id) for run in [*runs, circle]))
    return expected


def check(loop: KillLoop, expected: dict[str, object]) -> None:
    answers = {run.id: run.output for run in loop.runs if run.parent_id is None}
    assert answers == expected
    assert {run.status for run in loop.runs} == {"completed"}
    # A body is repeated only if its worker died, or was thought dead, before the checkpoint.
    struck = Counter(item.run_id for kill in loop.kills for item in kill.struck)
    orders = sum(1 for run in loop.runs if run.job_name == "order")
    assert orders <= loop.effects["charged"] <= orders + struck.total()
    assert orders <= loop.effects["charge"] <= orders + struck.total()


@limit(900)
async def test_nothing_is_lost_and_nothing_saved_is_done_again_by_workers_that_are_killed(
    tmp_path: Path,
) -> None:
    async with KillLoop(app, tmp_path, kills=volume(quick=10, ci=100)) as loop:
        expected = await keep_busy(loop)
    check(loop, expected)
    assert len(loop.kills) == volume(quick=10, ci=100)


@limit(900)
async def test_of_several_workers_each_may_be_killed(tmp_path: Path) -> None:
    async with KillLoop(app, tmp_path, kills=volume(quick=5, ci=60), workers=3, seed=1) as loop:
        expected = await keep_busy(loop)
    check(loop, expected)


@limit(900)
async def test_a_worker_that_was_paused_beyond_its_lease_does_nothing_twice(tmp_path: Path) -> None:
    pauses = volume(quick=2, ci=20)
    async with KillLoop(app, tmp_path, kills=pauses // 3, pauses=pauses, pause=1.5, seed=2) as loop:
        expected = await keep_busy(loop)
    check(loop, expected)
    assert [kill.signal for kill in loop.kills].count("SIGSTOP") == pauses
    assert any(kill.signal == "SIGSTOP" and kill.struck for kill in loop.kills)
