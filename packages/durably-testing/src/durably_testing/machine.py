"""`DurableMachine`: whatever may happen to runs, in any order, as a hypothesis state machine."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from typing_extensions import override

from durably import (
    ConflictError,
    Durably,
    JobDefinition,
    Run,
    RunNotFoundError,
    TriggerOptions,
)
from durably_testing.acknowledged import Acknowledged
from durably_testing.effects import EffectLedger
from durably_testing.environment import EPOCH
from durably_testing.errors import PromiseBroken
from durably_testing.faults import Fault, Kind, Moment
from durably_testing.processes import Process
from durably_testing.profile import current_profile
from durably_testing.simulation import AnyJob, definition_of
from durably_testing.strategies import OPTIONS, inputs_for
from durably_testing.world import LEASE, World

T = TypeVar("T")

STEPS = 40
"""Rules in one example."""
MOST_EXAMPLES = 2_000
"""Hypothesis remembers each until the test ends, in a quarter of a megabyte."""
MOST_WORKERS = 4
MOST_SIGNALS = 1000
"""Signals that the end of an example sends, before it gives up on a job that waits for ever more."""


DURATIONS = st.sampled_from((0.005, 0.05, 0.5, 3.0, LEASE + 1, 60.0, 3600.0))
PAUSES = st.sampled_from((1.0, LEASE - 1, 3 * LEASE))
LEAPS = st.sampled_from((-25.0, -1.0, 1.0, 25.0))
DRAINS = st.sampled_from((0.0, 1.0, 25.0))
WORKERS = st.integers(0, MOST_WORKERS - 1)


@dataclass(frozen=True)
class Wish:
    """What to trigger."""

    job: str
    input: Any
    options: TriggerOptions


def _by(choose: "Callable[[DurableMachine], st.SearchStrategy[T]]") -> st.SearchStrategy[T]:
    """A strategy that depends on the machine as it stands."""
    return st.runner().flatmap(choose)


@cache
def _definitions(machine: "type[DurableMachine]", version: int) -> Sequence[JobDefinition[Any, Any]]:
    return tuple(definition_of(job) for job in (machine.jobs, *machine.versions)[version])


@cache
def _wishes(machine: "type[DurableMachine]", version: int) -> st.SearchStrategy[list[Wish]]:
    own = {definition_of(job): source for job, source in machine.inputs.items()}
    wishes = [
        st.builds(Wish, st.just(job.name), own[job] if job in own else inputs_for(job), machine.options)
        for job in _definitions(machine, version)
    ]
    return st.lists(st.one_of(wishes), min_size=1, max_size=3)


@cache
def _signals(machine: "type[DurableMachine]") -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of([st.tuples(st.just(name), source) for name, source in machine.signals.items()])


@cache
def _answers(machine: "type[DurableMachine]") -> st.SearchStrategy[Mapping[str, Any]]:
    return st.fixed_dictionaries(dict(machine.signals))


class DurableMachine(RuleBasedStateMachine):
    """Runs in a simulated world, and whatever may happen to them, in an order that hypothesis chooses.

        class Orders(DurableMachine):
            jobs = [order]

        TestOrders = Orders.TestCase

    Runs are triggered, cancelled, retried, deleted; workers start, stop, die, stall and are replaced by
    the next version; clocks jump; time passes. After each rule the promises of the engine are checked.
    At the end everything heals, and every run must end. Rules and invariants of your own are added as to
    every state machine; they are plain functions, and `self.do(…)` awaits for them.
    """

    jobs: ClassVar[Sequence[AnyJob[Any, Any]]] = ()
    """What is deployed at first."""
    versions: ClassVar[Sequence[Sequence[AnyJob[Any, Any]]]] = ()
    """What is deployed later, one after another."""
    inputs: ClassVar[Mapping[AnyJob[Any, Any], st.SearchStrategy[Any]]] = {}
    """Where a job's inputs come from; default: from its input type."""
    options: ClassVar[st.SearchStrategy[TriggerOptions]] = OPTIONS
    """What runs are triggered with."""
    signals: ClassVar[Mapping[str, st.SearchStrategy[Any]]] = {}
    """What is sent to runs that wait for these signals."""
    workers: ClassVar[int] = 2
    """How many there are at first."""
    effects: ClassVar[EffectLedger] = EffectLedger()
    """Where bodies of steps are counted, and whatever else the jobs note in it; cleared before each example."""
    resources: ClassVar[Sequence[Callable[..., object]]] = ()
    """Factories of what the jobs take by type, as in `simulate`: each worker opens its own when it starts."""
    deterministic: ClassVar[bool] = True
    """As in `simulate`."""

    if TYPE_CHECKING:
        TestCase: Any
        """The test: `TestOrders = Orders.TestCase`, so that pytest and unittest find it."""

    runs: ClassVar[Bundle[str]] = Bundle("runs")
    """The ids of all runs that were triggered, for rules of your own."""

    def __init__(self) -> None:
        super().__init__()
        self.version: int = 0
        """What is deployed: 0 for `jobs`, then as in `versions`."""
        self._answers: Mapping[str, Any] = {}
        self._known: set[str] = set()
        self.prepare()
        self._world = World(
            _definitions(type(self), 0),
            effects=self.effects,
            resources=self.resources,
            is_deterministic=self.deterministic,
        )
        self._told = Acknowledged(self._world.connection)
        for _ in range(self.workers):
            self._world.start_worker()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.TestCase.settings = settings(
            max_examples=min(current_profile().examples, MOST_EXAMPLES),
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.large_base_example,
                HealthCheck.filter_too_much,
            ],
        )

    # For rules of your own

    @property
    def durably(self) -> Durably:
        """An instance that no fault strikes, with the jobs that are deployed; it executes nothing."""
        return self._world.client

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something, while the world goes on: `self.do(self.durably.get_run(run))`."""
        return self._world.do(work)

    def prepare(self) -> None:
        """Called before each example; put the doubles of the outside world back to their beginning."""

    def check(self, run: Run) -> None:
        """Called with each run that is there at the end, when all have ended; raise what must not be."""

    # What people do

    @initialize(
        target=runs,
        wishes=_by(lambda machine: _wishes(type(machine), 0)),
        answers=_by(lambda machine: _answers(type(machine))),
    )
    def begin(self, wishes: Sequence[Wish], answers: Mapping[str, Any]) -> MultipleResults[str]:
        """Trigger the first runs, and choose how runs that wait for signals are answered at the end."""
        self._answers = answers
        return self._trigger(wishes)

    @rule(target=runs, wishes=_by(lambda machine: _wishes(type(machine), machine.version)))
    def trigger(self, wishes: Sequence[Wish]) -> MultipleResults[str]:
        """Trigger runs, all at the same time."""
        return self._trigger(wishes)

    @rule(target=runs)
    def look_for_children(self) -> MultipleResults[str]:
        """Learn of the runs that other runs have begun."""
        new = [run.id for run in self.do(self.durably.get_runs()) if run.id not in self._known]
        self._known.update(new)
        return multiple(*reversed(new))

    @rule(run=runs)
    def cancel(self, run: str) -> None:
        """Cancel a run."""
        with suppress(ConflictError, RunNotFoundError):
            self.do(self.durably.cancel(run))
            self._told.cancelled(run)

    @rule(run=runs)
    def retry(self, run: str) -> None:
        """Send a run back."""
        with suppress(ConflictError, RunNotFoundError):
            self.do(self.durably.retry(run))
            self._told.retried(run)

    @rule(target=runs, run=runs)
    def retrigger(self, run: str) -> "str | MultipleResults[str]":
        """Start a run over."""
        try:
            again = self.do(self.durably.retrigger(run))
        except (ConflictError, RunNotFoundError):
            return multiple()
        self._accuse(self._told.triggered(again))
        self._known.add(again.id)
        return again.id

    @rule(run=runs)
    def delete(self, run: str) -> None:
        """Remove a run."""
        with suppress(ConflictError, RunNotFoundError):
            self.do(self.durably.delete_run(run))
            self._told.deleted(run)

    @rule(older_than=st.sampled_from((1.0, 60.0, 3600.0)))
    def purge(self, older_than: float) -> None:
        """Remove what has ended."""
        allowed = self._told.to_purge(EPOCH + self._world.loop.time() + 1 - older_than)
        self.do(self.durably.purge_runs(older_than=older_than))
        self._told.purged(allowed)

    @precondition(lambda self: bool(self.signals))
    @rule(run=runs, signal=_by(lambda machine: _signals(type(machine))))
    def signal(self, run: str, signal: tuple[str, Any]) -> None:
        """Send a signal to a run."""
        name, payload = signal
        with suppress(ConflictError, RunNotFoundError):
            self.do(self.durably.signal(name, payload, run_id=run))

    # What becomes of workers

    @rule(seconds=DURATIONS)
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.do(self.durably.environment.sleep(seconds))

    @precondition(lambda self: len(self._world.workers) < MOST_WORKERS)
    @rule()
    def start_worker(self) -> None:
        """Start another worker."""
        self._world.start_worker()

    @precondition(lambda self: bool(self._world.workers))
    @rule(worker=WORKERS, drain=DRAINS)
    def stop_worker(self, worker: int, drain: float) -> None:
        """Have a worker end by itself."""
        self._world.stop_worker(self._worker(worker), drain=drain)

    @precondition(lambda self: bool(self._world.workers))
    @rule(worker=WORKERS)
    def kill(self, worker: int) -> None:
        """Kill a worker; another one takes its place."""
        self._world.strike(self._worker(worker), "kill")

    @precondition(lambda self: bool(self._world.workers))
    @rule(worker=WORKERS, seconds=PAUSES)
    def pause(self, worker: int, seconds: float) -> None:
        """Have a worker stand still."""
        self._world.strike(self._worker(worker), "pause", seconds)

    @precondition(lambda self: bool(self._world.workers))
    @rule(worker=WORKERS, seconds=LEAPS)
    def skew(self, worker: int, seconds: float) -> None:
        """Have a worker's clock jump."""
        self._world.strike(self._worker(worker), "skew", seconds)

    @rule(
        words=st.integers(0, 15),
        kind=st.sampled_from(("kill", "error", "pause")),
        moment=st.sampled_from(("before", "after")),
    )
    def crash_soon(self, words: int, kind: Kind, moment: Moment) -> None:
        """Let a fault strike whichever worker says so many words from now on to its store."""
        seconds = 3 * LEASE if kind == "pause" else 0.0
        self._world.expect(Fault(len(self._world.words) + words, kind, moment, seconds))

    @precondition(lambda self: self.version < len(self.versions))
    @rule(drain=DRAINS)
    def deploy(self, drain: float) -> None:
        """Replace all workers by ones of the next version."""
        self.version += 1
        self._world.deploy(_definitions(type(self), self.version), drain=drain)

    # What must hold

    @invariant()
    def promises_hold(self) -> None:
        """No promise of the engine has been broken, and nothing contradicts what was acknowledged."""
        for text in self._told.contradictions():
            self._accuse(text)
        if violations := self._world.violations():
            raise PromiseBroken(violations, self._world.story())

    @override
    def teardown(self) -> None:
        """Heal everything, and demand that every run ends."""
        try:
            if sys.exception() is None:
                self._come_to_an_end()
        finally:
            self._world.end()

    def _come_to_an_end(self) -> None:
        self._world.heal()
        self._world.rest()
        for _ in range(MOST_SIGNALS):
            if not self._answer():
                break
            self._world.rest()
        self._world.testify()
        self.promises_hold()
        for run in self.do(self.durably.get_runs()):
            self.check(run)

    def _answer(self) -> int:
        """Send the signals that runs wait for; answers how many."""
        sent = 0
        for run in self.do(self.durably.get_runs(status="waiting")):
            for step in self.do(self.durably.get_steps(run.id)):
                if step.status == "running" and step.kind == "signal" and step.name in self._answers:
                    self.do(self.durably.signal(step.name, self._answers[step.name], run_id=run.id))
                    sent += 1
        return sent

    # What rules have in common

    def _trigger(self, wishes: Sequence[Wish]) -> MultipleResults[str]:
        async def trigger_all() -> Sequence[Run | BaseException]:
            jobs = self.durably.jobs
            triggers = [jobs[wish.job].trigger(wish.input, **wish.options) for wish in wishes]
            answers: Sequence[Run | BaseException] = await asyncio.gather(*triggers, return_exceptions=True)
            return answers

        ids: list[str] = []
        for answer in self.do(trigger_all()):
            if isinstance(answer, Run):
                self._accuse(self._told.triggered(answer))
                ids.append(answer.id)
            elif not isinstance(answer, ConflictError):
                raise answer
        self._known.update(ids)
        return multiple(*dict.fromkeys(ids))

    def _worker(self, number: int) -> Process:
        workers = self._world.workers
        return workers[number % len(workers)]

    def _accuse(self, text: str | None) -> None:
        if text is not None:
            self._world.witness.accuse(text)
