"""Runs, lists of runs and jobs as values, for pages that bring their own HTML.

The names are those of the reference's React hooks: what `useJobRun` gives there is a `RunView` here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, cast

from pydantic_core import to_jsonable_python
from typing_extensions import TypeVar

from durably import (
    Durably,
    JobHandle,
    LogEntry,
    Progress,
    Run,
    RunFilter,
    RunStatus,
    Step,
)
from durably_web.auth import TriggerRequest
from durably_web.caller import MOST_LISTED, Caller

In = TypeVar("In", covariant=True, default=object)
Out = TypeVar("Out", covariant=True, default=object)
Ctx = TypeVar("Ctx", default=object)
InT = TypeVar("InT")
OutT = TypeVar("OutT")

MOST_LOGS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView(Generic[In, Out]):
    """A run as `use_job_run` finds it."""

    run: Run[In, Out]
    logs: tuple[LogEntry, ...] = ()
    """The end of its log, in order."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def status(self) -> RunStatus:
        """Its status."""
        return self.run.status

    @property
    def output(self) -> Out | None:
        """What it answered; None until it is completed."""
        return self.run.output

    @property
    def error(self) -> str | None:
        """Why it failed."""
        return self.run.error.message if self.run.status == "failed" and self.run.error is not None else None

    @property
    def progress(self) -> Progress | None:
        """How far it has come."""
        return self.run.progress

    @property
    def is_pending(self) -> bool:
        """Whether it has not begun, or is to go on."""
        return self.run.status == "pending"

    @property
    def is_leased(self) -> bool:
        """Whether it goes on: it is executed, or waits."""
        return self.run.status in {"running", "waiting"}

    @property
    def is_completed(self) -> bool:
        """Whether its job returned."""
        return self.run.status == "completed"

    @property
    def is_failed(self) -> bool:
        """Whether it failed."""
        return self.run.status == "failed"

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self.run.status == "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self.run.is_terminal

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return not self.run.is_terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView(Generic[In, Out]):
    """A job as `use_job` finds it: the run that it is about, if there is one."""

    job_name: str
    current: RunView[In, Out] | None

    @property
    def current_run_id(self) -> str | None:
        """The run that it is about."""
        return None if self.current is None else self.current.id


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsPage:
    """A page of runs as `use_runs` finds it, newest first."""

    runs: tuple[Run, ...]
    page: int
    """From 0."""
    page_size: int
    has_more: bool
    """Whether there is a next page."""


class RunActionsOf(Generic[Ctx]):
    """What `useRunActions` offers, and more: each verb as the visitor, with what they may do checked.

    Each raises `HTTPException`: 404 for what is not there for them, 403 for what they may not do; beside what
    the same verb of `Durably` raises.
    """

    def __init__(self, caller: Caller[Ctx]) -> None:
        self._caller = caller

    async def trigger(
        self,
        job: JobHandle[InT, OutT],
        input: InT,
        *,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        concurrency_key: str | None = None,
    ) -> Run:
        """Have a job executed: the run gets their `trigger_labels`, and `on_trigger` is asked."""
        request = TriggerRequest(
            job_name=job.name,
            input=to_jsonable_python(input),
            labels=labels or {},
            idempotency_key=idempotency_key,
            concurrency_key=concurrency_key,
        )
        return await self._caller.trigger(request)

    async def signal(self, run_id: str, name: str, payload: object = None) -> None:
        """Send a signal to a run: an approval, say."""
        await self._caller.signal(run_id, name, payload)

    async def retrigger(self, run_id: str) -> Run:
        """Start over; the new run."""
        return await self._caller.retrigger(run_id)

    async def retry(self, run_id: str) -> Run:
        """Send a failed or cancelled run back to work."""
        return await self._caller.retry(run_id)

    async def cancel(self, run_id: str) -> Run:
        """End a run that has not ended."""
        return await self._caller.cancel(run_id)

    async def delete_run(self, run_id: str) -> None:
        """Remove a run that has ended."""
        await self._caller.delete_run(run_id)

    async def get_run(self, run_id: str) -> Run | None:
        """The run; None if there is none for them."""
        return await self._caller.find(run_id)

    async def get_steps(self, run_id: str) -> Sequence[Step]:
        """The run's steps."""
        return await self._caller.steps(run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebContext(Generic[Ctx]):
    """Who asks, and what they can do: for `Depends(web.context)`."""

    ctx: Ctx
    """What `authenticate` answered."""
    durably: Durably
    actions: RunActionsOf[Ctx]


async def view_run(caller: Caller[Any], run_id: str, *, max_logs: int) -> RunView[Any, Any] | None:
    """The run and the end of its log."""
    run = await caller.find(run_id)
    if run is None:
        return None
    logs = await caller.last_logs(run_id, limit=min(max_logs, MOST_LOGS)) if max_logs > 0 else ()
    return RunView(run=run, logs=tuple(logs))


async def view_job(
    caller: Caller[Any],
    job: JobHandle[In, Out],
    *,
    initial_run_id: str | None,
    auto_resume: bool,
    follow_latest: bool,
    max_logs: int,
) -> JobView[In, Out]:
    """The job, and the run that it is about."""
    run = None if initial_run_id is None else await caller.find(initial_run_id)
    if run is not None and run.job_name != job.name:
        run = None
    if run is None and auto_resume:
        run = await caller.current_run(job.name)
    if run is not None and run.is_terminal and follow_latest:
        [run] = await caller.runs(RunFilter(job_name=(job.name,)), limit=1) or [run]
    found = None if run is None else await view_run(caller, run.id, max_logs=max_logs)
    return JobView(job_name=job.name, current=cast("RunView[In, Out] | None", found))


async def view_runs(caller: Caller[Any], asked: RunFilter, *, page: int, page_size: int) -> RunsPage:
    """A page of runs, and whether there is another one."""
    size = min(max(page_size, 1), MOST_LISTED - 1)
    runs = await caller.runs(asked, limit=size + 1, offset=max(page, 0) * size)
    return RunsPage(runs=tuple(runs[:size]), page=max(page, 0), page_size=size, has_more=len(runs) > size)
