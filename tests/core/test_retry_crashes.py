"""A worker that dies before or after any word it says while it tries again: no attempt given back or added.

As in test_crashes.py, another worker goes on whose clock says that the leases have run out.
"""

import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from pydantic import BaseModel

from durably import Durably, Retry, StepContext, define_job
from durably.stores.sqlite import SqliteStore
from tests.core.test_crashes import COUNTED, Moment, Mortal
from tests.core.test_leases import Clocks

if TYPE_CHECKING:
    from durably.stores.base import Store

HOUR = Retry(2, delay=3600, max_delay=3600, jitter=False)


class Plan(BaseModel):
    number: int = 0


class World:
    """A job whose one step fails three times: twice before the job begins again, once after."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.calls: list[str] = []
        self.clocks: Clocks = Clocks()
        self.client: Durably = Durably(
            SqliteStore(path, environment=self.clocks), environment=self.clocks, worker=False
        )
        self.register(self.client)

    def register(self, durably: Durably) -> None:
        async def flaky(step: StepContext) -> int:
            self.calls.append("flaky")
            # What is stored decides: a call whose failure nobody heard of is made again.
            failures = await self.failures(step.run_id)
            if failures < 3:
                raise OSError(f"no {failures + 1}")
            return 7

        async def story(step: StepContext, input: Plan) -> int:
            first = await step.run("first", self.call, "first")
            return first + await step.run("flaky", flaky, step, retry=HOUR)

        durably.register(define_job(name="story", input=Plan, output=int, run=story, retry=HOUR))

    async def call(self, name: str) -> int:
        self.calls.append(name)
        return 1

    async def failures(self, run_id: str) -> int:
        """As many as are stored, those that a new attempt at the job has put aside included."""
        run = await self.client.get_run(run_id)
        steps = [step for step in await self.client.get_steps(run_id) if step.name == "flaky"]
        if steps:
            return len(steps[0].attempts)
        return 0 if run is None or run.attempt == 1 else 2

    def instance(self, nth: int = 10**9, moment: Moment = "before") -> tuple[Durably, Mortal]:
        store = Mortal(SqliteStore(self.path, environment=self.clocks, durability="process"), nth, moment)
        durably = Durably(cast("Store", store), environment=self.clocks, polling_interval=0.01)
        self.register(durably)
        return durably, store


async def live(world: World, run_id: str) -> None:
    """Let time pass whenever nothing but time is missing."""
    while True:
        run = await world.client.get_run(run_id)
        assert run is not None
        if run.is_terminal:
            return
        due = [run.due_at] if run.status == "pending" else []
        if run.status == "waiting":
            due = [step.wake_at for step in await world.client.get_steps(run_id)]
        # Not once it may be claimed: its owner's lease would be over with it.
        if any(moment is not None and moment.timestamp() > world.clocks.now() for moment in due):
            world.clocks.wall += 3700
        await asyncio.sleep(0.002)


async def scenario(path: Path, nth: int, moment: Moment) -> tuple[list[str], list[str]]:
    """One life of the story, with a death at this verb; answers what was said and what was called."""
    world = World(path)
    await world.client.init()
    story = world.client.get_job("story")
    assert story is not None
    mine = asyncio.all_tasks()
    worker, store = world.instance(nth, moment)
    await worker.init()
    run = await story.trigger(Plan())
    living = asyncio.ensure_future(live(world, run.id))
    death = asyncio.ensure_future(store.died.wait())
    await asyncio.wait({living, death}, return_when=asyncio.FIRST_COMPLETED)
    if store.died.is_set():
        for task in asyncio.all_tasks() - mine - {living, death}:
            task.cancel()
        await store.silence()
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
    done = await world.client.wait_for_run(run.id)
    assert (done.output, done.attempt, done.error) == (8, 2, None)
    first, flaky = await world.client.get_steps(run.id)
    assert (first.status, flaky.status) == ("completed", "completed")
    assert [one.error.message for one in flaky.attempts] == ["no 1", "no 2", "no 3"]
    await world.client.close()
    return store.said, world.calls


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_while_trying_again_gives_no_attempt_back_and_adds_none(
    tmp_path: Path,
) -> None:
    assert "save_attempt" in COUNTED
    said, calls = await scenario(tmp_path / "calm.db", 10**9, "before")
    assert calls == ["first", *["flaky"] * 4]
    assert said.count("save_attempt") == 2
    assert {"claim", "save_step", "finish", "suspend"} <= set(said)
    moments: tuple[Moment, ...] = ("before", "after")
    for nth, moment in itertools.product(range(1, len(said) + 1), moments):
        path = tmp_path / f"{nth}-{moment}.db"
        try:
            _, calls = await scenario(path, nth, moment)
        except BaseException as error:
            error.add_note(f"the worker died {moment} verb {nth} of {said}")
            raise
        assert len(calls) <= 6, "one death repeats one body at most"
