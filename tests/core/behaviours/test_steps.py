"""STP: what steps tell and keep."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    Event,
    EventType,
    RunProgressed,
    StepCancelled,
    StepCompleted,
    StepContext,
    StepFailedEvent,
    define_job,
)
from tests.core.unchecked import unchecked


class Order(BaseModel):
    number: int = 0


def hear(durably: Durably, *names: EventType) -> list[Event]:
    heard: list[Event] = []
    for name in names:
        durably.on(name)(heard.append)
    return heard


async def test_steps_tell_their_output_their_duration_and_their_error(durably: Durably) -> None:
    """STP-5."""
    heard = hear(durably, "step:complete", "step:fail", "step:cancel")

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        async def good() -> int:
            await asyncio.sleep(0.002)
            return 7

        def bad() -> None:
            raise ValueError("no")

        await step.run("good", good)
        await step.run("bad", bad)

    await work.trigger(Order())
    await durably.process_one()
    done, failed = heard
    assert isinstance(done, StepCompleted)
    assert (done.step_name, done.output, done.attempt) == ("good", 7, 1)
    assert 0.001 < done.duration < 5
    assert isinstance(failed, StepFailedEvent)
    assert (failed.step_name, failed.error.type, failed.error.message) == ("bad", "ValueError", "no")


async def test_every_progress_is_told_and_the_last_one_kept(durably: Durably) -> None:
    """STP-6."""
    heard = hear(durably, "run:progress")

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        for number in range(4):
            step.progress(number, 3, f"number {number}")
        step.progress(9)

    run = await work.trigger(Order())
    await durably.process_one()
    told = [event.progress for event in heard if isinstance(event, RunProgressed)]
    assert [(one.current, one.total, one.message) for one in told] == [
        *((n, 3, f"number {n}") for n in range(4)),
        (9, None, None),
    ]
    assert (done := await durably.get_run(run.id)) is not None
    assert done.progress == told[-1]


async def test_a_plain_function_can_see_that_it_must_end(durably: Durably) -> None:
    """STP-7, STA-3: nobody can interrupt a thread, so it may ask."""
    begun, cancelled = threading.Event(), threading.Event()
    seen: list[object] = []
    heard = hear(durably, "step:cancel", "step:fail", "step:complete")

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        def body() -> None:
            seen.append(step.is_cancelled)
            begun.set()
            cancelled.wait(5)
            seen.append(step.is_cancelled)
            try:
                step.raise_if_cancelled()
            except asyncio.CancelledError:
                seen.append("raised")

        await step.run("body", body)

    await durably.start()
    run = await work.trigger(Order())
    async with asyncio.timeout(5):
        while not begun.is_set():
            await asyncio.sleep(0.001)
        await durably.cancel(run.id)
        await asyncio.sleep(0)
        cancelled.set()
        await durably.stop()
    assert seen == [False, True, "raised"]
    assert [type(event) for event in heard] == [StepCancelled]


async def test_steps_and_logs_go_with_their_run(durably: Durably) -> None:
    """STP-11, STP-12, DEL-1, BUG-4, BUG-5: kept after every end, and gone when it is deleted."""
    gate = asyncio.Event()

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        await step.run("first", step.log.info, "hello")
        if input.number == 1:
            raise ValueError("no")
        if input.number == 2:
            gate.set()
            await asyncio.Event().wait()

    runs = await work.batch_trigger([Order(number=n) for n in range(3)])
    await durably.start()
    async with asyncio.timeout(5):
        await gate.wait()
        await durably.cancel(runs[2].id)
        await durably.stop()
    for run, status in zip(runs, ("completed", "failed", "cancelled"), strict=True):
        assert (now := await durably.get_run(run.id)) is not None
        assert now.status == status
        assert [step.name for step in await durably.get_steps(run.id)] == ["first"]
        assert [line.message for line in await durably.get_logs(run.id)] == ["hello"]
        await durably.delete_run(run.id)
        assert await durably.get_steps(run.id) == []
        assert await durably.get_logs(run.id) == []
    assert await durably.get_steps("missing") == []


async def test_a_step_keeps_its_place_when_the_run_resumes(durably: Durably) -> None:
    """BUG-1: replayed steps are not counted again."""
    executions = 0

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        nonlocal executions
        executions += 1
        for number in range(2 + executions):
            await step.run(f"step-{number}", lambda: None)
        if executions < 3:
            raise RuntimeError("once more")

    run = await work.trigger(Order())
    for _ in range(3):
        await durably.process_one()
        if executions < 3:
            await durably.retry(run.id)
    steps = await durably.get_steps(run.id)
    assert [(step.name, step.position) for step in steps] == [(f"step-{n}", n + 1) for n in range(5)]
    assert (done := await durably.get_run(run.id)) is not None
    assert done.completed_step_count == 5


async def test_a_step_costs_one_write_and_no_read(durably: Durably, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUG-17."""
    calls: list[str] = []
    store = durably._store  # pyright: ignore[reportPrivateUsage]

    def count(name: str) -> None:
        real: Callable[..., object] = getattr(store, name)

        def counted(*args: Any, **options: Any) -> object:
            calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(store, name, counted)

    verbs = [name for name in dir(type(store)) if not name.startswith("_") and name not in {"open", "close"}]
    for name in verbs:
        count(name)

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        calls.clear()
        for number in range(5):
            await step.run(f"step-{number}", asyncio.sleep, 0)
        calls.append("end")

    await work.trigger(Order())
    await durably.process_one()
    assert calls[: calls.index("end")] == ["save_step"] * 5


async def test_an_input_that_no_longer_fits_fails_the_run_and_calls_nothing(
    another: Callable[..., Durably],
) -> None:
    """BUG-14."""

    class Stricter(BaseModel):
        number: int
        customer: str

    called: list[object] = []

    async def old(step: StepContext, input: Order) -> None: ...

    async def new(step: StepContext, input: Stricter) -> None:
        called.append(input)

    before, after = another(), another()
    await before.migrate()
    run = await before.register(define_job(name="order", input=Order, run=old)).trigger(Order(number=5))
    after.register(define_job(name="order", input=Stricter, run=new))
    await after.migrate()
    assert await after.process_one()
    assert (failed := await after.get_run(run.id)) is not None
    assert failed.error is not None
    assert failed.error.type == "durably.errors.StoredValueError"
    assert "customer" in failed.error.message
    assert called == []


@pytest.mark.parametrize("amounts", [("3",), (None,), (float("nan"),), (1, float("inf"))])
async def test_a_progress_that_is_no_number_is_refused(durably: Durably, amounts: Sequence[object]) -> None:
    """STP-6."""

    @durably.job
    async def work(step: StepContext, input: Order) -> None:
        unchecked(step.progress)(*amounts)

    run = await work.trigger(Order())
    await durably.process_one()
    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.error is not None
    assert "progress takes finite numbers" in failed.error.message
