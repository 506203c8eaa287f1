"""How a worker claims, executes, and lets go."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from pydantic import BaseModel

from durably import (
    ConcurrencyKey,
    Durably,
    RealEnvironment,
    Retry,
    RunCancelledError,
    RunFailedError,
    RunStarted,
    StepContext,
    StoreUnavailableError,
    WorkerError,
    define_job,
    job,
)
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from durably.stores.values import Answer, ClaimRequest, Lease, Notes, Outcome


class Task(BaseModel):
    number: int = 0


async def test_a_triggered_run_is_executed_without_waiting_for_a_poll(durably: Durably) -> None:
    @durably.job
    async def double(step: StepContext, input: Task) -> int:
        return await step.run("double", lambda: input.number * 2, result=int)

    await durably.start()
    await durably.start()
    result = await double.trigger_and_wait(Task(number=21), timeout=10)
    assert (result.output, result.disposition) == (42, "created")


async def test_slots_are_never_exceeded_and_refilled_at_once(url: str) -> None:
    running = 0
    most = 0

    async with Durably(url, max_concurrent_runs=3, polling_interval=60) as durably:

        @durably.job
        async def busy(step: StepContext, input: Task) -> None:
            async def work() -> None:
                nonlocal running, most
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.002)
                running -= 1

            await step.run("work", work)

        runs = await busy.batch_trigger(Task(number=n) for n in range(20))
        async with asyncio.timeout(20):
            await asyncio.gather(*(durably.wait_for_run(run.id) for run in runs))
    assert most == 3


async def test_runs_of_one_slot_are_executed_in_order_and_by_priority(url: str) -> None:
    order: list[int] = []
    durably = Durably(url, max_concurrent_runs=1, polling_interval=60)

    @durably.job
    async def record(step: StepContext, input: Task) -> None:
        order.append(input.number)

    async with durably:
        await durably.stop()
        for number in range(4):
            await record.trigger(Task(number=number))
        await record.trigger(Task(number=99), priority=5)
        assert await durably.process_until_idle(max_runs=2) == 2
        assert await durably.process_until_idle() == 3
        assert await durably.process_until_idle() == 0
    assert order == [99, 0, 1, 2, 3]


async def test_a_delayed_run_waits_for_its_time(durably: Durably) -> None:
    order: list[int] = []

    @durably.job
    async def record(step: StepContext, input: Task) -> None:
        order.append(input.number)

    await durably.start()
    later = await record.trigger(Task(number=1), delay=0.3)
    sooner = await record.trigger(Task(number=2))
    assert later.due_at is not None
    await durably.wait_for_run(sooner.id, timeout=5)
    assert order == [2]
    done = await durably.wait_for_run(later.id, timeout=5)
    assert order == [2, 1]
    assert done.started_at is not None
    assert done.started_at >= later.due_at


async def test_runs_that_share_a_key_execute_one_at_a_time_in_order(durably: Durably) -> None:
    running = 0
    order: list[int] = []

    @durably.job
    async def exclusive(step: StepContext, input: Task) -> None:
        async def work() -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0.001)
            order.append(input.number)
            running -= 1

        await step.run("work", work)

    await durably.start()
    runs = [await exclusive.trigger(Task(number=n), concurrency_key="k") for n in range(8)]
    await asyncio.gather(*(durably.wait_for_run(run.id, timeout=10) for run in runs))
    assert order == list(range(8))


async def test_a_shared_key_spans_jobs_and_a_plain_one_does_not(durably: Durably) -> None:
    gate = asyncio.Event()
    begun: list[str] = []

    async def body(step: StepContext, input: Task) -> None:
        begun.append(step.run_id)
        await gate.wait()

    left = durably.register(define_job(name="left", input=Task, run=body))
    right = durably.register(define_job(name="right", input=Task, run=body))
    await durably.start()
    plain = [await one.trigger(Task(), concurrency_key="a") for one in (left, right)]
    shared = [
        await one.trigger(Task(), concurrency_key=ConcurrencyKey("a", shared=True)) for one in (left, right)
    ]
    async with asyncio.timeout(5):
        while len(begun) < 3:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert set(begun) == {plain[0].id, plain[1].id, shared[0].id}
    gate.set()
    await asyncio.gather(*(durably.wait_for_run(run.id, timeout=5) for run in plain + shared))


async def test_an_unknown_job_is_left_alone(
    another: Callable[..., Durably],
) -> None:
    async def body(step: StepContext, input: Task) -> None: ...

    old, new = another(worker=False), another()
    await old.init()
    handle = old.register(define_job(name="elsewhere", input=Task, run=body))
    run = await handle.trigger(Task())
    await new.init()
    assert await new.process_until_idle() == 0
    assert (still := await old.get_run(run.id)) is not None
    assert still.status == "pending"

    new.register(define_job(name="elsewhere", input=Task, run=body))
    await old.wait_for_run(run.id, timeout=5)


async def test_cancel_reaches_a_running_body_at_once_and_is_final(durably: Durably) -> None:
    begun, unwound = asyncio.Event(), asyncio.Event()
    later: list[str] = []

    @durably.job
    async def endless(step: StepContext, input: Task) -> None:
        async def wait() -> None:
            begun.set()
            await asyncio.Event().wait()

        try:
            await step.run("wait", wait)
        except Exception:  # noqa: BLE001 - what a careless job would write
            later.append("swallowed")
        finally:
            unwound.set()
        later.append("went on")

    await durably.start()
    run = await endless.trigger(Task())
    waiting = asyncio.create_task(durably.wait_for_run(run.id))
    await begun.wait()
    cancelled = await durably.cancel(run.id)
    assert cancelled.status == "cancelled"
    for _ in range(10):
        await asyncio.sleep(0)
    assert unwound.is_set()
    with pytest.raises(RunCancelledError):
        await waiting
    assert later == []
    await durably.stop()
    assert (final := await durably.get_run(run.id)) is not None
    assert final.status == "cancelled"
    assert final.completed_at is not None


async def test_a_job_that_swallows_its_cancellation_has_not_completed(durably: Durably) -> None:
    begun, done = asyncio.Event(), asyncio.Event()
    refused: list[str] = []
    executed: list[str] = []

    @durably.job
    async def stubborn(step: StepContext, input: Task) -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        for name in ("one", "two"):
            try:
                await step.run(name, executed.append, name)
            except asyncio.CancelledError:
                refused.append(name)
        done.set()
        return "I finished anyway"

    await durably.start()
    run = await stubborn.trigger(Task())
    await begun.wait()
    await durably.cancel(run.id)
    await done.wait()
    await durably.stop()

    assert refused == ["one", "two"]
    assert executed == []
    assert (final := await durably.get_run(run.id)) is not None
    assert (final.status, final.output) == ("cancelled", None)
    assert await durably.get_steps(run.id) == []


async def test_a_thread_keeps_slot_and_key_after_its_cancel(durably: Durably) -> None:
    begun, release = threading.Event(), threading.Event()
    order: list[str] = []

    @durably.job
    async def threaded(step: StepContext, input: Task) -> None:
        def body() -> None:
            order.append(f"begin {input.number}")
            begun.set()
            if input.number == 0:
                release.wait(10)
            order.append(f"end {input.number}")

        await step.run("body", body)

    await durably.start()
    first = await threaded.trigger(Task(number=0), concurrency_key="k")
    second = await threaded.trigger(Task(number=1), concurrency_key="k")
    async with asyncio.timeout(5):
        while not begun.is_set():
            await asyncio.sleep(0.001)
    await durably.cancel(first.id)
    await asyncio.sleep(0.05)
    assert order == ["begin 0"]
    release.set()
    await durably.wait_for_run(second.id, timeout=5)
    assert order == ["begin 0", "end 0", "begin 1", "end 1"]


async def test_stop_waits_for_runs_that_end_in_time(durably: Durably) -> None:
    begun = asyncio.Event()

    @durably.job
    async def short(step: StepContext, input: Task) -> str:
        begun.set()
        await asyncio.sleep(0.05)
        return "done"

    await durably.start()
    run = await short.trigger(Task())
    await begun.wait()
    await durably.stop(drain=10)
    assert (done := await durably.get_run(run.id)) is not None
    assert done.output == "done"


async def test_stop_hands_back_what_does_not_end_and_it_resumes(durably: Durably) -> None:
    begun = asyncio.Event()
    calls: list[str] = []
    patient = False

    @durably.job
    async def long(step: StepContext, input: Task) -> str:
        async def wait() -> None:
            calls.append("wait")
            begun.set()
            if not patient:
                await asyncio.Event().wait()

        await step.run("first", lambda: calls.append("first"), result=type(None))
        await step.run("wait", wait)
        return "done"

    await durably.start()
    run = await long.trigger(Task())
    await begun.wait()
    await durably.stop(drain=0)
    assert (back := await durably.get_run(run.id)) is not None
    assert (back.status, back.crashes, back.lease_owner) == ("pending", 0, None)

    patient = True
    await durably.start()
    done = await durably.wait_for_run(run.id, timeout=5)
    assert done.output == "done"
    assert calls == ["first", "wait", "wait"]
    assert done.lease_generation == 2


async def test_a_job_that_swallows_its_stop_has_not_completed(durably: Durably) -> None:
    begun = asyncio.Event()

    @durably.job
    async def deaf(step: StepContext, input: Task) -> str:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "done, more or less"

    await durably.start()
    run = await deaf.trigger(Task())
    await begun.wait()
    await durably.stop(drain=0)
    assert (back := await durably.get_run(run.id)) is not None
    assert (back.status, back.output) == ("pending", None)


async def test_a_stop_does_not_wait_for_a_thread_and_keeps_its_run_from_others(
    another: Callable[..., Durably],
) -> None:
    begun, release = threading.Event(), threading.Event()
    durably, other = another(), another()

    async def body(step: StepContext, input: Task) -> None:
        def block() -> None:
            begun.set()
            release.wait(10)

        await step.run("block", block)

    definition = define_job(name="blocker", input=Task, run=body)
    handle = durably.register(definition)
    other.register(definition)
    await durably.init()
    run = await handle.trigger(Task())
    async with asyncio.timeout(5):
        while not begun.is_set():
            await asyncio.sleep(0.001)
    await durably.stop(drain=0)
    await other.init()
    assert not await other.process_one()
    assert (held := await other.get_run(run.id)) is not None
    assert held.status == "running"
    assert [worker.state for worker in await other.get_workers()].count("draining") == 1
    release.set()


async def test_nothing_new_is_begun_beside_a_suspect_until_it_gets_on(durably: Durably) -> None:
    begun: list[str] = []
    gates = [asyncio.Event(), asyncio.Event()]

    async def body(step: StepContext, input: Task) -> None:
        begun.append(f"{input.number}")
        if input.number == 0:
            await step.run("first", gates[0].wait)
            await step.run("second", gates[1].wait)

    handle = durably.register(define_job(name="suspect", input=Task, run=body))
    await handle.trigger(Task(number=0))
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    for name in ("one", "two"):
        # A worker that claims the run and is never heard of again.
        await store.claim(
            ClaimRequest(worker_id=name, jobs=["suspect"], limit=1, lease_seconds=0.001, max_crashes=5)
        )
        await asyncio.sleep(0.01)
    await durably.start()
    async with asyncio.timeout(5):
        while begun != ["0"]:
            await asyncio.sleep(0.001)
    await handle.trigger(Task(number=1))
    await asyncio.sleep(0.05)
    assert begun == ["0"]
    gates[0].set()
    async with asyncio.timeout(5):
        while begun != ["0", "1"]:
            await asyncio.sleep(0.001)
    gates[1].set()


async def test_a_job_that_cancels_itself_fails(durably: Durably) -> None:
    @durably.job
    async def suicidal(step: StepContext, input: Task) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    await durably.start()
    with pytest.raises(RunFailedError, match="cancelled itself"):
        await suicidal.trigger_and_wait(Task(), timeout=5)


async def test_a_steps_own_timeout_is_not_the_end_of_the_run(durably: Durably) -> None:
    @durably.job
    async def impatient(step: StepContext, input: Task) -> str:
        async def wait() -> None:
            await asyncio.Event().wait()

        try:
            async with asyncio.timeout(0.01):
                await step.run("wait", wait)
        except TimeoutError:
            return await step.run("instead", lambda: "plan B", result=str)
        return "plan A"

    await durably.start()
    assert (await impatient.trigger_and_wait(Task(), timeout=5)).output == "plan B"


async def test_the_store_knows_its_workers(durably: Durably) -> None:
    @durably.job
    async def job_of_mine(step: StepContext, input: Task) -> None: ...

    await durably.start()
    (worker,) = await durably.get_workers()
    assert (worker.state, worker.slots, worker.running) == ("active", 10, 0)
    assert worker.jobs == ("job-of-mine",)
    await durably.stop()
    assert await durably.get_workers() == []


async def test_a_job_output_that_does_not_fit_fails_the_run(durably: Durably) -> None:
    async def body(step: StepContext, input: Task) -> int:
        return "many"  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    handle = durably.register(define_job(name="liar", input=Task, output=int, run=body))
    await durably.start()
    with pytest.raises(RunFailedError, match="the output of job 'liar'"):
        await handle.trigger_and_wait(Task(), timeout=5)


async def test_the_worker_survives_its_stores_trouble(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble of the database is reported, asked again with pauses, and no run's error."""
    from durably.errors import StoreBusyError

    troubles: list[WorkerError] = []
    durably.on("worker:error", troubles.append)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    counts = {"claim": 0, "save_step": 0, "finish": 0}

    def make_troubled(verb: str) -> None:
        real: Callable[..., Awaitable[object]] = getattr(store, verb)

        async def troubled(*args: object) -> object:
            counts[verb] += 1
            if counts[verb] <= 2:
                raise StoreBusyError("busy")
            return await real(*args)

        monkeypatch.setattr(store, verb, troubled)

    for verb in counts:
        make_troubled(verb)

    @durably.job
    async def steady(step: StepContext, input: Task) -> str:
        return await step.run("work", lambda: "done", result=str)

    await durably.start()
    assert (await steady.trigger_and_wait(Task(), timeout=10)).output == "done"
    assert {"claim", "checkpoint", "outcome"} <= {trouble.context for trouble in troubles}
    assert all(count < 20 for count in counts.values())


