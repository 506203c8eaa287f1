"""Simulating one history of one run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar, cast

from typing_extensions import Unpack

from durably import Durably, Event, JobDefinition, JobHandle, LogEntry, Run, RunError, RunStatus, Step
from durably_testing.boundary import Word
from durably_testing.effects import EffectLedger
from durably_testing.errors import PromiseBroken
from durably_testing.executions import Execution, Executions
from durably_testing.faults import Fault, Plan, in_order
from durably_testing.loop import outside_of_loops
from durably_testing.passage import HORIZON
from durably_testing.tokens import Setting, make_token
from durably_testing.witness import story
from durably_testing.world import Meanwhile, World

In = TypeVar("In")
Out = TypeVar("Out")

AnyJob: TypeAlias = JobDefinition[In, Out] | JobHandle[In, Out]
"""A job, as it was defined or as an instance knows it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SimulatedRun(Generic[In, Out]):
    """What became of a run in one history."""

    job_name: str
    input: In
    run: Run[In, Out]
    """As it stands at the end."""
    runs: Sequence[Run]
    """All runs of the history, the newest first: this one, its children, what was triggered meanwhile."""
    steps: Sequence[Step]
    logs: Sequence[LogEntry]
    events: Sequence[Event]
    """Those of all processes, in the order in which they were told."""
    effects: Mapping[str, int]
    """How often each step's body began, by the step's name, and what the job noted in its ledger; 0 for others."""
    executions: Sequence[Execution]
    """The calls of the job's function, in the order in which they began."""
    struck: Sequence[str]
    """The faults that struck, in words."""
    setting: Setting
    violations: Sequence[str]
    """Promises that were broken, and what is wrong with the job's own code; empty, or the test fails."""
    trace: Sequence[str]
    """Every line of the history: virtual second, process, what it did."""
    words: Sequence[Word]
    """What the workers said to their stores: the points at which a fault may strike."""
    turns: int
    input_json: str
    """The input, as it was stored."""

    def __repr__(self) -> str:
        crashes = "1 crash" if self.crashes == 1 else f"{self.crashes} crashes"
        return f"<SimulatedRun of {self.job_name}: {self.status}, {crashes}>"

    @property
    def status(self) -> RunStatus:
        """How the run ended."""
        return self.run.status

    @property
    def output(self) -> Out:
        """What the job returned.

        Raises:
            AssertionError: The run did not complete; says what became of it.
        """
        if self.run.status != "completed":
            __tracebackhide__ = True
            raise AssertionError(
                f"the run is {self.run.status}, so there is no output: {self.run.error}\n{self.story()}"
            )
        return cast("Out", self.run.output)

    @property
    def error(self) -> RunError | None:
        """Why the run failed."""
        return self.run.error

    @property
    def crashes(self) -> int:
        """How many faults struck: each may have a step executed once more."""
        return len(self.struck)

    @property
    def faults(self) -> Plan:
        """The plan."""
        return self.setting.plan

    @property
    def token(self) -> str:
        """Replays this very history, in the test that is executing."""
        return make_token(
            self.setting, job_name=self.job_name, input_json=self.input_json, struck=self.struck
        )

    @property
    def how_to_replay(self) -> str:
        """What to type to see this very history again."""
        return f"replay it: pytest --durably-replay={self.token}"

    def story(self) -> str:
        """The crash, the input, how to see it again, and the last lines of the history."""
        return story(self.struck, self.trace, f"the input: {self.input!r}", self.how_to_replay)

    def verify(self) -> None:
        """Fail if the history broke a promise.

        Raises:
            PromiseBroken: With everything that is needed to see why.
        """
        __tracebackhide__ = True
        if self.violations:
            raise PromiseBroken(self.violations, self.story())


def definition_of(job: AnyJob[In, Out]) -> JobDefinition[In, Out]:
    """What a job is, whichever way it is given."""
    return job.definition if isinstance(job, JobHandle) else job


