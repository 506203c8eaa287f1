"""One history: the real engine and the real store under simulated time, with faults from a plan."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, TypeAlias, TypeVar

from durably import (
    Durably,
    DurablyError,
    JobDefinition,
    StoreError,
)
from durably.spi import SqliteStore, Store
from durably_testing.boundary import Word, about, guarded, has_moved, never
from durably_testing.database import SharedConnection, borrow_database, give_back
from durably_testing.effects import EffectLedger
from durably_testing.environment import SimEnvironment
from durably_testing.faults import Fault, Moment, Plan, ProcessKind, deed
from durably_testing.interposition import trouble
from durably_testing.loop import SimLoop
from durably_testing.oracle import violations
from durably_testing.passage import HORIZON, NEWS, POLLING, Passage
from durably_testing.processes import Process, current_process
from durably_testing.realworld import doors
from durably_testing.witness import Witness, story

T = TypeVar("T")

Meanwhile: TypeAlias = Callable[[Durably, str], Awaitable[object]]
"""What the outside does while a run is executed: called with an instance that no fault strikes, and
the run's id."""

LEASE = 12.0
HEARTBEAT = 5.0
RESTART = 1.0
"""Seconds until a killed worker's place is taken."""
MOST_WORDS = 5_000
"""Words to the store in one history."""
LATENCY = (0.0002, 0.003)
"""Seconds that the store takes for a batch: from, to."""


