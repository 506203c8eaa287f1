"""One history: the real engine and the real store under simulated time, with faults from a plan."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context, copy_context
from random import Random
from typing import Any, TypeAlias

from durably import (
    Durably,
    JobDefinition,
    LogEntry,
    Run,
    Step,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from durably.spi import SqliteStore
from durably_testing.boundary import Word, about, guarded, has_moved, never
from durably_testing.database import SharedConnection, borrow_database, give_back
from durably_testing.effects import EffectLedger
from durably_testing.environment import EPOCH, SimEnvironment
from durably_testing.faults import Fault, Moment, Setting
from durably_testing.loop import SimLoop
from durably_testing.oracle import violations
from durably_testing.processes import Process, current_process
from durably_testing.realworld import guard_the_real_world
from durably_testing.witness import Witness

Meanwhile: TypeAlias = Callable[[Durably, str], Awaitable[object]]
"""What the outside does while a run is executed: called with an instance that no fault strikes, and
the run's id."""

LEASE = 12.0
HEARTBEAT = 5.0
POLLING = 60.0
RESTART = 1.0
"""Seconds until a killed worker's place is taken."""
NEWS = 0.02
"""Seconds until a process notices that another one has written something."""
AFTERGLOW = 2.0
"""Seconds after the end and after the last pause, in which zombies may show themselves."""
SWEEPS = 120.0
"""Seconds for which workers may find what slipped, where nothing at all is due any more."""
MOST_WORDS = 100_000
"""Words to the store in one history."""
LATENCY = (0.0002, 0.003)
"""Seconds that the store takes for a batch: from, to."""

_UNFINISHED = "SELECT 1 FROM durably_runs WHERE status IN ('pending', 'running', 'waiting') LIMIT 1"
_ACTIVE = """SELECT 1 FROM durably_runs WHERE status = 'running' UNION ALL
SELECT 1 FROM durably_runs WHERE ready = 1 LIMIT 1"""
_NEXT = "SELECT min(timer_at) FROM durably_runs WHERE timer_at IS NOT NULL"


