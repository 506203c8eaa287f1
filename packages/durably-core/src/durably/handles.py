"""A job as one instance knows it: what to trigger and to look at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from typing_extensions import Unpack

from durably.codec import Codec
from durably.errors import TriggerInRunError
from durably.execution import current_execution, current_step
from durably.filters import run_filter
from durably.inline import StandIn, everything_itself, run_inline
from durably.jobs import JobDefinition
from durably.models import Run, RunResult, RunStatus, Seconds
from durably.options import Trigger, TriggerOptions, trigger_options
from durably.resources import Resources
from durably.runs import OnLog, OnProgress, Runs
from durably.wishes import Wish

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[In]):
    """One run of a batch that has options of its own."""

    input: In
    options: TriggerOptions = field(default_factory=TriggerOptions)


class JobHandle(Generic[In, Out]):
    """A registered job; `Durably.register` and `@durably.job` give it."""

    def __init__(self, definition: JobDefinition[In, Out], runs: Runs, resources: Resources) -> None:
        self.definition: JobDefinition[In, Out] = definition
        self._runs = runs
        self._resources = resources

    def __repr__(self) -> str:
        return f"<JobHandle {self.name}>"

    @property
    def name(self) -> str:
        """The job's name."""
        return self.definition.name

    @property
    def input_codec(self) -> Codec[In]:
        """How the job's input is stored."""
        return self.definition.input_codec

    @property
    def output_codec(self) -> Codec[Out]:
        """How the job's output is stored."""
        return self.definition.output_codec

    @property
    def follow_ups(self) -> tuple[str, ...]:
        """The jobs that follow a failure of one of its runs, one after the other."""
        return self.definition.follow_ups

    async def trigger(self, input: In, /, **options: Unpack[TriggerOptions]) -> Run[In, Out]:
        """Store a run to be executed by whatever worker is free.

        Once this returns the run is committed and will not be lost. Safe to repeat with an
        `idempotency_key`: `run.disposition` says whether this call `created` it or found it
        (`idempotent`). With `coalesce="skip"` the answer may be another run, with its own input and
        labels, that waits already (`coalesced`).

        Raises:
            ValidationError: The input or an option does not fit; nothing was stored.
            ConflictError: `coalesce="reject"`, and a run of the key waits already; nothing was stored.
            StoreError: The database is in trouble; with an idempotency key, simply try again.
        """
        _refuse_between_steps(self.name)
        return (await self._runs.enqueue(self.definition, [Wish(input, trigger_options(options))]))[0]

    async def trigger_and_wait(
        self,
        input: In,
        /,
        *,
        timeout: Seconds | None = None,
        polling_interval: Seconds | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
        **options: Unpack[TriggerOptions],
    ) -> RunResult[Out]:
        """Trigger and wait for the output, wherever the run is executed.

        Args:
            input: As `trigger`.
            timeout: How long to wait; the run goes on all the same. None waits for ever.
            polling_interval: As `Durably.wait_for_run`.
            on_progress: As `Durably.wait_for_run`.
            on_log: As `Durably.wait_for_run`.
            **options: As `trigger`.

        Raises:
            ValidationError, ConflictError, StoreError: As `trigger`.
            RunFailedError, RunCancelledError: The run ended so.
            RunNotFoundError: It was deleted meanwhile.
            WaitTimeoutError: It did not end in time.
        """
        if current_execution.get() is not None:
            raise TriggerInRunError(
                f"trigger_and_wait({self.name!r}) inside a run would hold its slot while it waits; "
                "use step.invoke"
            )
        run = await self.trigger(input, **options)
        done = await self._runs.wait(
            run.id,
            timeout=timeout,
            polling_interval=polling_interval,
            on_progress=on_progress,
            on_log=on_log,
        )
        return RunResult(
            id=run.id,
            output=self.definition.output_codec.decode(
                done.output_json or "null", what=f"the output of run {run.id}"
            ),
            disposition=run.disposition or "created",
        )

    async def batch_trigger(
        self, items: Iterable[In | BatchItem[In]], /, **options: Unpack[TriggerOptions]
    ) -> list[Run[In, Out]]:
        """Store many runs in one transaction, all or none, in order.

        Every input is validated before anything is stored.

        Args:
            items: Inputs, or `BatchItem`s with options of their own beside the common ones.
            **options: For all of them.

        Raises:
            ValidationError, ConflictError, StoreError: As `trigger`; nothing was stored.
        """
        common = trigger_options(options)
        _refuse_between_steps(self.name)
        wishes = [_wish(item, options, common) for item in items]
        return await self._runs.enqueue(self.definition, wishes)

    async def get_run(self, run_id: str, /) -> Run[In, Out] | None:
        """A run of this job; None if there is none, or if it is another job's."""
        run = await self._runs.get(run_id)
        # Its payloads are read by the definition of this name already, which is ours.
        return None if run is None or run.job_name != self.name else cast("Run[In, Out]", run)

    async def get_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: int | None = None,
    ) -> list[Run[In, Out]]:
        """This job's runs, newest first; see `Durably.get_runs`."""
        runs = await self._runs.list(
            run_filter(status, self.name, labels), limit=limit, offset=offset, before=before
        )
        return cast("list[Run[In, Out]]", runs)

    async def run_inline(self, input: In, /, *, stand_in: StandIn = everything_itself) -> Out:
        """Execute the job's function here and now, without a store: for unit tests and debuggers.

        Nothing is stored and nothing is retried. A failed step raises `StepFailed`, as in a run; if the
        job does not catch it, the original exception is raised. Steps are called in
        place, and their results take the trip through storage that they would take in a run.

        Resources are those of the worker while it works, else the ones given by `Durably.override`.

        Args:
            input: As `trigger`.
            stand_in: Answers in place of the steps; for test doubles. Default: every step is itself.

        Raises:
            ValidationError: The input does not fit.
            ConfigurationError: The job needs a resource that is neither open nor overridden.
        """
        return await run_inline(self.definition, input, self._resources, stand_in=stand_in)


def _refuse_between_steps(job_name: str) -> None:
    if current_execution.get() is not None and current_step.get() is None:
        raise TriggerInRunError(
            f"{job_name!r} was triggered by a job's code between its steps, and would be again on every "
            "replay; use step.spawn or step.invoke, or trigger it in a step, with an idempotency_key"
        )


def _wish(item: object, options: TriggerOptions, checked: Trigger) -> Wish:
    if not isinstance(item, BatchItem):
        return Wish(item, checked)
    one = cast("BatchItem[object]", item)
    own: TriggerOptions = {**options, **one.options}
    return Wish(one.input, trigger_options(own))