class World:
    """Everything that exists in one history. Time passes in it while somebody calls `do` or `rest`.

    Args:
        jobs: What the programs know.
        effects: The ledger; it is cleared.
        resources: Factories of what the jobs take by type; each process opens its own.
        plan: Faults that strike at their points.
        seed: Decides the store's latencies, jitter and ids.
        horizon: Virtual seconds without any news after which whatever has not ended is stuck.
        is_deterministic: Whether jobs must use every checkpoint they left.
    """

    def __init__(
        self,
        jobs: Iterable[JobDefinition[Any, Any]],
        *,
        effects: EffectLedger,
        resources: Iterable[Callable[..., object]] = (),
        plan: Plan = (),
        seed: int = 0,
        horizon: float = HORIZON,
        is_deterministic: bool = True,
    ) -> None:
        self._jobs = tuple(jobs)
        self._resources = tuple(resources)
        self._random = Random(seed)
        self._by_word = {(fault.at, fault.moment): fault for fault in plan}
        self._processes: list[Process] = []
        self._instances: dict[Process, Durably] = {}
        self._leaving: set[Process] = set()
        self._listeners: dict[Process, Callable[[], None]] = {}
        self._rung: set[Process] = set()
        self._turns = 0
        self._made = 0
        self._lives: list[asyncio.Task[None]] = []
        self._obstacle: Exception | None = None
        self.connection: SharedConnection = borrow_database()
        self.loop: SimLoop = SimLoop(turning=self._turning, asleep=self._asleep)
        self.words: list[Word] = []
        self.overhearing: list[Callable[[Process, Word, Sequence[Any]], object]] = []
        """Who is told of each word that a worker is about to say; a process that is killed there does not say it."""
        self.struck: list[str] = []
        self.effects: EffectLedger = effects
        effects.clear()
        self.witness: Witness = Witness(
            self.connection, effects, self.loop.time, is_deterministic=is_deterministic
        )
        self._passage = Passage(self.loop, self.connection, self.witness, horizon=horizon)
        self._outside: Process = self._process("client", is_immune=True)
        self.store: Store
        """The client's: what it says there is said by the outside."""
        # Collecting garbage meanwhile costs a third of the time; it is collected after the end.
        self._is_collecting = gc.isenabled()
        gc.disable()
        doors.shut()
        self.client: Durably
        """An instance without a worker, which no fault strikes."""
        try:
            self.client = self.do(self._connected())
        except BaseException:
            self.end()
            raise

    @property
    def turns(self) -> int:
        """How many turns the workers have taken."""
        return self._turns

    @property
    def workers(self) -> Sequence[Process]:
        """The workers that live, the oldest first."""
        return [process for process in self._processes if not (process.is_dead or process.is_immune)]

    # Its life

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the outside do something, with the client; the world goes on until it is done.

        Raises:
            ConfigurationError: A worker lacks what its jobs need.
            ResourceError: A worker could not open a resource.
        """
        try:
            return self.loop.run_until_complete(self._spawn(self._outside, work))
        finally:
            if self._obstacle is not None:
                raise self._obstacle

    def rest(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        """Let time pass until every run has ended and every zombie has shown itself, or nothing comes any more.

        Args:
            meanwhile: What the outside does; its end is waited for too.
        """
        self.do(self._passage.rest(meanwhile))

    def finish(self) -> None:
        """Let a `rest` come to its end."""
        self._passage.finish()

    def testify(self) -> None:
        """Demand that every run has ended, and that everything acknowledged is there."""
        self.do(self._testify())

    def violations(self) -> Sequence[str]:
        """Which promises have been broken until now."""
        accusations = [text for process in self._processes for text in dict.fromkeys(process.accusations)]
        return [*self.witness.violations, *violations(self.connection), *accusations]

    def end(self) -> None:
        """Let everybody die, and close what is left."""
        try:
            for process in self._processes:
                process.kill()
            self.loop.end()
        finally:
            doors.open()
            if self._is_collecting:
                gc.enable()
        give_back(self.connection)

    async def _testify(self) -> None:
        for run in await self.client.get_runs(status=("pending", "running", "waiting")):
            reason = await self.client.explain(run.id)
            self.witness.accuse(f"run {run.id} of {run.job_name} never ended: {reason}")
        self.witness.testify()

    # Processes

    def start_worker(self) -> None:
        """Start another worker. Should it be killed, another one takes its place a second later."""
        self._made += 1
        self._start(f"worker-{self._made}")

    def stop_worker(self, process: Process, *, drain: float) -> None:
        """Have a worker end by itself, as by SIGTERM; what has not ended after `drain` seconds it hands back."""
        self.witness.note(process.name, "is to stop")
        durably = self._instances.pop(process, None)
        if durably is None:
            # Nobody heeds the signal yet, or any more.
            process.kill()
        else:
            self._leaving.add(process)
            self._lives.append(self._spawn(process, _leave(process, durably, drain)))

    def deploy(self, jobs: Iterable[JobDefinition[Any, Any]], *, drain: float) -> None:
        """Replace all workers, and the client, by ones that know these jobs; they are there before the old ones end."""
        self._jobs = tuple(jobs)
        self.witness.has_deployed = True
        for process in self.workers:
            self._start(f"{process.name}'")
            self.stop_worker(process, drain=drain)
        self.do(self.client.close())
        self.client = self.do(self._connected())

    def strike(self, process: Process, kind: ProcessKind, seconds: float = 0.0) -> None:
        """Kill a process, or pause it for so many seconds, or let its clock jump by them."""
        self._tell(process, deed(kind, seconds))
        self._afflict(process, kind, seconds)

    def expect(self, fault: Fault) -> None:
        """Let a fault strike at its point, if the history comes to it."""
        self._by_word[fault.at, fault.moment] = fault

    def heal(self) -> None:
        """From now on no fault strikes, and there are workers."""
        self._by_word.clear()
        if self._leaving.issuperset(self.workers):
            self.start_worker()

    def story(self) -> str:
        """The faults that struck, and the last lines of the history."""
        return story(self.struck, self.witness.trace)

    def _afflict(self, process: Process, kind: ProcessKind, seconds: float) -> None:
        match kind:
            case "kill":
                process.kill()
                self._passage.later(RESTART, lambda: self._start(f"{process.name}'"))
            case "pause":
                process.pause()
                self._passage.later(seconds, process.resume)
            case "skew":
                process.skew += seconds
                self.witness.has_skew = True

    def _process(self, name: str, *, is_immune: bool = False) -> Process:
        process = Process(name, 1000 + len(self._processes), is_immune=is_immune)
        process.strike_down = partial(self.strike, process, "kill")
        self._processes.append(process)
        return process

    async def _connected(self) -> Durably:
        client = self._instance(self._outside, worker=False)
        await client.start()
        return client

    def _start(self, name: str) -> None:
        process = self._process(name)
        self._lives.append(self._spawn(process, self._live(process)))

    def _spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        return self.loop.create_task(work, context=_context_of(process))

    def _instance(self, process: Process, *, worker: bool) -> Durably:
        environment = SimEnvironment(process, self._random, self._latency, self.loop.keep)
        sqlite = SqliteStore(":memory:", environment=environment, connector=lambda *_, **__: self.connection)
        store = guarded(sqlite, process, self)
        if process is self._outside:
            self.store = store
        durably = Durably(
            store,
            environment=environment,
            worker=worker,
            jobs=self._jobs,
            resources=self._resources,
            stale_threshold=LEASE,
            heartbeat_interval=HEARTBEAT,
            polling_interval=POLLING,
        )
        self.witness.listen(durably, process)
        return durably

    async def _live(self, process: Process) -> None:
        durably = self._instance(process, worker=True)
        try:
            await durably.start()
        except StoreError:
            # A program that cannot start ends, and its supervisor starts it again.
            self.witness.note(process.name, "could not start")
            self._afflict(process, "kill", 0.0)
        except DurablyError as error:
            # No restart helps.
            self._obstacle = error
            self._passage.give_up()
        self._instances[process] = durably
        await never()

    # What happens to them

    async def before(self, process: Process, verb: str, args: Sequence[Any]) -> Word:
        """A process is about to say something to its store."""
        word = Word(len(self.words), process.name, verb, about(verb, args))
        if process.is_immune:
            return word
        self.words.append(word)
        if len(self.words) > MOST_WORDS:
            self.witness.accuse(f"{MOST_WORDS:,} words to the store, and no end")
            self.finish()
        self.witness.said(process, word, args)
        for overhear in self.overhearing:
            overhear(process, word, args)
        if process.is_dead:
            await never()
        await self._strike(process, word, "before")
        return word

    async def after(self, process: Process, word: Word, args: Sequence[Any], answer: object) -> None:
        """The store has carried it out."""
        word.has_moved = has_moved(word.verb, args, answer)
        self.witness.answered(process, word, args, answer)
        if word.has_moved:
            if word.verb != "renew":
                self._passage.moved()
            self._ring(process)
            self._passage.look()
        if not process.is_immune:
            await self._strike(process, word, "after")

    def watches(self, process: Process, changed: Callable[[], None]) -> None:
        """A process wants to be told when another one has written something."""
        self._listeners[process] = changed

    def _ring(self, writer: Process) -> None:
        for process, changed in self._listeners.items():
            if process is writer or process.is_dead or process in self._rung:
                continue
            self._rung.add(process)

            def ring(process: Process = process, changed: Callable[[], None] = changed) -> None:
                self._rung.discard(process)
                changed()

            self.loop.call_later(NEWS, ring, context=_context_of(process))

    async def _strike(self, process: Process, word: Word, moment: Moment) -> None:
        fault = self._by_word.pop((word.number, moment), None)
        if fault is None:
            return
        self._tell(process, fault.words(word.about))
        match fault.kind:
            case "kill" | "pause" | "skew":
                self._afflict(process, fault.kind, fault.seconds)
                if process.is_dead:
                    await never()
                await asyncio.sleep(0)
            case "error" | "busy" | "full":
                raise trouble(fault.kind)
            case "hang":
                await asyncio.sleep(fault.seconds)

    def _turning(self, process: Process) -> None:
        fault = self._by_word.pop((self._turns, "turn"), None)
        self._turns += 1
        match fault:
            case Fault(kind="kill" | "pause" | "skew" as kind):
                self._tell(process, fault.words(""))
                self._afflict(process, kind, fault.seconds)
            case _:
                pass

    def _tell(self, process: Process, words: str) -> None:
        self.struck.append(f"{process.name} {words}")
        self.witness.note(process.name, f"** {words}")

    def _asleep(self, seconds: float) -> float:
        return self._passage.jump(seconds)

    def _latency(self) -> float:
        return self._random.uniform(*LATENCY)


def _context_of(process: Process) -> Context:
    context = Context()
    context.run(current_process.set, process)
    return context


async def _leave(process: Process, durably: Durably, drain: float) -> None:
    try:
        await durably.stop(drain=drain)
        await durably.close()
    finally:
        process.kill()
