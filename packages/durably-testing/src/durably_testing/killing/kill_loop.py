"""`KillLoop`: kills the workers of a program again and again, and looks at what is left."""

import asyncio
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

from durably import Durably, RealEnvironment, Run, RunStatus, Seconds
from durably_testing.errors import NothingTestedError, PromiseBroken
from durably_testing.killing.dooms import Doom, dooms
from durably_testing.killing.evidence import (
    SURVIVOR,
    Deed,
    Evidence,
    Kill,
    KillMoment,
    Line,
    What,
    contradictions,
    effects,
)
from durably_testing.killing.mortals import Brief, Fate
from durably_testing.killing.warden import GIVING_UP, KillLoopError, Mortal, WardenProcess
from durably_testing.oracle import invariant_triggers, violations
from durably_testing.removals import losses, remember_removals

EVIDENCE = "evidence.jsonl"
UNFINISHED: tuple[RunStatus, ...] = ("pending", "running", "waiting")
PATIENCE = 1.0
"""Seconds for which a worker's moment may keep it waiting before it is killed all the same."""
MOST_DEATHS = 2
"""Deaths that a run may meet in a row without a new checkpoint before the next worker lets it go on."""
MOST_WORKERS = 3
LOOK_EVERY = 0.01
GRACE = 30.0
"""Seconds for the healthy worker's graceful stop."""