async def test_a_run_that_is_lost_again_and_again_does_not_make_the_worker_spin(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[RunStarted] = []
    durably.on("run:start", starts.append)

    async def refuse(*args: object) -> str:
        return "lost"

    monkeypatch.setattr(durably._store, "save_step", refuse)  # pyright: ignore[reportPrivateUsage]

    @durably.job
    async def unlucky(step: StepContext, input: Task) -> None:
        await step.run("work", lambda: None)

    run = await unlucky.trigger(Task())
    await durably.start()
    await asyncio.sleep(1)
    assert 2 <= len(starts) < 10
    monkeypatch.undo()
    done = await durably.wait_for_run(run.id, timeout=10)
    assert done.crashes == 0


class Doubtful:
    """A store that commits the first outcome of a run, and whose answer does not arrive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.has_failed: bool = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def finish(self, lease: Lease, outcome: Outcome, notes: Notes, /) -> Answer:
        answer = await self._store.finish(lease, outcome, notes)
        if not self.has_failed:
            self.has_failed = True
            raise StoreUnavailableError("the connection is gone")
        return answer


@pytest.mark.parametrize("deed", ["fails", "continues"])
@pytest.mark.parametrize("polling_interval", [0.005, 60])
async def test_a_run_that_comes_back_while_its_last_outcome_is_in_doubt_is_executed_once(
    file_url: str, deed: str, polling_interval: float
) -> None:
    path = file_url.removeprefix("sqlite:///")
    store = Doubtful(SqliteStore(path, environment=RealEnvironment()))
    calls: list[int] = []

    async def work(number: int) -> None:
        calls.append(number)
        # Long enough for whoever is in doubt to ask again, and to hear that the run is another one's.
        await asyncio.sleep(0.3)

    @job(retry=Retry(2, delay=0))
    async def again(step: StepContext, input: int) -> int:
        if deed == "fails" and not calls and not store.has_failed:
            raise OSError("no")
        if deed == "continues" and input == 1:
            await step.continue_as_new(2)
        await step.run("first", work, 1)
        await step.run("second", work, 2)
        return input

    async with Durably(
        cast("Store", store), jobs=[again], polling_interval=polling_interval, heartbeat_interval=0.02
    ) as durably:
        run = await durably.register(again).trigger(1)
        done = await durably.wait_for_run(run.id, timeout=10)
        assert store.has_failed
        assert (done.status, done.crashes, calls) == ("completed", 0, [1, 2])
        assert (done.attempt, done.link) == ((2, 1) if deed == "fails" else (1, 2))
