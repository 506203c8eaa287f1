"""Workers that die before or after any word they say to their store.

The death is real for everybody else: from one store verb on the worker says nothing any more, and its
tasks are ended. Another worker, whose clock says that the leases have run out, goes on.
"""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, TypeVar, cast

from pydantic import BaseModel
from typing_extensions import Unpack

from durably import Durably, DurablyOptions, Run
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from tests.core.test_leases import Clocks
from tests.volume import sample

Moment = Literal["before", "after"]

VERBS = (
    "enqueue", "claim", "save_step", "save_attempt", "note", "finish", "settle", "suspend", "release", "disown",
    "add_worker", "renew", "bury_dead",
)  # fmt: skip
COUNTED = (
    "claim", "save_step", "save_attempt", "note", "finish", "settle", "suspend", "release", "disown",
)  # fmt: skip
NEVER = 10**9


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
        self._left = NEVER
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


class World(ABC):
    """A job named `story`, what it does, and the workers that execute it on one file."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.clocks: Clocks = Clocks()
        self.client: Durably = Durably(
            SqliteStore(path, environment=self.clocks), environment=self.clocks, worker=False
        )
        self.register(self.client)

    @abstractmethod
    def register(self, durably: Durably) -> None:
        """Let an instance know the story, and whatever belongs to it."""

    @abstractmethod
    async def push(self, run: Run) -> None:
        """Do what somebody outside has to do next, be it to let time pass."""

    @abstractmethod
    async def check(self, run: Run) -> None:
        """See what the story has come to; a worker may have died in it."""

    def worker(
        self, nth: int = NEVER, moment: Moment = "before", **options: Unpack[DurablyOptions]
    ) -> tuple[Durably, Mortal]:
        store = Mortal(SqliteStore(self.path, environment=self.clocks, durability="process"), nth, moment)
        options |= {"environment": self.clocks, "polling_interval": 0.01}
        durably = Durably(cast("Store", store), **options)
        self.register(durably)
        return durably, store

    async def wait_for_the_clock(self, run: Run) -> None:
        """Let time pass until the run is due, if nothing but time is missing.

        No further: once it may be claimed, the lease of its owner would be over with it.
        """
        due = [run.due_at] if run.status == "pending" else []
        if run.status == "waiting":
            due = [step.wake_at for step in await self.client.get_steps(run.id)]
        if any(moment is not None and moment.timestamp() > self.clocks.now() for moment in due):
            self.clocks.wall += 3700

    async def live(self, run_id: str) -> None:
        """Push the story on until everything has ended."""
        while True:
            runs = await self.client.get_runs()
            if all(run.is_terminal for run in runs):
                return
            await self.push(next(run for run in runs if run.id == run_id))
            await asyncio.sleep(0.002)


async def life(world: World, nth: int = NEVER, moment: Moment = "before") -> list[str]:
    """The story, with a death at this verb; answers what the first worker said."""
    await world.client.init()
    story = world.client.get_job("story")
    assert story is not None
    mine = asyncio.all_tasks()
    worker, store = world.worker(nth, moment)
    await worker.init()
    run = await story.trigger(Plan())
    living = asyncio.ensure_future(world.live(run.id))
    death = asyncio.ensure_future(store.died.wait())
    await asyncio.wait({living, death}, return_when=asyncio.FIRST_COMPLETED)
    if store.died.is_set():
        for task in asyncio.all_tasks() - mine - {living, death}:
            task.cancel()
        await store.silence()
        # The leases of the dead run out: its process lives on in this test, so no lock tells.
        world.clocks.wall += 60
        healer, _ = world.worker()
        await healer.init()
        await asyncio.wait_for(living, 20)
        await healer.stop(drain=0)
        await healer.close()
    else:
        store.spare()
        death.cancel()
        await living
        await worker.stop(drain=0)
        await worker.close()
    await world.check(await world.client.wait_for_run(run.id))
    await world.client.close()
    return store.said


Place = TypeVar("Place", bound=World)


async def die_at_every_word(said: list[str], folder: Path, make: Callable[[Path], Place]) -> list[Place]:
    """A life for each verb that a calm one said, with a death before it and one after; the worlds they leave."""
    worlds: list[Place] = []
    moments: tuple[Moment, ...] = ("before", "after")
    points = itertools.product(range(1, len(said) + 1), moments)
    for nth, moment in sample(points, quick=5):
        world = make(folder / f"{nth}-{moment}.db")
        try:
            await life(world, nth, moment)
        except BaseException as error:
            error.add_note(f"the worker died {moment} verb {nth} of {said}")
            raise
        worlds.append(world)
    return worlds
