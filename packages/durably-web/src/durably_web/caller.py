"""The one way to the runs: whatever somebody asks for passes through a `Caller`.

An answer never tells whether a run exists that its caller may not see: such a run, and one that
there is not, are refused with the same words.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Generic, TypeGuard, TypeVar, cast

from starlette.exceptions import HTTPException

from durably import (
    ConflictError,
    Count,
    Durably,
    Explanation,
    JobHandle,
    LogEntry,
    Run,
    RunFilter,
    RunsFound,
    RunStatus,
    RunsUpdate,
    RunUpdate,
    SearchBy,
    Statistics,
    Step,
    TriggerOptions,
    ValidationError,
    WorkerInfo,
)
from durably_web.auditing import Audit, AuditEntry
from durably_web.auth import CHANGES, OPERATIONS, AuthConfig, RunOperation, TriggerRequest
from durably_web.hooks import answer_of, refused_by, settle
from durably_web.mistakes import wrong_answer
from durably_web.redaction import Redaction

Ctx = TypeVar("Ctx")
T = TypeVar("T")

MOST_LISTED = 200
"""Runs that one answer lists at most."""
CURRENT: Final[tuple[RunStatus, ...]] = ("running", "waiting", "pending")


class Caller(Generic[Ctx]):
    """Somebody who was let in, and all that they can do.

    Every verb raises `HTTPException`: 404 for a run or job that is not there for them, 403 for what
    they may not do; beside what the same verb of `Durably` raises.
    """

    def __init__(
        self,
        durably: Durably,
        auth: AuthConfig[Ctx],
        ctx: Ctx,
        audit: Callable[[AuditEntry[Ctx]], object] | None,
    ) -> None:
        self.ctx = ctx
        self.redaction: Redaction[Ctx] = Redaction(auth.redact, ctx)
        """What they see of payloads. All that is answered here has passed it."""
        self._durably = durably
        self._auth = auth
        self._audit = Audit(audit, ctx)

    # Looking

    async def run(self, run_id: str, operation: RunOperation = "read") -> Run:
        """The run, if they may do this with it."""
        return self.redaction.run(await self._found(run_id, operation))

    async def find(self, run_id: str) -> Run | None:
        """The run; None if there is none for them."""
        try:
            return await self.run(run_id)
        except HTTPException as error:
            if error.status_code == 404:
                return None
            raise

    async def current_run(self, job_name: str) -> Run | None:
        """The run of a job that is going on: one that is executed before one that waits before one that is to start."""
        for status in CURRENT:
            runs = await self.runs(RunFilter(job_name=(job_name,), status=(status,)), limit=1)
            if runs:
                return runs[0]
        return None

    async def runs(
        self,
        asked: RunFilter,
        *,
        limit: int = MOST_LISTED,
        offset: int = 0,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Run]:
        """The runs that fit, newest first, at most 200."""
        where = await self.scoped(asked)
        found = await self._durably.get_runs(
            where=where, limit=min(limit, MOST_LISTED), offset=offset, before=before, after=after
        )
        return [self.redaction.run(run) for run in found]

    async def search(
        self, text: str, *, by: SearchBy, asked: RunFilter, limit: int, cursor: str | None = None
    ) -> RunsFound:
        """The runs that fit and hold a text, newest first, at most 200, as far as is looked.

        Where something may be hidden nothing is found by its error: to find it would be to read it.
        """
        if by == "error" and not self.redaction.is_none:
            return RunsFound(runs=(), looked_at=0, cursor=None)
        where = await self.scoped(asked)
        try:
            found = await self._durably.search_runs(
                text, by=by, where=where, limit=min(limit, MOST_LISTED), cursor=cursor
            )
        except ValidationError:
            raise HTTPException(400, "This search cannot be made") from None
        return replace(found, runs=tuple(map(self.redaction.run, found.runs)))

    async def count_by_status(self, asked: RunFilter, *, cap: int) -> Mapping[RunStatus, Count]:
        """How many runs fit in each status, counted up to `cap`."""
        return await self._durably.count_by_status(where=await self.scoped(asked), cap=cap)

    async def steps(self, run_id: str, *, after: int = 0, results: bool = True) -> Sequence[Step]:
        """The run's steps."""
        run = await self._found(run_id, "steps")
        steps = await self._durably.get_steps(run_id, after=after, results=results)
        return [self.redaction.step(run, step) for step in steps]

    async def logs(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[LogEntry]:
        """The run's log."""
        run = await self._found(run_id, "logs")
        lines = await self._durably.get_logs(run_id, after=after, limit=limit)
        return [self.redaction.line(run, line) for line in lines]

    async def last_logs(self, run_id: str, *, limit: int, before: int | None = None) -> Sequence[LogEntry]:
        """The end of the run's log."""
        run = await self._found(run_id, "logs")
        lines = await self._durably.get_last_logs(run_id, limit=limit, before=before)
        return [self.redaction.line(run, line) for line in lines]

    async def explain(self, run_id: str) -> Explanation:
        """Why the run is not running."""
        run = await self._found(run_id)
        return self.redaction.explanation(run, await self._durably.explain(run_id))

    async def statistics(self, asked: RunFilter, *, since: datetime) -> Statistics:
        """How those of the runs that fit ended which ended since then."""
        return await self._durably.get_statistics(where=await self.scoped(asked), since=since)

    async def sees_workers(self) -> bool:
        """Whether they may know who executes the runs."""
        hook = self._auth.sees_workers
        return self._auth.scope_runs is None if hook is None else await settle(hook(self.ctx))

    async def workers(self) -> Sequence[WorkerInfo]:
        """Who executes the runs; nobody, if they may not know."""
        return await self._durably.get_workers() if await self.sees_workers() else ()

    async def sees_job(self, job_name: str) -> bool:
        """Whether there could be runs of this job for them."""
        return not (await self.scoped(RunFilter(job_name=(job_name,)))).is_nothing

    async def shows_input(self, run: Run) -> bool:
        """Whether they see all of the run's input: what is hidden from them they cannot edit."""
        return self.redaction.shows_input(await self._stored(run))

    async def subscribe(self, run_id: str, *, after: str | None = None) -> AsyncIterator[RunUpdate]:
        """The run's updates."""
        run = await self._found(run_id, "subscribe")
        return self.redaction.updates(run, self._durably.subscribe(run_id, after=after))

    async def subscribe_runs(
        self, asked: RunFilter, *, limit: int = MOST_LISTED, after: str | None = None
    ) -> AsyncIterator[RunsUpdate]:
        """The updates of all runs that fit."""
        where = await self.scoped(asked, subscribing=True)
        updates = self._durably.subscribe_runs(where=where, limit=min(limit, MOST_LISTED), after=after)
        return self.redaction.list_updates(updates)

    async def scoped(self, asked: RunFilter, *, subscribing: bool = False) -> RunFilter:
        """What they ask for, as far as it is there for them."""
        hook = (subscribing and self._auth.scope_runs_subscribe) or self._auth.scope_runs
        if hook is None:
            return asked
        narrowed = await answer_of(hook, self.ctx, asked)
        if not (isinstance(narrowed, RunFilter) and _are_labels(narrowed.labels)):
            wanted = "a filter whose labels are texts, e.g. asked.and_labels(org=ctx.org)"
            raise wrong_answer("scope_runs", narrowed, wanted)
        return asked & narrowed

    async def allowed(self, run: Run) -> frozenset[RunOperation]:
        """What a page offers them to do with this run."""
        hook = self._auth.allowed
        if hook is None:
            return frozenset(OPERATIONS)
        offered = await answer_of(hook, self.ctx, await self._stored(run))
        if not _are_operations(offered):
            raise wrong_answer("allowed", offered, f"a set of {', '.join(OPERATIONS)}")
        return frozenset(offered)

    async def may(self, operation: RunOperation, run: Run) -> bool:
        """Whether they may do this with a run that is there for them."""
        if self._auth.on_run_access is None:
            return True
        try:
            stored = await self._stored(run)
        except HTTPException:
            # It was deleted meanwhile.
            return False
        return await self._refusal(stored, operation) is None

    # Changing

    async def trigger(self, request: TriggerRequest) -> Run:
        """Have a job executed; the run that answers may be one that waited already."""
        handle = self._durably.get_job(request.job_name)
        if handle is None:
            raise HTTPException(404, f"Job not found: {request.job_name}")
        async with self._audit.of("trigger", request.job_name):
            wanted = replace(request, labels=await self._labels(request))
            is_scoped = await self._may_trigger(wanted)
            run = await self._trigger(handle, wanted, is_scoped=is_scoped)
        await self._audit.note("trigger", run.job_name, run)
        return self.redaction.run(run)

    async def retrigger(self, run_id: str) -> Run:
        """Start over: a new run with the input of one that has ended."""
        old = await self._found(run_id, "retrigger")
        async with self._audit.of("retrigger", old.job_name, old):
            await self._may_trigger(_again(old))
            run = await self._durably.retrigger(run_id)
        await self._audit.note("retrigger", run.job_name, run)
        return self.redaction.run(run)

    async def retry(self, run_id: str) -> Run:
        """Send a failed or cancelled run back to work."""
        return self.redaction.run(await self._change("retry", run_id, self._durably.retry))

    async def cancel(self, run_id: str) -> Run:
        """End a run that has not ended."""
        return self.redaction.run(await self._change("cancel", run_id, self._durably.cancel))

    async def delete_run(self, run_id: str) -> None:
        """Remove a run that has ended."""
        await self._change("delete", run_id, self._durably.delete_run)

    async def signal(self, run_id: str, name: str, payload: object = None) -> None:
        """Send a signal to a run."""

        async def send(run_id: str) -> None:
            await self._durably.signal(name, payload, run_id=run_id)

        await self._change("signal", run_id, send)

    async def _change(self, operation: RunOperation, run_id: str, verb: Callable[[str], Awaitable[T]]) -> T:
        run = await self._found(run_id, operation)
        async with self._audit.of(operation, run.job_name, run):
            answer = await verb(run_id)
        await self._audit.note(operation, run.job_name, run)
        return answer

    # Deciding

    async def _found(self, run_id: str, operation: RunOperation = "read") -> Run:
        """The run as it is stored, if they may do this with it."""
        run = await self._durably.get_run(run_id)
        if run is None or not await self._exists(run):
            raise _not_found()
        await self._require(run, operation)
        return run

    async def _stored(self, run: Run) -> Run:
        """A run that they see, as it is stored."""
        return run if self.redaction.is_none else await self._found(run.id)

    async def _exists(self, run: Run) -> bool:
        """Whether the run is there for them."""
        return (await self.scoped(RunFilter())).fits(run)

    async def _require(self, run: Run, operation: RunOperation) -> None:
        """Refuse; whoever may see the run is told why."""
        refusal = await self._refusal(run, operation)
        if refusal is None:
            return
        if operation == "read" or await self._refusal(run, "read") is not None:
            raise _not_found()
        if operation in CHANGES:
            await self._audit.note(operation, run.job_name, run, outcome="refused")
        raise refusal

    async def _refusal(self, run: Run, operation: RunOperation) -> HTTPException | None:
        return await refused_by(self._auth.on_run_access, self.ctx, run, operation)

    async def _labels(self, request: TriggerRequest) -> Mapping[str, str]:
        hook = self._auth.trigger_labels
        if hook is None:
            return request.labels
        given = await answer_of(hook, self.ctx)
        if not _are_labels(given):
            raise wrong_answer("trigger_labels", given, "labels, e.g. {'org': ctx.org}")
        if any(request.labels.get(key, value) != value for key, value in given.items()):
            raise HTTPException(
                403, f"Forbidden: the labels {', '.join(sorted(given))} are not yours to give"
            )
        return {**request.labels, **given}

    async def _may_trigger(self, request: TriggerRequest) -> bool:
        """Refuse; or answer whether there are runs that they may not see."""
        refusal = await refused_by(self._auth.on_trigger, self.ctx, request)
        if refusal is not None:
            raise refusal
        scope = await self.scoped(RunFilter())
        if not scope.covers(request.job_name, request.labels):
            raise HTTPException(403, "Forbidden: you could not see this run; its job or labels are not yours")
        is_scoped = scope != RunFilter() or self._auth.on_run_access is not None
        if is_scoped and request.coalesce == "replace":
            raise HTTPException(403, "Forbidden: coalesce 'replace' might cancel a run that is not yours")
        return is_scoped

    async def _trigger(self, handle: JobHandle[Any, Any], request: TriggerRequest, *, is_scoped: bool) -> Run:
        what = f"the input of job {handle.name!r}"
        value = handle.input_codec.validate_json(json.dumps(request.input), what=what)
        try:
            run: Run = await handle.trigger(value, **_options(request))
        except ConflictError as error:
            if is_scoped and await self.find(error.run_id) is None:
                raise _taken() from None
            raise
        if is_scoped and run.disposition != "created" and await self.find(run.id) is None:
            raise _taken()
        return run


def _options(request: TriggerRequest) -> TriggerOptions:
    options: TriggerOptions = {"labels": request.labels, "coalesce": request.coalesce}
    if request.idempotency_key is not None:
        options["idempotency_key"] = request.idempotency_key
    if request.concurrency_key is not None:
        options["concurrency_key"] = request.concurrency_key
    return options


def _are_operations(answer: object) -> TypeGuard[Collection[RunOperation]]:
    if isinstance(answer, str) or not isinstance(answer, Collection):
        return False
    return all(one in OPERATIONS for one in cast("Collection[object]", answer))


def _are_labels(answer: object) -> TypeGuard[Mapping[str, str]]:
    if not isinstance(answer, Mapping):
        return False
    pairs = cast("Mapping[object, object]", answer).items()
    return all(isinstance(key, str) and isinstance(value, str) for key, value in pairs)


def _again(run: Run) -> TriggerRequest:
    input, key = json.loads(run.input_json), run.concurrency_key
    return TriggerRequest(job_name=run.job_name, input=input, concurrency_key=key, labels=run.labels)


def _not_found() -> HTTPException:
    return HTTPException(404, "Run not found")


def _taken() -> HTTPException:
    return HTTPException(409, "This key is in use already")
