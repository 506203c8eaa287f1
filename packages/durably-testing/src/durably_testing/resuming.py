"""Resuming present code from some checkpoints of a recorded history."""

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from durably import (
    JobDefinition,
    Run,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunEvent,
    RunFailed,
    Step,
    StepReplayed,
    StepStarted,
)
from durably.spi import ClaimRequest, Continued, Lease, NewRun, Notes, StepRecord, Wait
from durably_testing.boundary import Word
from durably_testing.effects import EffectLedger
from durably_testing.environment import EPOCH
from durably_testing.history import History, RecordedStep
from durably_testing.loop import outside_of_loops
from durably_testing.processes import Process
from durably_testing.world import LEASE, World

RECORDER = "the recorded history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """How far the present code came."""

    next: RecordedStep | None
    """What it came to that is not to be executed: a step of the record, or one whose end is given."""
    run: Run
    steps: Sequence[Step]
    met: frozenset[str]
    """The checkpoints that it used."""
    executed: Sequence[str]
    """Steps whose bodies began: the record does not have them."""
    violations: Sequence[str]
    reason: str
    """Why the run has not ended, if it has not and nothing was come to."""


def resume(
    jobs: Iterable[JobDefinition[Any, Any]],
    history: History,
    kept: Sequence[RecordedStep],
    *,
    stop_at: Collection[str],
    resources: Iterable[Callable[..., object]] = (),
) -> Resumed:
    """Let a worker with the present code claim a run that has these checkpoints.

    It goes on until it comes to one of `stop_at`, which is not executed, or to its end.
    """
    return outside_of_loops(partial(_resume, jobs, history, kept, stop_at, resources))


def _resume(
    jobs: Iterable[JobDefinition[Any, Any]],
    history: History,
    kept: Sequence[RecordedStep],
    stop_at: Collection[str],
    resources: Iterable[Callable[..., object]],
) -> Resumed:
    world = World(jobs, resources=resources, effects=EffectLedger(), is_deterministic=False)
    try:
        world.do(_recorded(world, history, kept))
        watch = _Watch(world, history.run_id, stop_at)
        world.witness.hearers.append(watch.heard)
        world.overhearing.append(watch.overheard)
        world.start_worker()
        world.rest()
        run, steps = world.do(_look(world, history.run_id))
        is_over = watch.came_to is not None or run.is_terminal or watch.has_continued
        return Resumed(
            next=watch.came_to,
            run=run,
            steps=steps,
            met=frozenset(watch.met),
            executed=tuple(watch.executed),
            violations=world.violations(),
            reason="" if is_over else str(world.do(_explained(world, history.run_id))),
        )
    finally:
        world.end()


class _Watch:
    """Hears what becomes of one run, and ends the history where that is known."""

    def __init__(self, world: World, run_id: str, stop_at: Collection[str]) -> None:
        self._world = world
        self._run_id = run_id
        self._stop_at = stop_at
        self.came_to: RecordedStep | None = None
        self.has_continued: bool = False
        self.met: set[str] = set()
        self.executed: list[str] = []

    def heard(self, process: Process, event: RunEvent) -> None:
        """Take note of an event."""
        if event.run_id != self._run_id or self.came_to is not None:
            return
        match event:
            case StepStarted() if event.step_name in self._stop_at:
                # A worker begins no body past its lease: that is what keeps this one from being executed.
                process.stall += 2 * LEASE
                self._stop(process, RecordedStep(name=event.step_name))
            case StepStarted():
                self.executed.append(event.step_name)
            case StepReplayed():
                self.met.add(event.step_name)
            case RunContinued():
                self.has_continued = True
                self._world.finish()
            case RunCompleted() | RunFailed() | RunCancelled():
                self._world.finish()
            case _:
                pass

    def overheard(self, process: Process, word: Word, args: Sequence[Any]) -> None:
        """Take note of waits that are about to begin."""
        if (
            word.verb not in {"settle", "suspend"}
            or args[0].run_id != self._run_id
            or self.came_to is not None
        ):
            return
        for wait in cast("Sequence[Wait]", args[1]):
            if wait.step.name in self._stop_at:
                self._stop(process, RecordedStep(name=wait.step.name, kind=wait.step.kind))
                return

    def _stop(self, process: Process, step: RecordedStep) -> None:
        self.came_to = step
        process.kill()
        self._world.finish()


def _recorded(world: World, history: History, kept: Sequence[RecordedStep]) -> Coroutine[Any, Any, None]:
    """Store the run as the worker that left it had stored it."""

    async def store() -> None:
        text = json.dumps(history.input)
        await world.store.enqueue([NewRun(id=history.run_id, job_name=history.job_name, input_json=text)])
        for link in range(1, history.link):
            outcome = Continued(input_json=text, link=link)
            await world.store.finish(await _claimed(world, history), outcome, Notes())
        if kept:
            lease = await _claimed(world, history)
            for number, step in enumerate(kept, 1):
                await world.store.save_step(lease, _as_stored(step, number), Notes())
            await world.store.release([lease])

    return store()


async def _claimed(world: World, history: History) -> Lease:
    request = ClaimRequest(
        worker_id=RECORDER, jobs=[history.job_name], limit=1, lease_seconds=LEASE, max_crashes=5
    )
    (claim,) = (await world.store.claim(request)).claims
    return claim.lease


def _as_stored(step: RecordedStep, number: int) -> StepRecord:
    return StepRecord(
        name=step.name,
        status="completed" if step.error is None else "failed",
        position=number,
        attempt=step.attempt,
        sequence=number,
        started_at=EPOCH,
        completed_at=EPOCH,
        result_json=json.dumps(step.result) if step.error is None else None,
        error=step.error,
        kind=step.kind,
    )


async def _look(world: World, run_id: str) -> tuple[Run, Sequence[Step]]:
    run, steps = await asyncio.gather(world.client.get_run(run_id), world.client.get_steps(run_id))
    if run is None:
        raise LookupError(f"run {run_id} is gone")
    return run, steps


async def _explained(world: World, run_id: str) -> object:
    return await world.client.explain(run_id)