class World:
    """Everything that exists in one history.

    Args:
        jobs: What the workers know.
        setting: The plan, the number of workers and the seed.
        effects: The ledger.
        horizon: Virtual seconds without any news after which whatever has not ended is stuck.
        is_deterministic: Whether jobs must use every checkpoint they left.
    """

    def __init__(
        self,
        jobs: Iterable[JobDefinition[Any, Any]],
        setting: Setting,
        *,
        effects: EffectLedger,
        horizon: float,
        is_deterministic: bool,
    ) -> None:
        guard_the_real_world()
        self._jobs = tuple(jobs)
        self._setting = setting
        self._horizon = horizon
        self._random = Random(setting.seed)
        self._by_word = {(fault.at, fault.moment): fault for fault in setting.plan}
        self._processes: list[Process] = []
        self._listeners: dict[str, Callable[[], None]] = {}
        self._rung: set[str] = set()
        self._turns = 0
        self._pending = 0
        self._pending_until = 0.0
        self._moved_at = 0.0
        self._lives: list[asyncio.Task[None]] = []
        self._script: asyncio.Task[object] | None = None
        self._over: asyncio.Event = asyncio.Event()
        self._outside: Context = Context()
        self.connection: SharedConnection = borrow_database()
        self.loop: SimLoop = SimLoop(turning=self._turning, asleep=self._asleep)
        self.words: list[Word] = []
        self.struck: list[str] = []
        self.effects: EffectLedger = effects
        effects.clear()
        self.witness: Witness = Witness(
            self.connection,
            effects,
            self.loop.time,
            has_skew=any(fault.kind == "skew" for fault in setting.plan),
            is_deterministic=is_deterministic,
        )
        self.client: Durably

    @property
    def turns(self) -> int:
        """How many turns the workers have taken."""
        return self._turns

    # Its life

    async def begin(self) -> None:
        """Start the client and the workers."""
        self._outside = copy_context()
        client = self._process("client", is_immune=True)
        # The client's calls are made by this task, which from here on belongs to it.
        current_process.set(client)
        self.client = self._instance(client, worker=False)
        await self.client.start()
        for number in range(self._setting.workers):
            self._start_worker(f"worker-{number + 1}")

    async def play(self, run_id: str, meanwhile: Meanwhile | None) -> None:
        """Let the history go on until every run has ended and every zombie has shown itself."""
        if meanwhile is not None:
            self._script = self.loop.create_task(_done(meanwhile(self.client, run_id)))
            self._script.add_done_callback(lambda _: self._look())
        self._look()
        await self._over.wait()
        if self._script is not None:
            if not self._script.done():
                self.witness.accuse("what happens meanwhile has not come to its end")
                self._script.cancel()
            elif (error := self._script.exception()) is not None:
                raise error
        await asyncio.sleep(max(0.0, self._pending_until - self.loop.time()) + AFTERGLOW)
        await self._testify()

    async def _testify(self) -> None:
        for run in await self.client.get_runs(limit=1000):
            if not run.is_terminal:
                reason = await self.client.explain(run.id)
                self.witness.accuse(f"run {run.id} of {run.job_name} never ended: {reason}")
        self.witness.testify()
        for text in violations(self.connection):
            self.witness.accuse(text)
        for process in self._processes:
            for text in dict.fromkeys(process.accusations):
                self.witness.accuse(text)

    async def look_at(self, run_id: str) -> tuple[Run, Sequence[Step], Sequence[LogEntry]]:
        """The run as it stands, with its steps and its log."""
        run = await self.client.get_run(run_id)
        if run is None:
            raise LookupError(f"run {run_id} is gone")
        return run, await self.client.get_steps(run_id), await self.client.get_logs(run_id)

    def end(self) -> None:
        """Let everybody die, and close what is left."""
        for process in self._processes:
            process.kill()
        self.loop.end()
        give_back(self.connection)

    # Processes

    def _process(self, name: str, *, is_immune: bool = False) -> Process:
        process = Process(name, 1000 + len(self._processes), is_immune=is_immune)
        self._processes.append(process)
        return process

    def _instance(self, process: Process, *, worker: bool) -> Durably:
        environment = SimEnvironment(process, self._random, self._latency)
        store = SqliteStore(":memory:", environment=environment, connector=lambda *_, **__: self.connection)
        durably = Durably(
            guarded(store, process, self),
            environment=environment,
            worker=worker,
            jobs=self._jobs,
            stale_threshold=LEASE,
            heartbeat_interval=HEARTBEAT,
            polling_interval=POLLING,
        )
        self.witness.listen(durably, process)
        return durably

    def _start_worker(self, name: str) -> None:
        process = self._process(name)
        context = self._outside.copy()
        context.run(current_process.set, process)
        self._lives.append(self.loop.create_task(self._live(process), context=context))

    async def _live(self, process: Process) -> None:
        durably = self._instance(process, worker=True)
        try:
            await durably.start()
        except StoreError:
            # A program that cannot start ends, and its supervisor starts it again.
            self.witness.note(process.name, "could not start")
            process.kill()
            self._replace(process)
        await never()

    def _replace(self, process: Process) -> None:
        self._later(RESTART, lambda: self._start_worker(f"{process.name}'"))

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        """Have the world do something, whatever becomes of the process that is executing now."""
        self._pending += 1
        self._pending_until = max(self._pending_until, self.loop.time() + seconds)

        def happen() -> None:
            self._pending -= 1
            call()

        self.loop.call_later(seconds, happen, context=self._outside)

    # What happens to them

    async def before(self, process: Process, verb: str, args: Sequence[Any]) -> Word:
        """A process is about to say something to its store."""
        word = Word(len(self.words), process.name, verb, about(verb, args))
        if process.is_immune:
            return word
        self.words.append(word)
        if len(self.words) > MOST_WORDS:
            self.witness.accuse(f"{MOST_WORDS:,} words to the store, and no end")
            self._over.set()
        self.witness.said(process, word, args)
        await self._strike(process, word, "before")
        return word

    async def after(self, process: Process, word: Word, args: Sequence[Any], answer: object) -> None:
        """The store has carried it out."""
        word.has_moved = has_moved(word.verb, args, answer)
        self.witness.answered(process, word, args, answer)
        if word.has_moved:
            if word.verb != "renew":
                self._moved_at = self.loop.time()
            self._ring(process)
            self._look()
        if not process.is_immune:
            await self._strike(process, word, "after")

    def watches(self, process: Process, changed: Callable[[], None]) -> None:
        """A process wants to be told when another one has written something."""
        self._listeners[process.name] = changed

    def _ring(self, writer: Process) -> None:
        for process in self._processes:
            changed = self._listeners.get(process.name)
            if changed is None or process is writer or process.is_dead or process.name in self._rung:
                continue
            self._rung.add(process.name)
            context = self._outside.copy()
            context.run(current_process.set, process)

            def ring(name: str = process.name, changed: Callable[[], None] = changed) -> None:
                self._rung.discard(name)
                changed()

            self.loop.call_later(NEWS, ring, context=context)

    async def _strike(self, process: Process, word: Word, moment: Moment) -> None:
        fault = self._by_word.pop((word.number, moment), None)
        if fault is None:
            return
        self._tell(process, fault.words(word.about))
        match fault.kind:
            case "kill" | "pause" | "skew":
                self._stop(process, fault)
                if process.is_dead:
                    await never()
                await asyncio.sleep(0)
            case "error":
                raise StoreUnavailableError("the store could not be reached (simulated)")
            case "busy":
                raise StoreBusyError("another connection keeps the database locked (simulated)")
            case "full":
                raise StoreFullError("no room left on the disk (simulated)")
            case "hang":
                await asyncio.sleep(fault.seconds)

    def _turning(self, process: Process) -> None:
        fault = self._by_word.pop((self._turns, "turn"), None)
        self._turns += 1
        if fault is not None:
            self._tell(process, fault.words(""))
            self._stop(process, fault)

    def _stop(self, process: Process, fault: Fault) -> None:
        if fault.kind == "kill":
            process.kill()
            self._replace(process)
        elif fault.kind == "pause":
            process.pause()
            self._later(fault.seconds, process.resume)
        else:
            process.skew += fault.seconds

    def _tell(self, process: Process, words: str) -> None:
        self.struck.append(f"{process.name} {words}")
        self.witness.note(process.name, f"** {words}")

    # Time

    def _latency(self) -> float:
        return self._random.uniform(*LATENCY)

    def _look(self) -> None:
        is_done = self._script is None or self._script.done()
        if is_done and self.connection.execute(_UNFINISHED).fetchone() is None:
            self._over.set()

    def _asleep(self, seconds: float) -> float:
        """How far time goes on: to the next timer, or, while no worker has anything to do, to what is due next."""
        if seconds <= NEWS:
            return seconds
        # Whoever ended the last run may have died of it, and told nobody.
        self._look()
        if self._pending or self._over.is_set():
            return seconds
        now = self.loop.time()
        is_active = self.connection.execute(_ACTIVE).fetchone() is not None
        events = () if is_active else (self._next_due(), self.loop.next_immune_timer())
        coming = [instant for instant in events if instant is not None]
        if now - self._moved_at > (self._horizon if is_active or coming else SWEEPS):
            self._over.set()
        return max(seconds, min(coming) - now) if coming else seconds

    def _next_due(self) -> float | None:
        """When the next run falls due, on the loop's clock."""
        due_at: float | None = self.connection.execute(_NEXT).fetchone()[0]
        return None if due_at is None else due_at - EPOCH


async def _done(work: Awaitable[object]) -> object:
    return await work
