"""A worker that dies before or after any word it says to its store: nothing lost, nothing twice.

The death is real for everybody else: from one store verb on the worker says nothing any more, and
its tasks are ended. Another worker, whose clock says that the leases have run out, goes on.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, cast

import pytest
from pydantic import BaseModel

from durably import Durably, StepContext, StepFailed, define_job
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from tests.core.test_leases import Clocks

Moment = Literal["before", "after"]

VERBS = (
    "enqueue", "claim", "save_step", "save_attempt", "note", "finish", "settle", "suspend", "release", "disown",
    "add_worker", "renew", "bury_dead",
)  # fmt: skip
COUNTED = (
    "claim", "save_step", "save_attempt", "note", "finish", "settle", "suspend", "release", "disown",
)  # fmt: skip


CALM = Counter({"first": 1, "child": 2, "left": 1, "right": 1})
"""How often each body is executed when nobody dies."""


class Death(asyncio.CancelledError):
    """What a dead worker's code meets."""


class Mortal:
    """A store that answers nobody any more after the `nth` counted verb."""

    def __init__(self, store: Store, nth: int, moment: Moment) -> None:
        self._store = store
        self._left = nth
        self._moment = moment
        self._is_spared = False
        self.died: asyncio.Event = asyncio.Event()
        self.said: list[str] = []

    async def silence(self) -> None:
        """Let what it had said before its death take effect: the queue of its thread is not its tasks."""
        await self._store.sweep()

    def spare(self) -> None:
        """Let it live from now on."""
        self._left = 10**9
        self._is_spared = True

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._store, name)
        return self._guard(name, verb) if name in VERBS else verb

    def _guard(self, name: str, verb: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*args: object, **options: object) -> object:
            if self.died.is_set():
                raise Death
            strikes = False
            if name in COUNTED:
                self.said.append(name)
                self._left -= 1
                strikes = self._left == 0
            if strikes and self._moment == "before":
                self.died.set()
                raise Death
            answer = await verb(*args, **options)
            if strikes and not self._is_spared:
                self.died.set()
            if self.died.is_set():
                raise Death
            return answer

        return call


class Plan(BaseModel):
    number: int = 0


class World:
    """A job that does everything a job may do, its effects, and its workers."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.effects: Counter[str] = Counter()
        self.clocks: Clocks = Clocks()

    def register(self, durably: Durably) -> None:
        async def child(step: StepContext, input: Plan) -> int:
            await step.run("double", self.effect, "child", 2 * input.number)
            return 2 * input.number

        async def failing(step: StepContext, input: Plan) -> int:
            raise ValueError("no")

        child_job = durably.register(define_job(name="child", input=Plan, output=int, run=child))
        failing_job = durably.register(define_job(name="failing", input=Plan, output=int, run=failing))

        async def story(step: StepContext, input: Plan) -> list[int]:
            told: list[int] = [await step.run("first", self.effect, "first", 1)]
            await step.sleep("pause", 3600)
            told.append(await step.wait_for_signal("go", int))
            step.log.info("went on")
            told.append(await step.invoke("child", child_job, Plan(number=5)))
            await step.spawn("side", child_job, Plan(number=6))
            try:
                await step.invoke("failing", failing_job, Plan())
            except StepFailed:
                told.append(-1)
            left, right = await asyncio.gather(
                step.run("left", self.effect, "left", 7), step.run("right", self.effect, "right", 8)
            )
            return [*told, left, right]

        durably.register(define_job(name="story", input=Plan, output=list[int], run=story))

    async def effect(self, name: str, value: int) -> int:
        self.effects[name] += 1
        return value

    def instance(self, nth: int = 10**9, moment: Moment = "before") -> tuple[Durably, Mortal]:
        store = Mortal(SqliteStore(self.path, environment=self.clocks, durability="process"), nth, moment)
        durably = Durably(cast("Store", store), environment=self.clocks, polling_interval=0.01)
        self.register(durably)
        return durably, store


async def live(world: World, client: Durably, run_id: str) -> None:
    """Push the story on until everything has ended: let time pass, and send the signal once."""
    sent = False
    while True:
        runs = await client.get_runs()
        if all(run.is_terminal for run in runs):
            return
        run = next(run for run in runs if run.id == run_id)
        if run.status == "waiting":
            kinds = [step.kind for step in await client.get_steps(run_id) if step.status == "running"]
            if kinds == ["sleep"]:
                world.clocks.wall += 3700
            elif kinds == ["signal"] and not sent:
                sent = True
                await client.signal("go", 3, run_id=run_id)
        await asyncio.sleep(0.002)


async def scenario(path: Path, nth: int, moment: Moment) -> tuple[list[str], Counter[str]]:
    """One life of the story, with a death at this verb; answers what the first worker said."""
    world = World(path)
    client = Durably(SqliteStore(path, environment=world.clocks), environment=world.clocks, worker=False)
    world.register(client)
    await client.init()
    story = client.get_job("story")
    assert story is not None
    mine = asyncio.all_tasks()
    worker, store = world.instance(nth, moment)
    await worker.init()
    run = await story.trigger(Plan())
    living = asyncio.ensure_future(live(world, client, run.id))
    death = asyncio.ensure_future(store.died.wait())
    await asyncio.wait({living, death}, return_when=asyncio.FIRST_COMPLETED)
    if store.died.is_set():
        for task in asyncio.all_tasks() - mine - {living, death}:
            task.cancel()
        await store.silence()
        # The leases of the dead run out: its process lives on in this test, so no lock tells.
        world.clocks.wall += 60
        healer, _ = world.instance()
        await healer.init()
        await asyncio.wait_for(living, 20)
        await healer.stop(drain=0)
        await healer.close()
    else:
        store.spare()
        death.cancel()
        await worker.stop(drain=0)
        await worker.close()
    done = await client.wait_for_run(run.id)
    assert done.output == [1, 3, 10, -1, 7, 8]
    jobs = Counter(one.job_name for one in await client.get_runs())
    assert jobs == {"story": 1, "child": 2, "failing": 1}
    steps = await client.get_steps(run.id)
    assert [step.name for step in steps if step.status == "running"] == []
    assert len({step.name for step in steps}) == len(steps) == 8
    await client.close()
    return store.said, world.effects


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_to_the_store_loses_nothing(tmp_path: Path) -> None:
    said, effects = await scenario(tmp_path / "calm.db", 10**9, "before")
    assert effects == CALM
    assert {"claim", "save_step", "finish", "suspend", "settle"} <= set(said)
    moments: tuple[Moment, ...] = ("before", "after")
    for nth, moment in itertools.product(range(1, len(said) + 1), moments):
        path = tmp_path / f"{nth}-{moment}.db"
        try:
            _, effects = await scenario(path, nth, moment)
        except BaseException as error:
            error.add_note(f"the worker died {moment} verb {nth} of {said}")
            raise
        assert CALM <= effects <= CALM + Counter(["first", "child", "left", "right"])
        assert effects.total() <= CALM.total() + 2, "one death repeats the bodies of one execution at most"
