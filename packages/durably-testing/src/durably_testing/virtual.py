"""`VirtualDurably`: an instance for tests, whose time passes when a test says so."""

import asyncio
from math import inf
from os import PathLike

from typing_extensions import Unpack, override

from durably import ConfigurationError, Durably, DurablyOptions, StepEvent, StepStarted, StoreError
from durably_testing.clock import Span, VirtualClock, seconds_of
from durably_testing.effects import EffectLedger
from durably_testing.errors import PromiseBroken, SimulationError
from durably_testing.faulty import FaultyStore
from durably_testing.oracle import invariant_triggers, violations
from durably_testing.surroundings import VirtualEnvironment, VirtualStore, heard

AGES = 10 * 365 * 86_400.0
"""Seconds of a lease: nobody is to lose a run because a test moves the clock."""
MOST_EXECUTIONS = 10_000
"""Of one `drain` without a bound."""
MOST_TROUBLES = 10
"""How often a worker that cannot ask for work is started again."""
CALM = 12
"""Turns of the loop without a sign of the engine, after which it waits for something."""
GLANCE = 1.0
"""Virtual seconds by which the clock moves at a time while a run is executed: its naps are no longer."""
PATIENCE = 2.5
"""Virtual seconds without a sign of the engine, after which it must be the real world that it waits for."""
REAL_SECOND = 1.0
MICROSECOND = 1e-6

# What is due already has had its chance: its job is not known here.
_NEXT = "SELECT min(timer_at) FROM durably_runs WHERE timer_at > ?"


