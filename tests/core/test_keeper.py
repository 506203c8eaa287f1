"""What a worker does again and again, and what it does when that fails."""

import asyncio

import pytest
from pydantic import BaseModel

from durably import Durably, StepContext, WorkerError
from durably.errors import StoreBusyError
from durably.executor import Executor
from durably.stores.base import Store
from durably.worker import Worker
from tests.core.test_leases import Clocks


class Task(BaseModel):
    number: int = 0


def store_of(durably: Durably) -> Store:
    return durably._store  # pyright: ignore[reportPrivateUsage]


def worker_of(durably: Durably) -> Worker:
    worker = durably._worker  # pyright: ignore[reportPrivateUsage]
    assert worker is not None
    return worker


async def test_a_sweep_goes_on_with_a_cascade_that_was_cut_off(durably: Durably) -> None:
    @durably.job
    async def child(step: StepContext, input: Task) -> None:
        await step.sleep("long", 3600)

    @durably.job
    async def parent(step: StepContext, input: Task) -> None:
        await step.invoke("child", child, Task())

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    # The store's verb alone is what a process that dies after its first commit has done.
    await store_of(durably).cancel(run.id, token="t")
    (kid,) = await child.get_runs()
    assert kid.status == "waiting"
    await worker_of(durably)._keeper._sweep()  # pyright: ignore[reportPrivateUsage]
    (kid,) = await child.get_runs()
    assert kid.status == "cancelled"


async def test_a_heartbeat_that_fails_is_no_loss_until_the_lease_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = Clocks()
    troubles: list[WorkerError] = []
    begun = asyncio.Event()
    async with Durably(":memory:", environment=clocks, polling_interval=60) as durably:
        durably.on("worker:error", troubles.append)

        @durably.job
        async def long(step: StepContext, input: Task) -> str:
            begun.set()
            await asyncio.sleep(0.2 if clocks.steady == 0 else 0)
            return "done"

        async def fail(*args: object, **options: object) -> object:
            raise StoreBusyError("busy")

        monkeypatch.setattr(store_of(durably), "renew", fail)
        run = await long.trigger(Task())
        await begun.wait()
        keeper = worker_of(durably)._keeper  # pyright: ignore[reportPrivateUsage]
        await keeper._go_on("heartbeat", keeper._heartbeat)  # pyright: ignore[reportPrivateUsage]
        (execution,) = worker_of(durably)._executions  # pyright: ignore[reportPrivateUsage]
        assert execution.interruption is None
        clocks.steady += 31
        await keeper._go_on("heartbeat", keeper._heartbeat)  # pyright: ignore[reportPrivateUsage]
        assert execution.interruption == "lost"
        assert {trouble.context for trouble in troubles} == {"heartbeat"}
        done = await durably.wait_for_run(run.id, timeout=5)
        assert (done.output, done.crashes) == ("done", 0)


async def test_a_bug_of_ours_costs_a_pause_and_not_the_worker(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Executor.carry
    calls = 0

    async def broken(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise AttributeError("a bug")
        await real(*args)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Executor, "carry", broken)
    troubles: list[WorkerError] = []
    durably.on("worker:error", troubles.append)

    @durably.job
    async def fine(step: StepContext, input: Task) -> str:
        return "done"

    await durably.start()
    assert (await fine.trigger_and_wait(Task(), timeout=10)).output == "done"
    assert [trouble.context for trouble in troubles] == ["execution"] * 2


async def test_waiters_outlast_the_stores_trouble(durably: Durably, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durably._waiters, "_polling_interval", 0.01)  # pyright: ignore[reportPrivateUsage]
    troubles: list[WorkerError] = []
    durably.on("worker:error", troubles.append)

    @durably.job
    async def fine(step: StepContext, input: Task) -> str:
        return "done"

    async def fail(*args: object) -> object:
        raise StoreBusyError("busy")

    run = await fine.trigger(Task())
    with monkeypatch.context() as patch:
        patch.setattr(store_of(durably), "news", fail)
        waiting = asyncio.create_task(durably.wait_for_run(run.id, polling_interval=0.01))
        async with asyncio.timeout(5):
            while not troubles:
                await asyncio.sleep(0.001)
    await durably.process_one()
    assert (await asyncio.wait_for(waiting, 5)).output == "done"
    assert troubles[0].context == "wait"
