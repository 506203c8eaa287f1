"""Two owners never write, and losing a lease is neither failure nor cancellation."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import BaseModel
from typing_extensions import override

from durably import (
    Durably,
    Event,
    EventType,
    JobDefinition,
    JobHandle,
    RealEnvironment,
    StepContext,
    define_job,
)
from durably.stores.values import Answer, Lease, Notes


class Clocks(RealEnvironment):
    """Real clocks that a test may push forward."""

    def __init__(self) -> None:
        self.wall: float = 0.0
        self.steady: float = 0.0

    @override
    def now(self) -> float:
        return super().now() + self.wall

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self.steady


class Plan(BaseModel):
    steps: int = 3


class Scene:
    """One run, an owner in trouble, and a successor on the same file."""

    def __init__(self, another: Callable[..., Durably]) -> None:
        self.calls: list[str] = []
        self.gate: asyncio.Event = asyncio.Event()
        self.begun: asyncio.Event = asyncio.Event()
        self.clocks: Clocks = Clocks()
        self.later: Clocks = Clocks()
        self.owner: Durably = another(environment=self.clocks)
        self.successor: Durably = another(environment=self.later)
        self.events: list[Event] = []
        names: tuple[EventType, ...] = (
            "run:fail",
            "run:cancel",
            "run:complete",
            "step:complete",
            "step:fail",
        )
        for name in names:
            self.owner.on(name)(self.events.append)
        self.old: JobHandle[Plan, str] = self.owner.register(self._job("old"))
        self.new: JobHandle[Plan, str] = self.successor.register(self._job("new"))

    def _job(self, who: str) -> JobDefinition[Plan, str]:
        async def body(step: StepContext, input: Plan) -> str:
            async def work(number: int) -> int:
                self.calls.append(f"{who} {number}")
                if who == "old" and number == 1:
                    self.begun.set()
                    await self.gate.wait()
                return number

            for number in range(input.steps):
                await step.run(f"step-{number}", work, number)
            return who

        return define_job(name="scene", input=Plan, output=str, run=body)


@pytest.fixture
async def scene(another: Callable[..., Durably]) -> AsyncIterator[Scene]:
    scene = Scene(another)
    await scene.owner.init()
    await scene.successor.migrate()
    yield scene
    scene.gate.set()


async def test_what_ends_past_the_leases_end_is_not_written_and_done_again(scene: Scene) -> None:
    run = await scene.old.trigger(Plan())
    await scene.begun.wait()
    scene.clocks.steady += 60
    scene.gate.set()
    done = await scene.owner.wait_for_run(run.id, timeout=5)
    assert (done.output, done.lease_generation, done.crashes) == ("old", 2, 0)
    assert scene.calls == ["old 0", "old 1", "old 1", "old 2"]
    assert [event.type for event in scene.events].count("run:fail") == 0


async def test_no_step_starts_past_the_leases_end() -> None:
    clocks = Clocks()
    calls: list[int] = []
    executions = 0
    async with Durably(":memory:", environment=clocks) as alone:

        @alone.job
        async def slow_between(step: StepContext, input: Plan) -> None:
            nonlocal executions
            executions += 1
            await step.run("one", calls.append, 1)
            clocks.steady += 60
            await step.run("two", calls.append, 2)

        await slow_between.trigger(Plan())
        async with asyncio.timeout(5):
            while executions < 2:
                await asyncio.sleep(0.001)
        assert calls == [1]


async def test_a_step_that_does_not_start_is_not_told_as_started(
    another: Callable[..., Durably], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspect's mark is written before its body, and the lease may end meanwhile."""
    clocks = Clocks()
    durably = another(environment=clocks)
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    calls: list[str] = []
    told: list[str] = []
    durably.on("step:start", lambda event: told.append(event.run_id))

    @durably.job
    async def deadly(step: StepContext, input: Plan) -> None:
        await step.run("one", calls.append, step.run_id)

    note = store.note

    async def note_slowly(lease: Lease, notes: Notes, /) -> Answer:
        answer = await note(lease, notes)
        clocks.steady += 60
        monkeypatch.setattr(store, "note", note)
        return answer

    monkeypatch.setattr(store, "note", note_slowly)
    await durably.migrate()
    run = await deadly.trigger(Plan())
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("UPDATE durably_runs SET crashes = 3")
        connection.commit()
    await durably.start()
    done = await durably.wait_for_run(run.id, timeout=5)
    assert done.lease_generation == 2
    assert told == calls == [run.id]


