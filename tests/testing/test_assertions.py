"""Assertions, and what they say."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest
from pydantic import BaseModel

from durably import Durably, StepContext, job
from durably_testing import (
    EffectLedger,
    Fault,
    SimulatedRun,
    VirtualDurably,
    assert_at_most_once,
    assert_effects,
    assert_no_leaks,
    assert_no_stuck,
    assert_resumed_from,
    assert_triggered,
    simulate,
)
from tests.testing.sample_jobs import Order, Receipt, order


class Mail(BaseModel):
    to: str
    urgent: bool = False


def send(mail: Mail) -> bool:
    return mail.urgent


@job
async def deliver(step: StepContext, input: Mail) -> bool:
    return await step.run("send", send, input)


@job
async def waits_for_ever(step: StepContext, input: int) -> bool:
    return await step.wait_for_signal("go", bool)


@job
async def waits_a_day(step: StepContext, input: int) -> bool:
    return await step.wait_for_signal("go", bool, timeout=86_400)


@job
async def waits_for_a_child(step: StepContext, input: int) -> bool:
    return await step.invoke("child", waits_for_ever, input)


def killed_at(step: str) -> SimulatedRun[Order, Receipt]:
    calm = simulate(order, Order(amount=3))
    word = next(word for word in calm.words if f"'{step}'" in word.about)
    return simulate(order, Order(amount=3), faults=[Fault(word.number, "kill")])


# Effects


def test_an_effect_that_happened_twice_is_told_with_the_crash() -> None:
    run = killed_at("ship")
    assert_at_most_once(run, "charge")
    with pytest.raises(AssertionError, match="'ship' happened 2 times, not at most once") as found:
        assert_at_most_once(run, "ship")
    assert "killed before the checkpoint of step 'ship'" in str(found.value)


def test_effects_are_compared_by_name_also_in_a_ledger() -> None:
    run = killed_at("ship")
    assert_effects(run, {"charge": 1, "ship": 2, "refund": 0})
    with pytest.raises(
        AssertionError, match="'ship' happened 2 times, not 1; 'refund' happened 0 times, not 1"
    ):
        assert_effects(run, {"charge": 1, "ship": 1, "refund": 1})

    ledger = EffectLedger()
    ledger("mail")
    assert_effects(ledger, {"mail": 1})
    with pytest.raises(AssertionError, match=r"\(what happened: mail 1x\)"):
        assert_effects(ledger, {"mail": 2})


def test_a_run_that_was_resumed_elsewhere_is_told_with_each_execution() -> None:
    run = killed_at("ship")
    assert_resumed_from(run, "ship")
    with pytest.raises(
        AssertionError, match="not resumed from 'thank-you' but from 'ship', 'thank'"
    ) as found:
        assert_resumed_from(run, "thank-you")
    assert "  1. worker-1: executed charge, ship" in str(found.value)
    assert "replayed charge; executed ship" in str(found.value)

    @job
    async def short(step: StepContext, input: Order) -> int:
        return await step.run("only", int)

    with pytest.raises(AssertionError, match="but from no step at all"):
        assert_resumed_from(simulate(short, Order(amount=1)), "only")


# Triggers


async def test_a_run_is_found_by_its_input_whole_or_in_part_and_by_its_options(
    durably: VirtualDurably,
) -> None:
    handle = durably.register(deliver)
    await handle.trigger(Mail(to="Ada"))
    wanted = await handle.trigger(
        Mail(to="Grace", urgent=True), idempotency_key="k", concurrency_key="c", labels={"a": "1", "b": "2"}
    )

    for found in [
        await assert_triggered(durably, deliver, input={"to": "Grace"}),
        await assert_triggered(durably, deliver, input=Mail(to="Grace", urgent=True)),
        await assert_triggered(durably, deliver, input=lambda mail: mail.urgent),
        await assert_triggered(durably, handle, idempotency_key="k", concurrency_key="c", labels={"b": "2"}),
        await assert_triggered(durably, deliver),
    ]:
        assert found.id == wanted.id
        assert found.input.to == "Grace"


async def test_what_is_wrong_with_each_run_is_told(durably: VirtualDurably) -> None:
    await durably.register(deliver).trigger(Mail(to="Ada"), idempotency_key="k")

    with pytest.raises(AssertionError) as found:
        await assert_triggered(
            durably, deliver, input={"to": "Eve", "cc": 1}, idempotency_key="x", labels={"a": "1"}
        )
    said = str(found.value)
    assert "no run of 'deliver' was triggered like that" in said
    assert (
        "input.to is 'Ada', not 'Eve'; input has no cc; idempotency_key is 'k', not 'x'; labels['a'] is None"
        in said
    )

    with pytest.raises(AssertionError, match=r"input is Mail.*Ada.*, not Mail.*Eve"):
        await assert_triggered(durably, deliver, input=Mail(to="Eve"))
    with pytest.raises(AssertionError, match=r"Ada.* is not meant"):
        await assert_triggered(durably, deliver, input=lambda mail: mail.urgent)
    with pytest.raises(AssertionError, match=r"\(there are runs of deliver\)"):
        await assert_triggered(durably, order)


async def test_an_input_without_fields_is_compared_as_a_whole(durably: VirtualDurably) -> None:
    await durably.register(waits_a_day).trigger(3)
    assert (await assert_triggered(durably, waits_a_day, input=3)).input == 3
    with pytest.raises(AssertionError, match="input has no a"):
        await assert_triggered(durably, waits_a_day, input={"a": 1})


# Stuck runs


async def test_what_time_alone_will_move_is_not_stuck(durably: VirtualDurably) -> None:
    await durably.register(order).trigger(Order(amount=1))
    await durably.register(waits_a_day).trigger(1)
    await durably.register(deliver).trigger(Mail(to="Ada"), delay=60)
    await durably.drain(within=0)
    await assert_no_stuck(durably)


async def test_what_nothing_will_move_is_told_with_its_reason(durably: VirtualDurably) -> None:
    await durably.register(deliver).trigger(Mail(to="Ada"))
    with pytest.raises(AssertionError, match=r"1 runs are stuck\n- run .* of deliver \(pending\): no worker"):
        await assert_no_stuck(durably)

    durably.register(waits_for_ever)
    parent = await durably.register(waits_for_a_child).trigger(1)
    key = {"concurrency_key": "k"}
    await durably.register(waits_a_day).trigger(1, **key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await durably.register(waits_a_day).trigger(2, **key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await durably.drain(within=0)
    with pytest.raises(AssertionError, match="1 runs are stuck") as found:
        await assert_no_stuck(durably)
    assert "waiting for signal 'go'" in str(found.value)
    assert parent.id not in str(found.value)


# Leaks


async def test_nothing_is_left_by_an_instance_that_is_closed(tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    async with assert_no_leaks(database=place), Durably(place, jobs=[deliver]) as durably:
        await durably.register(deliver).trigger_and_wait(Mail(to="Ada"), timeout=30)


async def test_everything_that_is_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durably_testing.leaks.PATIENCE", 0.01)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="endless")
    tasks: list[asyncio.Task[object]] = []
    files: list[IO[str]] = []

    async def leave() -> None:
        async with assert_no_leaks():
            tasks.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
            thread.start()
            files.append((tmp_path / "open.txt").open("w"))

    with pytest.raises(AssertionError, match="3 things were left behind") as found:
        await leave()
    tasks[0].cancel()
    files[0].close()
    ended.set()
    thread.join()

    assert "- task 'forgotten'" in str(found.value)
    assert "- thread 'endless'" in str(found.value)
    assert "open.txt)" in str(found.value)


async def test_tasks_and_threads_may_take_their_time_to_end() -> None:
    async with assert_no_leaks():
        task = asyncio.create_task(asyncio.sleep(0.01))
        threading.Thread(target=asyncio.run, args=(asyncio.sleep(0.01),)).start()
    assert task.done()


def test_rows_that_belong_to_nobody_are_named_also_without_a_loop(tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    asyncio.run(_migrated(place))

    def leave() -> None:
        with assert_no_leaks(database=place), closing(sqlite3.connect(place)) as connection, connection:
            connection.execute(
                "INSERT INTO durably_logs (run_seq, sequence, level, message, fields, created_at) "
                "VALUES (9, 1, 'info', 'x', '{}', 0)"
            )

    with pytest.raises(AssertionError, match="a log line belongs to no run"):
        leave()


async def _migrated(place: Path) -> None:
    async with Durably(place, worker=False):
        pass


def test_an_error_within_is_not_hidden_by_what_it_left() -> None:
    with pytest.raises(ZeroDivisionError), assert_no_leaks():
        raise ZeroDivisionError