class VirtualDurably(Durably):
    """A `Durably` for tests: time passes when a test says so, and nothing is executed before `drain`.

    The engine and the store are the real ones, and jobs may do whatever they do in production. The
    timeouts of steps and of callers are counted by the real clock.

    Args:
        path: The database's file; default: in memory.
        clock: What time it is. Instances that share a file share this too.
        effects: Where the bodies of steps are counted, by the steps' names.
        **options: See `DurablyOptions`. A lease lasts for years, and there is no worker in the
            background unless `worker=True`.

    Raises:
        ConfigurationError: An option cannot be used.
    """

    def __init__(
        self,
        path: str | PathLike[str] = ":memory:",
        /,
        *,
        clock: VirtualClock | None = None,
        effects: EffectLedger | None = None,
        **options: Unpack[DurablyOptions],
    ) -> None:
        self.clock: VirtualClock = VirtualClock() if clock is None else clock
        self.effects: EffectLedger = EffectLedger() if effects is None else effects
        self._virtual = VirtualEnvironment(self.clock)
        self._rows = VirtualStore(path, self._virtual, self.clock)
        self.faults: FaultyStore = FaultyStore(self._rows, sleep=self._virtual.hang)
        """Where a test plans faults of the store."""
        self._path = path
        self._others: list[VirtualDurably] = []
        options["environment"] = self._virtual
        options.setdefault("worker", False)
        options.setdefault("stale_threshold", AGES)
        options.setdefault("heartbeat_interval", AGES / 4)
        options.setdefault("polling_interval", AGES)
        self._slots = options.setdefault("max_concurrent_runs", 10)
        super().__init__(heard(self.faults, self._virtual), **options)
        self.on("step:start", self._begun)
        for ending in ("step:complete", "step:fail", "step:retry", "step:cancel"):
            self.on(ending, self._ended)

    @override
    async def migrate(self) -> None:
        await super().migrate()
        if self._rows.connection is not None:
            invariant_triggers(self._rows.connection)

    @override
    async def close(self) -> None:
        for other in self._others:
            await other.close()
        await super().close()

    async def another(self, **options: Unpack[DurablyOptions]) -> "VirtualDurably":
        """Open a further instance on the same file, in the same time, as another process would.

        It has a connection, a worker and an environment of its own, and is closed with this one.

        Raises:
            ConfigurationError: This one is in memory, where nobody else can come.
        """
        if self._path == ":memory:":
            raise ConfigurationError("a database in memory has one instance; take the fixture durably_file")
        other = VirtualDurably(self._path, clock=self.clock, effects=self.effects, **options)
        self._others.append(other)
        await other.init()
        return other

    def verify(self) -> None:
        """Fail if a promise of the engine was broken, or if a planned fault never struck.

        The fixtures do so at the end of each test.

        Raises:
            PromiseBroken: One was; says which.
            NothingTestedError: A fault did not; says which.
        """
        connection = self._rows.connection
        broken = () if connection is None else violations(connection)
        if broken:
            raise PromiseBroken(broken, "(found by the triggers of invariant_triggers, and by its checks)")
        for instance in (self, *self._others):
            instance.faults.verify()

    async def drain(self, *, within: Span | None = None) -> int:
        """Execute what is due, and whatever falls due after it; answers how many executions that took.

        Time passes as it must: over sleeps, delays and the waits between attempts. It returns when
        nothing is left that time alone would wake. While a step's body executes the clock stands
        still; after a second it goes on, as fast as the real one.

        Args:
            within: Let so much time pass, beside what executions themselves take, and leave what falls
                due later alone; 0: execute what is due now.

        Raises:
            ConfigurationError, ResourceError: As `Durably.start`.
            StoreError: The store is in trouble again and again.
            SimulationError: There is no end to it; give `within`.
        """
        end = inf if within is None else self.clock.monotonic() + seconds_of(within)
        executed = 0
        while True:
            executed += await self._execute_what_is_due()
            if executed > MOST_EXECUTIONS and end == inf:
                raise SimulationError(
                    f"{executed:,} executions, and there is more to do: does a job go on for ever? "
                    "Say how long, e.g. drain(within='1d')"
                )
            pause = self._seconds_until_next()
            left = end - self.clock.monotonic()
            if pause > left or pause == inf:
                self.clock.advance(0 if end == inf else max(0.0, left))
                return executed
            self.clock.advance(pause)

    async def _execute_what_is_due(self) -> int:
        """Execute one run after another; a further one beside those that the real world holds up."""
        executed = troubles = signs = 0
        working: set[asyncio.Task[bool]] = set()
        may_claim = True
        while may_claim or working:
            if may_claim and len(working) < self._slots:
                working.add(self._virtual.spawn(self.process_one(), name="durably:drain"))
            may_claim = False
            await self._settle(working)
            ended = {task for task in working if task.done()}
            working -= ended
            for task in ended:
                error = task.exception()
                if isinstance(error, StoreError) and troubles < MOST_TROUBLES:
                    # A program that cannot ask for work is started again.
                    troubles += 1
                    await self.stop(drain=0)
                    may_claim = True
                elif task.result():
                    executed += 1
                    may_claim = True
            if working and not ended:
                may_claim = self._virtual.signs != signs
                if not may_claim:
                    await self._live(working)
            signs = self._virtual.signs
        self._virtual.bodies.clear()
        return executed

    async def _settle(self, working: "set[asyncio.Task[bool]]") -> None:
        """Return once one of them has ended, or the engine waits for nothing but the real world."""
        skipped = 0.0
        while True:
            moves = await self._moves()
            if any(task.done() for task in working):
                return
            if moves:
                skipped = 0.0
            elif self._virtual.bodies or skipped >= PATIENCE:
                return
            else:
                nap = self.clock.next_timer()
                glance = GLANCE if nap is None else min(nap, GLANCE)
                self.clock.advance(glance)
                skipped += glance

    async def _moves(self) -> bool:
        """Whether the engine shows a sign of life in the next turns of the loop."""
        signs = self._virtual.signs
        for _ in range(CALM):
            await asyncio.sleep(0)
            if self._virtual.signs != signs:
                return True
        return False

    async def _live(self, working: "set[asyncio.Task[bool]]") -> None:
        """Let real time pass until the engine shows a sign of life."""
        self._virtual.seen.clear()
        seen = asyncio.ensure_future(self._virtual.seen.wait())
        try:
            done, _ = await asyncio.wait(
                {seen, *working}, timeout=REAL_SECOND, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            seen.cancel()
        if not done:
            self.clock.advance(REAL_SECOND)

    def _seconds_until_next(self) -> float:
        if self._rows.connection is None:
            return inf
        now = self._virtual.now()
        due_at: float | None = self._rows.connection.execute(_NEXT, (now,)).fetchone()[0]
        return inf if due_at is None else max(MICROSECOND, due_at - now)

    def _begun(self, event: StepStarted) -> None:
        self.effects(event.step_name)
        self._virtual.bodies.add((event.run_id, event.step_name))
        self._virtual.sign()

    def _ended(self, event: StepEvent) -> None:
        self._virtual.bodies.discard((event.run_id, event.step_name))
        self._virtual.sign()
