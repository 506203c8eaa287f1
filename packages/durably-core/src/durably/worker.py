"""The part of a process that claims runs and executes them."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence

from durably.bus import Bus
from durably.doorbell import Doorbell
from durably.environment import Environment
from durably.errors import StoreError
from durably.events import Event, RunCancelled, WorkerError
from durably.execution import Execution
from durably.executor import LONGEST_HOLD, Executor
from durably.insistence import pause_after
from durably.jobs import Registry
from durably.keeper import Keeper
from durably.models import Run
from durably.options import WorkerOptions
from durably.resources import Resources
from durably.stores.base import Store
from durably.stores.values import Claim, ClaimRequest, NewWorker
from durably.tenure import Engine
from durably.watchdog import Watchdog

FEWEST_THREADS = 4
UNWINDING = 5.0
"""Seconds that interrupted jobs are given to unwind at a stop."""


class Worker:
    """Claims runs into slots, keeps their leases, and gives them back when stopped."""

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        environment: Environment,
        jobs: Registry,
        resources: Resources,
        work: Doorbell,
        options: WorkerOptions,
    ) -> None:
        self._engine = Engine(
            store=store,
            bus=bus,
            environment=environment,
            threads=environment.threads(max(options.slots, FEWEST_THREADS)),
            limits=options.limits,
            resources=resources,
            work=work,
            persist_logs=options.persist_logs,
            keep_results=options.keep_results,
        )
        self._store = store
        self._bus = bus
        self._environment = environment
        self._options = options
        self._id = environment.new_id()
        self._jobs = jobs
        self._resources = resources
        self._work = work
        self._executor = Executor(self._engine)
        self._executions: dict[Execution, asyncio.Task[None]] = {}
        self._keeper = Keeper(
            self._id,
            self._engine,
            options,
            executions=self._executions.keys,
            look=work.ring,
            tell_parked=self._tell_parked,
            introduce=self._introduce,
        )
        self._watchdog = Watchdog(self._id, self._engine, options, executions=self._executions.keys)
        self._loop_task: asyncio.Task[None] | None = None
        self._listed: tuple[str, ...] | None = None
        self._is_stopping = False
        self._has_unknown_claims = False
        self._losses = 0
        self._unsubscribe = bus.on("run:cancel", self._cancelled)

    # Its life

    async def start(self) -> None:
        """Open the resources, present itself and begin to claim. A second call changes nothing."""
        await self._take_up()
        if self._loop_task is None:
            self._loop_task = self._environment.spawn(self._claim_loop(), name="durably:claims")

    async def stop(self, *, drain: float) -> None:
        """Claim nothing more, let runs end for `drain` seconds, hand the others back, close the resources.

        Bounded: by `drain`, a few seconds for unwinding and for each resource, and the store's own patience.
        """
        try:
            await self._wind_down(drain)
        finally:
            await self._resources.close()

    async def _wind_down(self, drain: float) -> None:
        self._is_stopping = True
        self._work.ring()
        if self._loop_task is not None:
            await asyncio.wait({self._loop_task})
        await self._ended(within=drain)
        for execution in tuple(self._executions):
            execution.interrupt("stopping")
        await self._ended(within=UNWINDING)
        await self._part_from_the_rest()
        self._unsubscribe()
        self._watchdog.stop()
        await self._keeper.stop()
        self._engine.threads.close()
        if self._listed is not None:
            await self._tell_trouble("stop", self._store.remove_worker(self._id))

    async def process_one(self) -> bool:
        """Claim and execute one run to its end; answers whether there was one."""
        await self._take_up()
        self._tell_parked((await self._store.bury_dead(max_crashes=self._options.max_crashes)).parked)
        begun, _ = await self._claim(1)
        if begun:
            await asyncio.wait(begun)
        return bool(begun)

    async def _take_up(self) -> None:
        """Open the resources, then be on the list of workers."""
        await self._resources.open(self._jobs)
        try:
            await self._enlist()
        except BaseException:
            if self._listed is None:
                await self._resources.close()
            raise

    async def _enlist(self) -> None:
        """Be on the list of workers, with the jobs it knows by now."""
        names = self._jobs.names()
        if self._listed == names:
            return
        await self._introduce()
        if self._listed is None:
            self._keeper.start()
            self._watchdog.start()
        self._listed = names

    async def _introduce(self) -> None:
        await self._store.add_worker(
            NewWorker(
                id=self._id,
                host=self._environment.host(),
                pid=self._environment.process_id(),
                slots=self._options.slots,
                jobs=self._jobs.names(),
            )
        )

    # Claiming

    async def _claim_loop(self) -> None:
        failures = 0
        while not self._is_stopping:
            rings = self._work.rings
            pause = self._options.polling_interval
            room = self._room()
            if room:
                try:
                    _, wake_in = await self._claim(room)
                except Exception as error:  # noqa: BLE001 - the loop must not die
                    failures += 1
                    self._has_unknown_claims = True
                    self._bus.publish(WorkerError(context="claim", error=error))
                    # Not cut short by the bell: trouble is never asked twice without a pause.
                    await self._environment.sleep(pause_after(failures, self._environment))
                    continue
                failures = 0
                if wake_in is not None:
                    pause = min(pause, wake_in)
            await self._work.wait(rings, seconds=pause)

    def _room(self) -> int:
        # Beside a run that may be what kills workers, nothing new is begun (S26).
        if any(execution.is_suspect for execution in self._executions):
            return 0
        return max(0, self._options.slots - len(self._executions))

    async def _claim(self, limit: int) -> tuple[list["asyncio.Task[None]"], float | None]:
        """Claim and begin up to `limit` runs; answers their tasks and when to look again."""
        await self._enlist()
        if self._has_unknown_claims:
            # A claim whose answer was an error may have been committed all the same.
            await self._store.disown(self._id, [item.lease for item in tuple(self._executions)])
            self._has_unknown_claims = False
        # Measured from before the claim was sent: our idea of the lease's end is never the later.
        deadline = self._environment.monotonic() + self._options.lease_seconds
        claimed = await self._store.claim(
            ClaimRequest(
                worker_id=self._id,
                jobs=self._jobs.names(),
                limit=limit,
                lease_seconds=self._options.lease_seconds,
                max_crashes=self._options.max_crashes,
            )
        )
        self._tell_parked(claimed.parked)
        return [self._begin(claim, deadline) for claim in claimed.claims], claimed.wake_in

    def _begin(self, claim: Claim, deadline: float) -> "asyncio.Task[None]":
        run_id = claim.run.id
        earlier = [item for item in self._executions if item.run.id == run_id]
        for execution in earlier:
            execution.interrupt("lost")
            # Also of one that has ended, and does not know yet whether its outcome was written: it was,
            # or there were no claim.
            execution.interruption = "lost"
        execution = Execution(
            claim,
            self._engine,
            deadline=deadline,
            journal_filled=self._keeper.note_soon,
            cleared=self._work.ring,
        )
        bodies = [item.root for item in earlier if item.root is not None]
        task = self._environment.spawn(self._carry(execution, bodies), name=f"durably:run:{run_id}")
        self._executions[execution] = task
        return task

    async def _carry(self, execution: Execution, earlier: "Sequence[asyncio.Task[object]]") -> None:
        run = execution.run
        if earlier:
            # Its lease ran out under it, here: two bodies of one run must not execute side by side.
            await asyncio.wait(earlier, timeout=UNWINDING)
        try:
            await self._executor.carry(execution, self._jobs.require(run.job_name))
        except Exception as error:  # noqa: BLE001 - the worker must live on
            # Only a bug of ours comes here.
            execution.interruption = "lost"
            execution.report("execution", error)
        try:
            if execution.interruption == "lost":
                await self._after_a_loss()
            else:
                self._losses = 0
        finally:
            del self._executions[execution]
            self._work.ring()

    async def _after_a_loss(self) -> None:
        """See that the run is handed back where it is still ours in the store, but not at once.

        What made us lose it may strike again as soon as it is claimed: the slot stays taken for a
        pause that grows with the losses in a row.
        """
        self._losses += 1
        if not self._is_stopping:
            await self._environment.sleep(pause_after(self._losses, self._environment))
        self._has_unknown_claims = True

    def _tell_parked(self, runs: Iterable[Run]) -> None:
        """Tell of runs that were failed because they kept killing their workers."""
        for run in runs:
            if run.error is not None:
                self._engine.tell_failed(run, run.error)

    def foreign_change(self) -> None:
        """Another process has written something."""
        self._work.ring()
        self._keeper.check_leases_soon()

    # Ending

    def _cancelled(self, event: Event) -> None:
        if isinstance(event, RunCancelled):
            for execution in self._executions:
                if execution.run.id == event.run_id:
                    execution.interrupt("cancelled")

    async def _ended(self, *, within: float) -> None:
        tasks = set(self._executions.values())
        if tasks:
            await asyncio.wait(tasks, timeout=within)

    async def _part_from_the_rest(self) -> None:
        """Jobs that swallow their cancellation, and threads that nobody can end, are held (S25).

        What the store says is ours beside them, we have lost in some trouble: it is handed back.
        """
        rest = [execution.lease for execution in self._executions]
        if rest:
            await self._tell_trouble("stop", self._store.hold(rest, seconds=LONGEST_HOLD))
        if self._listed is not None:
            await self._tell_trouble("stop", self._store.disown(self._id, rest))

    async def _tell_trouble(self, context: str, call: Coroutine[object, object, None]) -> None:
        try:
            await call
        except StoreError as error:
            self._bus.publish(WorkerError(context=context, error=error))
