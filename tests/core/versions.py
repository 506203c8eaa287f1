"""One job in several versions, and a store on which they follow each other."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from durably import Durably, Run, Step, StepContext, StepKind, define_job, job
from durably.jobs import AnyJob
from durably.stores.sqlite import SqliteStore
from tests.core.test_leases import Clocks

HOUR = 3600.0
ITEMS = ("p", "q")


@job
async def echo(step: StepContext, input: str) -> str:
    """The child of every version."""
    return input


@dataclass(frozen=True, slots=True)
class Call:
    """What a version of the job calls by a name."""

    name: str
    kind: StepKind = "run"


Plan: TypeAlias = Sequence[Call | Sequence[Call]]
"""The calls of a version, in order; what stands in a sequence of its own is called side by side."""


def steps(names: str) -> list[Call]:
    """A plan of plain steps, one for each letter."""
    return [Call(name) for name in names]


def calls_of(plan: Plan) -> list[Call]:
    """Its calls, one by one."""
    return [call for part in plan for call in ([part] if isinstance(part, Call) else part)]


class Stop:
    """Counts the points that a run comes to, and holds it at one of them."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.arrived: asyncio.Event = asyncio.Event()

    def count(self) -> bool:
        """Come to a point; answers whether it is the one."""
        self._left -= 1
        if self._left == 0:
            self.arrived.set()
        return self._left == 0

    async def come(self) -> None:
        """Come to a point, and stay if it is the one."""
        if self.count():
            await asyncio.Event().wait()


class History:
    """A run that lives through several versions of its job, each on an instance of its own."""

    def __init__(self, store: SqliteStore, clocks: Clocks) -> None:
        self._store = store
        self._clocks = clocks
        self.done: Counter[str] = Counter()
        """How often the body of each step, and of each item of a map, came to its end."""
        self.run_id: str = ""

    @asynccontextmanager
    async def deployed(self, *definitions: AnyJob) -> AsyncGenerator[Durably]:
        """An instance that knows these jobs, and the child; stopped with the block."""
        durably = Durably(
            self._store, environment=self._clocks, polling_interval=60, jobs=[echo, *definitions]
        )
        await durably.migrate()
        try:
            yield durably
        finally:
            await durably.stop(drain=0)

    def version(
        self, number: int, plan: Plan, stop: Stop | None = None
    ) -> AbstractAsyncContextManager[Durably]:
        """An instance that knows this version; what it makes says so, e.g. `a@2`."""
        story = Story(self, number, plan, stop or Stop(0))
        return self.deployed(define_job(name="story", input=int, output=dict[str, object], run=story.tell))

    async def begin(self, plan: Plan, *, stop_at: int) -> bool:
        """Trigger the run, and execute its first version; as `execute`."""
        async with self.version(1, plan) as durably:
            await self.trigger(durably, "story", 0)
        return await self.execute(1, plan, stop_at=stop_at)

    async def execute(self, number: int, plan: Plan, *, stop_at: int) -> bool:
        """Execute a version until it comes to this point; answers whether it did before its end.

        A point is before, in and after each body, and each suspension. 0 is none of them.
        """
        stop = Stop(stop_at)
        async with self.version(number, plan, stop) as durably:
            arrived = asyncio.ensure_future(stop.arrived.wait())
            living = asyncio.ensure_future(self.live(durably, stop))
            await asyncio.wait({arrived, living}, return_when=asyncio.FIRST_COMPLETED)
            # Nobody claims any more; what executes is handed back when the instance stops.
            arrived.cancel()
            living.cancel()
            await asyncio.wait({arrived, living})
            if not living.cancelled():
                await living
        return stop.arrived.is_set() and not (await self.run()).is_terminal

    async def go_on(self, plan: Plan) -> Run:
        """Execute the second version to the run's end."""
        await self.execute(2, plan, stop_at=0)
        return await self.run()

    async def go_on_with(self, *definitions: AnyJob) -> Run:
        """The same with a version that is written out."""
        async with self.deployed(*definitions) as durably:
            return await self.live(durably)

    async def live(self, durably: Durably, stop: Stop | None = None) -> Run:
        """Let time pass, and send the signals that are waited for, until the run has ended.

        Raises:
            AssertionError: It hangs.
        """
        for _ in range(40):
            await durably.process_until_idle()
            run = await durably.get_run(self.run_id)
            assert run is not None
            if run.is_terminal or (stop is not None and run.status == "waiting" and stop.count()):
                return run
            for step in await durably.get_steps(self.run_id):
                if step.kind == "signal" and step.status == "running":
                    await durably.signal(step.name, f"{step.name}@sent", run_id=self.run_id)
            self.pass_time(HOUR)
        raise AssertionError(f"the run hangs: {await durably.explain(self.run_id)}")

    def pass_time(self, seconds: float) -> None:
        """Push the clocks of all instances forward."""
        self._clocks.wall += seconds

    async def trigger(self, durably: Durably, job_name: str, input: object) -> None:
        """Begin the history's run."""
        handle = durably.get_job(job_name)
        assert handle is not None
        self.run_id = (await handle.trigger(input)).id

    async def shown(self, name: str) -> Step:
        """Wait until the run has a step of this name."""
        async with asyncio.timeout(5):
            while name not in (stored := await self.stored()):
                await asyncio.sleep(0.005)
        return stored[name]

    async def run(self) -> Run:
        """The run."""
        run = await self._store.get_run(self.run_id)
        assert run is not None
        return run

    async def made_by(self, step: Step) -> object:
        """What a child was given, which is what it answers."""
        child = await self._store.get_run(step.child_id or "")
        return None if child is None else child.input

    async def stored(self) -> dict[str, Step]:
        """The run's steps."""
        return {step.name: step for step in await self._store.list_steps(self.run_id, after=-1)}