class Scene(TypedDict, total=False):
    """In what surroundings a job is simulated; what `simulate` takes beside faults."""

    workers: int
    """How many worker processes there are, at least 1; a killed one is replaced a second later. Default 2."""
    seed: int
    """Decides the store's latencies, jitter and ids. Default 0."""
    jobs: Iterable[AnyJob[Any, Any]]
    """Other jobs that the workers must know, e.g. children."""
    resources: Iterable[Callable[..., object]]
    """Factories of what the jobs take by type: doubles. Each worker opens its own when it starts, so what outlives
    a worker's death must be kept outside of them."""
    prepare: Callable[[], object] | None
    """Called before each history: puts the doubles of the outside world back to their beginning. The ids of
    runs, and so their idempotency keys, are the same in every history of a seed."""
    meanwhile: Meanwhile | None
    """What the outside does, e.g. send a signal; no fault strikes it."""
    effects: EffectLedger | None
    """A ledger in which the job's code notes effects of its own; it is cleared first."""
    horizon: float
    """Virtual seconds without any news after which a run is stuck; sleeping runs are not meant. Default 7200."""
    deterministic: bool
    """Whether a checkpoint that the completing execution never came to is a mistake. Default True."""


def simulate(
    job: AnyJob[In, Out],
    input: In,
    /,
    *,
    faults: Iterable[Fault] = (),
    **scene: Unpack[Scene],
) -> SimulatedRun[In, Out]:
    """Execute a run on the real engine and the real store, in virtual time, and let faults strike.

    Deterministic: the same arguments give the same history, line by line. It takes milliseconds,
    whatever the job sleeps, and can be called from anywhere, also while an event loop is running.

    Args:
        job: What is executed.
        input: Its input.
        faults: What goes wrong, and where.
        **scene: See `Scene`: `workers`, `seed`, `jobs`, `resources`, `prepare`, `meanwhile`, `effects`,
            `horizon`, `deterministic`.

    Raises:
        ValidationError: The input does not fit the job.
        ConfigurationError: A job takes what no factory in `resources` gives.
        ResourceError: One of them raised.
        SimulationError: The history cannot go on, e.g. everybody waits for ever.
    """
    definition = definition_of(job)
    others = [definition_of(other) for other in scene.get("jobs", ())]
    effects = scene.get("effects")
    setting = Setting(
        plan=in_order(tuple(faults)), workers=scene.get("workers", 2), seed=scene.get("seed", 0)
    )

    prepare = scene.get("prepare")

    def tell() -> SimulatedRun[In, Out]:
        if prepare is not None:
            prepare()
        world = World(
            [definition, *others],
            resources=scene.get("resources", ()),
            effects=effects if effects is not None else EffectLedger(),
            plan=setting.plan,
            seed=setting.seed,
            horizon=scene.get("horizon", HORIZON),
            is_deterministic=scene.get("deterministic", True),
        )
        try:
            return _tell(world, definition, input, setting, scene.get("meanwhile"))
        finally:
            world.end()

    return outside_of_loops(tell)


def _tell(
    world: World,
    definition: JobDefinition[In, Out],
    input: In,
    setting: Setting,
    meanwhile: Meanwhile | None,
) -> SimulatedRun[In, Out]:
    for _ in range(setting.workers):
        world.start_worker()
    executions = Executions()
    world.witness.hearers.append(executions.hear)
    run_id = world.do(world.client.register(definition).trigger(input)).id
    world.rest(None if meanwhile is None else partial(meanwhile, world.client, run_id))
    world.testify()
    run, steps, logs = world.do(_look_at(world.client, run_id))
    (row,) = world.connection.execute("SELECT input FROM durably_runs WHERE id = ?", (run_id,))
    return SimulatedRun(
        job_name=definition.name,
        input=input,
        run=cast("Run[In, Out]", run),
        runs=world.do(world.client.get_runs(limit=1000)),
        steps=steps,
        logs=logs,
        events=tuple(world.witness.events),
        effects=world.effects.counts(),
        executions=executions.of(run_id),
        struck=tuple(world.struck),
        setting=setting,
        violations=tuple(world.violations()),
        trace=tuple(world.witness.trace),
        words=tuple(world.words),
        turns=world.turns,
        input_json=str(row[0]),
    )


async def _look_at(durably: Durably, run_id: str) -> tuple[Run, Sequence[Step], Sequence[LogEntry]]:
    run = await durably.get_run(run_id)
    if run is None:
        raise LookupError(f"run {run_id} is gone")
    return run, await durably.get_steps(run_id), await durably.get_logs(run_id)
