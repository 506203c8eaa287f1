"""What people and programs do with runs through the front door."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from durably.errors import ValidationError
from durably.filters import RunFilter, run_filter
from durably.models import (
    Link,
    LogEntry,
    Run,
    RunsFound,
    RunStatus,
    SearchBy,
    Seconds,
    Step,
    WorkerInfo,
)
from durably.runs import OnLog, OnProgress, Runs
from durably.statistics import Count
from durably.stores.base import Store

MOST_COUNTED = 10_000
MOST_LISTED = 100
LOOKED_AT: Final[Mapping[SearchBy, int]] = {"id": 100_000, "error": 10_000}
"""Runs that a search looks at: ids are read from their index, errors from the runs."""


class RunVerbs:
    """Looking at runs, waiting for them, ending them, sending them back, removing them."""

    def __init__(self, runs: Runs, store: Store) -> None:
        self.__runs = runs
        self.__store = store

    # Looking and waiting

    async def get_run(self, run_id: str, /) -> Run | None:
        """The run as it stands, or None."""
        return await self.__runs.get(run_id)

    async def get_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Run]:
        """Runs that match all of it, newest first.

        Served by an index: no filter, one status, one job, one label, and any of them with bounds on
        when the runs were created. Others are scans that end at `limit`.

        Args:
            status: One or several; None and empty mean any.
            job_name: One or several; None and empty mean any.
            labels: All of them must match.
            where: Only runs that fit this filter too.
            limit: At most this many. Default None: all.
            offset: Pass over so many first.
            before: Only runs with a smaller `position`: the last one of the page before.
            after: Only runs with a larger `position`, the oldest of them: the page before this one;
                `after=0` gives the oldest of all.

        Raises:
            ValidationError: A filter cannot be used.
        """
        return await self.__runs.list(
            run_filter(status, job_name, labels, where),
            limit=limit,
            offset=offset,
            before=before,
            after=after,
        )

    async def get_changes(self, *, after: int, limit: int = MOST_LISTED) -> list[Run]:
        """Runs that changed since a cursor, in the order of their changes.

        Args:
            after: The `change` of the last run that was seen; 0 for all there are.
            limit: At most this many.
        """
        runs = await self.__store.list_changes(after=after, limit=limit)
        return [self.__runs.typed(run) for run in runs]

    async def count_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
        cap: int = MOST_COUNTED,
    ) -> int:
        """How many runs match; counting stops at `cap`, so that it costs no more than that.

        Except where very many runs have a label and few of them are in the status: all of them are
        looked at then.
        """
        return await self.__store.count_runs(run_filter(status, job_name, labels, where), cap=cap)

    async def count_by_status(
        self,
        *,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
        cap: int = MOST_COUNTED,
    ) -> Mapping[RunStatus, Count]:
        """How many runs match in each status, for a price that does not grow with their number.

        In each status counting stops at `cap`. If there are labels, it may be that the newest `cap`
        runs that have them are looked at, and no others.
        """
        return await self.__store.count_by_status(run_filter(None, job_name, labels, where), cap=cap)

    async def search_runs(
        self,
        text: str,
        /,
        *,
        by: SearchBy,
        where: RunFilter | None = None,
        limit: int = MOST_LISTED,
        among: int | None = None,
        cursor: str | None = None,
    ) -> RunsFound:
        """Runs whose id, or whose error, holds a text; newest first.

        No index serves this, so it is bounded: it looks at so many runs and says how far it came.

            found = await durably.search_runs("timed out", by="error")
            older = await durably.search_runs("timed out", by="error", cursor=found.cursor)

        Args:
            text: A part of the id, or of the exception's type and message; case does not matter in ASCII.
            by: What is searched.
            where: Only runs that fit this filter.
            limit: At most this many are found.
            among: How many runs are looked at: by id the newest of all (default: 100,000), by error the
                newest failed ones that fit (default: 10,000).
            cursor: Go on behind an answer that had this cursor.

        Raises:
            ValidationError: There is no text, or an argument cannot be used.
        """
        if not text or "\0" in text:
            raise ValidationError("search_runs needs a text without NUL to search for", fields=("text",))
        if by not in LOOKED_AT:
            raise ValidationError(f"by must be one of {', '.join(LOOKED_AT)}", fields=("by",))
        is_position = cursor is None or (cursor.isascii() and cursor.isdigit() and len(cursor) < 19)
        if by == "error" and not is_position:
            raise ValidationError("cursor is none that a search by error gave", fields=("cursor",))
        most = LOOKED_AT[by] if among is None else among
        for name, number in (("limit", limit), ("among", most)):
            if isinstance(number, bool) or number < 1:
                raise ValidationError(f"{name} must be at least 1", fields=(name,))
        wanted = run_filter(None, None, None, where)
        found = await self.__store.search_runs(wanted, text, by=by, limit=limit, among=most, cursor=cursor)
        return replace(found, runs=tuple(self.__runs.typed(run) for run in found.runs))

    async def get_steps(self, run_id: str, /, *, after: int = 0, results: bool = True) -> Sequence[Step]:
        """The steps of the run's present link, in the order in which they first started.

        Args:
            run_id: The run.
            after: Only those that changed after this `sequence`.
            results: Whether to read what they returned, which may be large.
        """
        return await self.__store.list_steps(run_id, after=after, results=results)

    async def get_links(self, run_id: str, /) -> Sequence[Link]:
        """The links of the run's chain that have ended, the oldest first; of many the newest 100.

        The present one is the run itself: `Run.link`, `Run.input`.
        """
        return await self.__store.list_links(run_id)

    async def get_logs(
        self, run_id: str, /, *, after: int = 0, limit: int | None = None
    ) -> Sequence[LogEntry]:
        """The run's log in order.

        Args:
            run_id: The run.
            after: Only lines after this `sequence`.
            limit: At most this many.
        """
        return await self.__store.list_logs(run_id, after=after, limit=limit)

    async def get_last_logs(
        self, run_id: str, /, *, limit: int, before: int | None = None
    ) -> Sequence[LogEntry]:
        """The end of the run's log, in order: it costs the same however long the log is.

        Args:
            run_id: The run.
            limit: At most this many lines.
            before: Only lines before this `sequence`: the first one of what is shown already.

        Raises:
            ValidationError: `limit` is negative.
        """
        if limit < 0:
            raise ValidationError("limit must not be negative", fields=("limit",))
        return await self.__store.last_logs(run_id, before=before, limit=limit)

    async def get_workers(self) -> Sequence[WorkerInfo]:
        """Every worker on this database that has not said goodbye, the oldest first."""
        return await self.__store.list_workers()

    async def wait_for_run(
        self,
        run_id: str,
        /,
        *,
        timeout: Seconds | None = None,
        polling_interval: Seconds | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ) -> Run:
        """Wait for a run's end, in whatever process it is executed; answers it completed.

        The callbacks are live: they hear what happens while this waits and the run executes in this
        process, nothing from before; plain ones have returned before this does. One that raises
        harms nobody and is reported as an event handler is.

        Args:
            run_id: The run.
            timeout: How long to wait; the run goes on all the same. None waits for ever.
            polling_interval: How often to ask the store about runs of other processes, should no
                news of them come; default: the instance's.
            on_progress: Called with each progress that the job tells.
            on_log: Called with each log line that the job writes.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            RunFailedError, RunCancelledError: It ended so.
            WaitTimeoutError: It did not end in time; it goes on.
            ValidationError: `timeout` or `polling_interval` is no positive duration.
        """
        return await self.__runs.wait(
            run_id,
            timeout=timeout,
            polling_interval=polling_interval,
            on_progress=on_progress,
            on_log=on_log,
        )

    # Ending, sending back, removing

    async def cancel(self, run_id: str, /) -> Run:
        """End a run that has not ended. Once this returns it is cancelled for good.

        A step that is executing elsewhere learns of it at the next wake-up or heartbeat; nothing
        it does is stored any more.

        Raises:
            RunNotFoundError: There is no such run.
            ConflictError: It has ended already.
        """
        return await self.__runs.cancel(run_id)

    async def retry(self, run_id: str, /) -> Run:
        """Send a failed or cancelled run back to work: the same run, its checkpoints kept.

        Of the steps exactly those whose failure ended the run are executed again.

        Raises:
            RunNotFoundError: There is no such run.
            ConflictError: It is neither failed nor cancelled.
        """
        return await self.__runs.retry(run_id)

    async def retrigger(self, run_id: str, /) -> Run:
        """Start over: a new run with the (present) input, labels, key and priority of one that has ended.

        Raises:
            RunNotFoundError: There is no such run.
            JobNotFoundError: Its job is not registered here.
            ConflictError: It has not ended.
            ValidationError: Its input no longer fits the job.
        """
        return await self.__runs.retrigger(run_id)

    async def cancel_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
    ) -> int:
        """Cancel every run that matches and has not ended, in batches; answers how many."""
        return await self.__runs.cancel_many(run_filter(status, job_name, labels, where))

    async def retry_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = "failed",
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
    ) -> int:
        """Retry every run that matches and failed (or was cancelled), in batches; answers how many.

        Cancelled runs are retried only where `status` names them.
        """
        return await self.__runs.retry_many(run_filter(status, job_name, labels, where))

    async def signal(
        self,
        name: str,
        payload: object = None,
        /,
        *,
        run_id: str | None = None,
        key: str | None = None,
    ) -> None:
        """Send a signal to a run, or to whichever run waits for one with this key.

        Once this returns it is stored, and will be delivered once to a `wait_for_signal` of this
        name: now, or when the run comes to it. A signal by key that nobody takes is kept for a week.

        Args:
            name: The name that is waited for.
            payload: What the wait answers: JSON values, or anything pydantic can store.
            run_id: The run it is for.
            key: Or the key that its wait names.

        Raises:
            ValidationError: Not exactly one of `run_id` and `key`, or the payload cannot be stored.
            RunNotFoundError: There is no such run.
            ConflictError: The run has ended.
        """
        await self.__runs.signal(name, payload, run_id=run_id, key=key)

    async def delete_run(self, run_id: str, /) -> None:
        """Remove a run that has ended, with its steps, logs and labels.

        Raises:
            RunNotFoundError: There is no such run.
            ConflictError: It has not ended.
        """
        await self.__runs.delete(run_id)

    async def purge_runs(self, *, older_than: Seconds, limit: int = 500) -> int:
        """Remove up to `limit` runs that ended longer ago than `older_than`; answers how many."""
        return await self.__runs.purge(older_than=older_than, limit=limit)
