"""A worker that dies at any word it says around a failure: each failure is followed once, and for ever."""

import asyncio
import itertools
from collections import Counter
from pathlib import Path

import pytest
from typing_extensions import override

from durably import Durably, FailedRun, Run, StepContext, StepFailed, define_job
from tests.core.mortality import Moment, Mortal, Plan, World, die_at_every_word, life
from tests.volume import sample

CALM = Counter({"broken: ValueError": 1, "overdue: durably.errors.RunTimeoutError": 1})


class Failures(World):
    """Two children fail, one by raising and one by its timeout while it waits; each failure is followed."""

    def __init__(self, path: Path) -> None:
        self.told: Counter[str] = Counter()
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def tell(step: StepContext, failed: FailedRun) -> None:
            await step.run("tell", self.effect, f"{failed.job_name}: {failed.error.type}")

        async def broken(step: StepContext, input: Plan) -> None:
            await step.sleep("pause", 3600)
            raise ValueError("no")

        async def overdue(step: StepContext, input: Plan) -> None:
            await step.wait_for_signal("never", int)

        teller = define_job(name="tell", input=FailedRun, run=tell)
        children = [
            define_job(name="broken", input=Plan, run=broken, on_failure=teller),
            define_job(name="overdue", input=Plan, run=overdue, on_failure=teller, timeout=600),
        ]

        async def story(step: StepContext, input: Plan) -> int:
            failures = 0
            for child in children:
                try:
                    await step.invoke(child.name, child, input)
                except StepFailed:
                    failures += 1
            return failures

        durably.register(define_job(name="story", input=Plan, output=int, run=story))
        for child in children:
            durably.register(child)

    async def effect(self, name: str) -> None:
        self.told[name] += 1

    @override
    async def push(self, run: Run) -> None:
        """Let time pass while a child waits for it."""
        waiting = await self.client.get_runs(status="waiting", job_name=["broken", "overdue"])
        if waiting:
            self.clocks.wall += 3700

    @override
    async def check(self, run: Run) -> None:
        assert run.output == 2
        runs = await self.client.get_runs()
        assert Counter((one.job_name, one.status) for one in runs) == {
            ("story", "completed"): 1,
            ("broken", "failed"): 1,
            ("overdue", "failed"): 1,
            ("tell", "completed"): 2,
        }
        failed = {one.id for one in runs if one.status == "failed"}
        assert {one.parent_id for one in runs if one.job_name == "tell"} == failed
        assert self.told >= CALM
        assert self.told.total() <= CALM.total() + 1, "one death repeats one body at most"


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_leaves_each_failure_followed_once(tmp_path: Path) -> None:
    calm = Failures(tmp_path / "calm.db")
    said = await life(calm)
    assert calm.told == CALM
    assert said.count("finish") == 5
    assert said.count("suspend") >= 3
    await die_at_every_word(said, tmp_path, Failures)


class Killer(World):
    """A run that kills its worker, and an undertaker who parks it, and dies of that as well."""

    def __init__(self, path: Path) -> None:
        self.begun: asyncio.Event = asyncio.Event()
        self.told: list[str] = []
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def tell(step: StepContext, failed: FailedRun) -> None:
            await step.run("tell", self.effect, failed.error.type)

        async def story(step: StepContext, input: Plan) -> None:
            self.begun.set()
            await asyncio.Event().wait()

        teller = define_job(name="tell", input=FailedRun, run=tell)
        durably.register(define_job(name="story", input=Plan, run=story, on_failure=teller))

    async def effect(self, name: str) -> None:
        self.told.append(name)

    @override
    async def push(self, run: Run) -> None:
        return None

    @override
    async def check(self, run: Run) -> None:
        runs = await self.client.get_runs()
        assert Counter((one.job_name, one.status) for one in runs) == {
            ("story", "failed"): 1,
            ("tell", "completed"): 1,
        }
        assert set(self.told) == {"WorkerCrashed"}
        assert len(self.told) <= 2


async def burial(world: Killer, nth: int, moment: Moment) -> list[str]:
    """The killer kills, the undertaker parks it and may die of that; answers what the undertaker said."""
    await world.client.init()
    story = world.client.get_job("story")
    assert story is not None
    mine = asyncio.all_tasks()
    victim, grave = world.worker()
    await victim.init()
    run = await story.trigger(Plan())
    await asyncio.wait_for(world.begun.wait(), 10)
    await kill(grave, mine)
    world.clocks.wall += 60

    undertaker, store = world.worker(nth, moment, max_crashes=1)
    await undertaker.init()
    living = asyncio.ensure_future(world.live(run.id))
    death = asyncio.ensure_future(store.died.wait())
    await asyncio.wait({living, death}, return_when=asyncio.FIRST_COMPLETED)
    if store.died.is_set():
        await kill(store, mine | {living, death})
        world.clocks.wall += 60
        # The undertaker may have died with the follow-up in its hands, which is no killer.
        found = await world.client.get_run(run.id)
        is_parked = found is not None and found.status == "failed"
        healer, _ = world.worker(max_crashes=5 if is_parked else 1)
        await healer.init()
        await asyncio.wait_for(living, 20)
        await healer.stop(drain=0)
        await healer.close()
    else:
        store.spare()
        death.cancel()
        await living
        await undertaker.stop(drain=0)
        await undertaker.close()
    found = await world.client.get_run(run.id)
    assert found is not None
    await world.check(found)
    await world.client.close()
    return store.said


async def kill(store: Mortal, mine: set["asyncio.Task[object]"]) -> None:
    store.died.set()
    for task in asyncio.all_tasks() - mine:
        task.cancel()
    await store.silence()


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_of_a_burial_leaves_the_parked_run_followed_once(tmp_path: Path) -> None:
    said = await burial(Killer(tmp_path / "calm.db"), 10**9, "before")
    assert {"claim", "save_step", "finish"} <= set(said)
    moments: tuple[Moment, ...] = ("before", "after")
    for nth, moment in sample(itertools.product(range(1, len(said) + 1), moments), quick=5):
        try:
            await burial(Killer(tmp_path / f"{nth}-{moment}.db"), nth, moment)
        except BaseException as error:
            error.add_note(f"the undertaker died {moment} verb {nth} of {said}")
            raise