@asynccontextmanager
async def history_on(place: str) -> AsyncGenerator[History]:
    """A history on a store of its own."""
    clocks = Clocks()
    store = SqliteStore(place.removeprefix("sqlite:///"), environment=clocks)
    await store.open()
    try:
        yield History(store, clocks)
    finally:
        await store.close()


class Story:
    """A version of the job: makes the calls of a plan, and answers what each gave, by name."""

    def __init__(self, history: History, number: int, plan: Plan, stop: Stop) -> None:
        self._history = history
        self._number = number
        self._plan = plan
        self._stop = stop

    async def tell(self, step: StepContext, input: int) -> dict[str, object]:
        """The job's function."""
        given: dict[str, object] = {}
        for part in self._plan:
            if isinstance(part, Call):
                given[part.name] = await self._make(step, part)
            else:
                results = await asyncio.gather(*(self._make(step, call) for call in part))
                given |= {call.name: result for call, result in zip(part, results, strict=True)}
        return given

    async def _make(self, step: StepContext, call: Call) -> object:
        await self._stop.come()
        result = await self._result(step, call)
        await self._stop.come()
        return result

    async def _result(self, step: StepContext, call: Call) -> object:
        name = call.name
        match call.kind:
            case "run":
                return await step.run(name, self._body, name)
            case "map":
                return await step.map(name, self._body, [f"{name}[{item}]" for item in ITEMS], key=_item)
            case "sleep":
                await step.sleep(name, HOUR / 2)
                return None
            case "signal":
                return await step.wait_for_signal(name, str)
            case "child":
                return await step.invoke(name, echo, f"{name}@{self._number}")
            case "spawn":
                return await step.spawn(name, echo, f"{name}@{self._number}")
            case _:
                assert_never(call.kind)

    async def _body(self, name: str) -> str:
        await self._stop.come()
        self._history.done[name] += 1
        return f"{name}@{self._number}"


def _item(name: str) -> str:
    return name[-2]