class KillLoop:
    """Executes runs in worker processes and kills these again and again; then sees that all is well.

        async with KillLoop(app, tmp_path, kills=20) as loop:
            handle = loop.durably.register(order)
            for number in range(10):
                await handle.trigger(Order(id=number))
        assert loop.effects["charge"] <= 10 + loop.crashes

    In the block `loop.durably` triggers and looks, and executes nothing: it is the process that
    survives. Once the last kill has struck one healthy worker goes on; at the block's end
    the rest of the kills strike, and every run has to end. Then the promises are checked: each run whose trigger was acknowledged is
    there; no committed checkpoint was changed, and no step's body began again after its commit; no
    run was claimed twice as one generation; what had ended stayed as it was.

    The signals are real, so their timing is the machine's: a `seed` repeats the choice of moments, not
    a failure. For that, and for speed, use `survives_crashes` wherever the job allows it.

    A run that two workers died with goes on to its next checkpoint before a third one dies, so that the
    engine does not take it for a run that kills its workers (`max_crashes`).

    Args:
        app: Makes the instance from its database, `sqlite:///…`, with its jobs: a function at the top
            level of a module. It is called in each worker and in the surviving process.
        folder: Where the database and the evidence are kept: an empty one, as pytest's `tmp_path`.
        kills: How many workers are killed by SIGKILL. Fewer, if every run has ended before.
        pauses: How many are paused by SIGSTOP, for `pause`, and go on unaware.
        pause: How long a pause lasts; more than the app's `stale_threshold`, or nothing is lost.
        workers: How many work at a time, 1 to 3; those that are paused aside.
        moments: When they die; see `KillMoment`.
        seed: Of the choices of moments.
        removes: Whether the app removes runs that have ended, by `delete_run`, `purge_runs` or `retain`.
            Otherwise each one that is gone is a loss, but for those that `loop.durably` deletes.
        within: How long the healthy worker may take to end every run.
        warm: Fork workers from a process that has imported the app's module. False starts each of
            them afresh, in 0.3 to 0.6 s: for modules that open connections while they are imported.

    Raises:
        ValueError: An argument makes no sense; says why.
    """

    def __init__(
        self,
        app: Callable[[str], Durably],
        folder: Path,
        /,
        *,
        kills: int = 10,
        pauses: int = 0,
        pause: Seconds = 2.0,
        workers: int = 1,
        moments: Sequence[KillMoment] = get_args(KillMoment),
        seed: int = 0,
        removes: bool = False,
        within: float = 30.0,
        warm: bool = True,
    ) -> None:
        if os.name != "posix":
            raise ValueError("KillLoop kills by POSIX signals, which this system has none of")
        if kills < 0 or pauses < 0 or kills + pauses == 0:
            raise ValueError("kills and pauses are numbers of workers, at least one of them above 0")
        if not 1 <= workers <= MOST_WORKERS:
            raise ValueError(f"workers must be 1 to {MOST_WORKERS}, not {workers}")
        if not moments or not set(moments) <= set(get_args(KillMoment)):
            raise ValueError(f"moments are any of {', '.join(get_args(KillMoment))}")
        database = folder / "runs.db"
        self.durably: Durably = app(f"sqlite:///{database}")
        """Triggers and looks, in the process that survives."""
        self.kills: list[Kill] = []
        """What has struck so far, in order."""
        self.runs: Sequence[Run] = ()
        """All runs as they ended; after the block."""
        self._environment = RealEnvironment()
        self._database = database
        self._evidence = Evidence(folder / EVIDENCE)
        self._brief = Brief.of(app, f"sqlite:///{database}", folder / EVIDENCE, warm=warm)
        # Both from the block's beginning on.
        self._warden: WardenProcess
        self._killing: asyncio.Task[Mortal]
        self._dooms = dooms(kills, pauses, tuple(moments), random.Random(seed))
        self._pause = pause.total_seconds() if isinstance(pause, timedelta) else pause
        self._removes = removes
        self._within = within
        self._workers = workers
        self._patience = PATIENCE + (self._pause if pauses else 0)
        self._open = AsyncExitStack()
        self._acknowledged: dict[str, None] = {}
        self._deaths: Counter[str] = Counter()
        self._digested = 0

    @property
    def effects(self) -> Mapping[str, int]:
        """How often each step's body began, and each `note_effect` was called, by name."""
        return effects(self._evidence.lines())

    @property
    def crashes(self) -> int:
        """How many executions of runs were cut off, by all kills and pauses together."""
        return sum(len(kill.struck) for kill in self.kills)

    @property
    def is_over(self) -> bool:
        """Whether every kill and every pause has begun."""
        return not self._dooms

    async def __aenter__(self) -> Self:
        """Start to kill.

        Raises:
            KillLoopError: No worker can be started.
        """
        async with self._open as stack:
            stack.callback(self._evidence.close)
            stack.push_async_callback(self.durably.close)
            await self.durably.migrate()
            self._watch()
            self._warden = await WardenProcess.begin(self._brief)
            stack.push_async_callback(self._warden.close)
            # Whether a worker can start at all is not to be asked in the midst of dying ones.
            first = await self._warden.start_and_wait()
            self._warden.tell("end", first)
            await first.gone
            self._killing = self._environment.spawn(self._kill_and_heal(), name="killing")
            self._killing.add_done_callback(partial(_cut_off, asyncio.current_task()))
            stack.push_async_callback(_end, self._killing)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See everything through to its end, and judge it.

        Raises:
            PromiseBroken: One of the promises does not hold; names the kills, runs and steps.
            NothingTestedError: No kill met a run that was executing.
        """
        async with self._open:
            if _has_failed(self._killing):
                # Then it was this that has cancelled the block.
                if (owner := asyncio.current_task()) is not None:
                    owner.uncancel()
                self._killing.result()
            if error is None:
                found = await self._see_through()
                if found:
                    raise PromiseBroken(found, self._story(found))
                if not any(kill.struck for kill in self.kills):
                    raise NothingTestedError(
                        f"no kill met a run that was executing ({len(self.kills)} struck): trigger more runs, or longer ones"
                    )

    # Killing

    async def _kill_and_heal(self) -> Mortal:
        """See all the kills through; answers the healthy worker that comes after them."""
        try:
            async with asyncio.TaskGroup() as lives:
                for _ in range(self._workers):
                    lives.create_task(self._live_and_die(lives))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return await self._warden.start_and_wait()

    async def _live_and_die(self, lives: asyncio.TaskGroup) -> None:
        while self._dooms:
            if not await self._unfinished():
                await self._environment.sleep(LOOK_EVERY)
                continue
            if not self._dooms:
                # Another worker has taken the last one while this one looked.
                return
            doom = self._dooms.pop()
            mortal = await self._life(doom)
            if doom.deed == "kill":
                await self._is_killed(mortal)
            else:
                # The next worker comes while this one stands still.
                lives.create_task(self._wakes_up(mortal, doom))

    async def _life(self, doom: Doom) -> Mortal:
        """A worker's life until it is killed or paused."""
        starved = {run_id for run_id, deaths in self._deaths.items() if deaths >= MOST_DEATHS}
        moment = "any time" if starved else doom.moment
        fate = None
        if moment != "any time":
            fate = Fate(deed=doom.deed, moment=moment, count=doom.count)
        born = self._environment.monotonic()
        mortal = await self._warden.start(fate)
        if doom.in_its_start and moment == "any time" and not starved:
            await mortal.ends(within=doom.delay)
        else:
            await mortal.begins(within=GIVING_UP)
            await self._moment_comes(mortal, doom, starved, fate)
        if not mortal.has_ended:
            moment = "any time"
            self._warden.tell(doom.deed, mortal)
            await mortal.ends()
        await self._record(mortal, doom.deed, moment, self._environment.monotonic() - born)
        return mortal

    async def _moment_comes(self, mortal: Mortal, doom: Doom, starved: set[str], fate: Fate | None) -> None:
        if starved:
            await self._progress(starved, mortal)
        elif fate is not None:
            await mortal.ends(within=self._patience)
        else:
            patience = self._environment.monotonic() + self._patience
            while not (mortal.has_ended or self._evidence.doing(mortal.number)):
                await self._environment.sleep(LOOK_EVERY)
                if self._environment.monotonic() >= patience:
                    break
            await mortal.ends(within=doom.delay)

    async def _progress(self, starved: set[str], mortal: Mortal) -> None:
        """Wait until these runs have a new checkpoint, or need none any more."""
        while starved and not mortal.has_ended:
            await self._environment.sleep(LOOK_EVERY)
            self._digest()
            starved &= self._deaths.keys() & {
                run.id for run in await self.durably.get_runs(status=UNFINISHED)
            }

    async def _wakes_up(self, zombie: Mortal, doom: Doom) -> None:
        await self._environment.sleep(self._pause)
        self._warden.tell("wake", zombie)
        # What a zombie does, it does right away.
        await zombie.dies(within=doom.delay)
        self._warden.tell("kill", zombie)
        await self._is_killed(zombie)

    async def _is_killed(self, mortal: Mortal) -> None:
        if (code := await mortal.gone) != -signal.SIGKILL:
            raise KillLoopError(f"worker {mortal.number} ended by itself, with {code}")

    async def _record(self, mortal: Mortal, deed: Deed, moment: KillMoment, age: float) -> None:
        struck = self._evidence.doing(mortal.number)
        self._digest()
        self.kills.append(
            Kill(
                number=len(self.kills) + 1,
                worker=mortal.number,
                pid=mortal.started.result(),
                signal="SIGKILL" if deed == "kill" else "SIGSTOP",
                moment=moment,
                age=age,
                struck=struck,
            )
        )
        for item in struck:
            if deed == "kill":
                self._deaths[item.run_id] += 1
            await self._see(item.run_id)

    async def _see(self, run_id: str) -> None:
        """Write down which of the run's checkpoints are committed."""
        run = await self.durably.get_run(run_id)
        if run is None:
            return
        # Of the generation before the look: until the lines are written others may have gone on, even as new.
        for step in await self.durably.get_steps(run_id, results=False):
            if step.status == "completed":
                self._write("seen", run_id, step.name, generation=run.lease_generation)

    def _digest(self) -> None:
        """Forget the deaths of runs that got on since."""
        lines = self._evidence.lines(after=self._digested)
        for line in lines:
            if line.what in {"step saved", "run left", "cancelled"}:
                self._deaths.pop(line.run_id, None)
        self._digested += len(lines)

    # Watching

    def _watch(self) -> None:
        with closing(sqlite3.connect(self._database)) as connection:
            invariant_triggers(connection)
            remember_removals(connection)
        acknowledged = self._acknowledged
        self.durably.on("run:trigger", lambda event: acknowledged.setdefault(event.run_id))
        self.durably.on("run:delete", lambda event: acknowledged.pop(event.run_id, None))
        self.durably.on("run:cancel", lambda event: self._write("cancelled", event.run_id))

    def _write(self, what: What, run_id: str, name: str = "", *, generation: int = 0) -> None:
        self._evidence.write(
            Line(what=what, worker=SURVIVOR, run_id=run_id, name=name, generation=generation)
        )

    async def _unfinished(self) -> bool:
        return await self.durably.count_runs(status=UNFINISHED, cap=1) > 0

    # Judging

    async def _see_through(self) -> list[str]:
        """Let the kills strike and the runs end; answers what should not be."""
        while self._dooms and await self._unfinished():
            await self._environment.sleep(LOOK_EVERY)
        self._dooms.clear()
        found = await self._heal()
        self.runs = await self.durably.get_runs()
        continued = {run.id for run in self.runs if run.link > 1}
        found += contradictions(self._evidence.lines(), continued=continued)
        there = {run.id for run in self.runs}
        with closing(sqlite3.connect(self._database)) as connection:
            found += losses(connection, acknowledged=self._acknowledged, there=there, removes=self._removes)
            found += violations(connection)
        return found

    async def _heal(self) -> list[str]:
        """Let the healthy worker end every run; answers what did not end."""
        environment, healer = self._environment, await self._killing
        deadline = environment.monotonic() + self._within
        while await self._unfinished():
            if healer.gone.done():
                return [f"the healthy worker {healer.number} died by itself, with {healer.gone.result()}"]
            if environment.monotonic() >= deadline:
                return [
                    f"run {run.id} did not end within {self._within:g} s of health: {await self.durably.explain(run.id)}"
                    for run in await self.durably.get_runs(status=UNFINISHED)
                ]
            await environment.sleep(LOOK_EVERY)
        self._warden.tell("end", healer)
        await asyncio.wait({healer.gone}, timeout=GRACE)
        if not healer.gone.done():
            return [f"the healthy worker {healer.number} did not stop within {GRACE:g} s"]
        if healer.gone.result() != 0:
            return [f"the healthy worker {healer.number} stopped with exit code {healer.gone.result()}"]
        return []

    def _story(self, found: Sequence[str]) -> str:
        """The kills that struck the runs in question; all of them, if none did."""
        named = [
            kill for kill in self.kills if any(item.run_id in text for item in kill.struck for text in found)
        ]
        return "\n".join(map(str, named or self.kills))


def _has_failed(killing: "asyncio.Task[Mortal]") -> bool:
    return killing.done() and not killing.cancelled() and killing.exception() is not None


def _cut_off(owner: "asyncio.Task[object] | None", killing: "asyncio.Task[Mortal]") -> None:
    """End the block when the killing itself has failed: what it waits for will not happen."""
    if owner is not None and _has_failed(killing):
        owner.cancel()


async def _end(task: "asyncio.Task[Mortal]") -> None:
    task.cancel()
    await asyncio.wait({task})