async def test_a_zombie_writes_nothing_over_its_successor(scene: Scene) -> None:
    run = await scene.old.trigger(Plan())
    await scene.begun.wait()
    scene.later.wall += 60
    assert await scene.successor.process_one()
    done = await scene.successor.get_run(run.id)
    assert done is not None
    assert (done.status, done.output, done.lease_generation) == ("completed", "new", 2)

    scene.gate.set()
    await _idle(scene.owner)
    after = await scene.owner.get_run(run.id)
    assert after is not None
    assert (after.status, after.output, after.change) == ("completed", "new", done.change)
    assert scene.calls == ["old 0", "old 1", "new 1", "new 2"]
    assert [event.type for event in scene.events] == ["step:complete"]


async def test_a_worker_learns_of_a_foreign_cancel_by_itself(scene: Scene) -> None:
    run = await scene.old.trigger(Plan())
    await scene.begun.wait()
    async with asyncio.timeout(2):
        # Once the step is seen running, no write of the owner is due that could be refused.
        while len(await scene.owner.get_steps(run.id)) < 2:
            await asyncio.sleep(0.01)
    await scene.successor.cancel(run.id)
    async with asyncio.timeout(2):
        await _idle(scene.owner)
    assert scene.calls == ["old 0", "old 1"]
    assert (gone := await scene.owner.get_run(run.id)) is not None
    assert (gone.status, gone.lease_owner) == ("cancelled", None)
    assert "run:fail" not in [event.type for event in scene.events]


async def test_a_heartbeat_keeps_a_long_step_alive(another: Callable[..., Durably]) -> None:
    clocks, gate = Clocks(), asyncio.Event()
    durably = another(environment=clocks, stale_threshold=30, heartbeat_interval=0.2)
    other = another(environment=clocks, stale_threshold=30, heartbeat_interval=0.2)

    async def body(step: StepContext, input: Plan) -> int:
        await step.run("long", gate.wait)
        return input.steps

    async def seconds_left() -> float:
        now = await durably.get_run(run.id)
        assert now is not None
        return -1 if now.lease_expires_at is None else now.lease_expires_at.timestamp() - clocks.now()

    definition = define_job(name="long", input=Plan, output=int, run=body)
    handle = durably.register(definition)
    other.register(definition)
    await durably.init()
    run = await handle.trigger(Plan())
    async with asyncio.timeout(30):
        while await seconds_left() < 0:
            await asyncio.sleep(0.001)
        await other.init()
        # Longer than a lease lasts; a heartbeat that a busy machine lets take too long is made up for by the next.
        for _ in range(6):
            clocks.wall += 7
            clocks.steady += 7
            while await seconds_left() < 24:
                await asyncio.sleep(0.001)
    gate.set()
    done = await durably.wait_for_run(run.id, timeout=30)
    assert (done.lease_generation, done.crashes) == (1, 0)


async def test_bodies_of_one_key_never_overlap_across_workers(
    another: Callable[..., Durably],
) -> None:
    running = 0
    order: list[int] = []

    async def body(step: StepContext, input: Plan) -> None:
        async def work() -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0.001)
            running -= 1
            order.append(input.steps)

        await step.run("work", work)

    definition = define_job(name="exclusive", input=Plan, run=body)
    workers = [another(max_concurrent_runs=4) for _ in range(3)]
    handles = [worker.register(definition) for worker in workers]
    for worker in workers:
        await worker.init()
    runs = [await handles[n % 3].trigger(Plan(steps=n), concurrency_key="one") for n in range(24)]
    await asyncio.gather(*(workers[0].wait_for_run(run.id, timeout=20) for run in runs))
    assert order == list(range(24))


async def _idle(durably: Durably) -> None:
    """Wait until the worker executes nothing."""
    worker = durably._worker  # pyright: ignore[reportPrivateUsage]
    assert worker is not None
    while worker._executions:  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0.001)
