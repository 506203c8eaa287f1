"""The verbs of those who look on: explain, and subscribe."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from durably.errors import RunNotFoundError, ValidationError
from durably.explain import Explanation, explain
from durably.filters import RunFilter, run_filter
from durably.following import RunsSubscription, RunSubscription, Subscription, Surroundings
from durably.models import RunStatus
from durably.options import instant
from durably.statistics import Statistics
from durably.updates import RunsUpdate, RunUpdate

MOST_SHOWN = 100
MOST_SUMMARISED = 10_000


class Watchable:
    """Runs that can be watched, from whatever process."""

    def __init__(self, surroundings: Surroundings, *, lease_seconds: float) -> None:
        self.__around = surroundings
        self.__lease_seconds = lease_seconds

    async def explain(self, run_id: str, /) -> Explanation:
        """Why is this run not running? One answer, as of now; `str` of it is a sentence for people.

        A worker counts as alive if it was heard from within `stale_threshold`.

        Raises:
            RunNotFoundError: There is no such run.
        """
        facts = await self.__around.store.facts(run_id)
        if facts is None:
            raise RunNotFoundError(run_id)
        return explain(facts, lease_seconds=self.__lease_seconds)

    async def get_statistics(
        self,
        *,
        since: datetime,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
        parts: int = 48,
        cap: int = MOST_SUMMARISED,
    ) -> Statistics:
        """How runs ended since an instant: counts by job, durations, and their course in time.

        It costs no more than `cap` runs: of more than that, the newest are looked at.

        Args:
            since: Only runs that ended at this instant or later (timezone-aware).
            job_name: One or several; None and empty mean any.
            labels: All of them must match.
            where: Only runs that fit this filter too.
            parts: Into how many parts of equal length the time is divided.
            cap: How many runs are looked at.

        Raises:
            ValidationError: A filter, the instant, `parts` or `cap` cannot be used.
        """
        begin = instant(since, "since")
        for name, number in (("parts", parts), ("cap", cap)):
            if isinstance(number, bool) or number < 1:
                raise ValidationError(f"{name} must be at least 1", fields=(name,))
        wanted = run_filter(("completed", "failed", "cancelled"), job_name, labels, where)
        until, jobs, is_whole = await self.__around.store.endings(wanted, since=begin, parts=parts, cap=cap)
        return Statistics(
            since=since,
            until=datetime.fromtimestamp(until, UTC),
            jobs=tuple(jobs),
            is_whole=is_whole,
        )

    def subscribe(
        self, run_id: str, /, *, after: str | None = None, replay: bool = True
    ) -> Subscription[RunUpdate]:
        """Follow a run to its end, in whatever process it is executed.

            async for update in durably.subscribe(run.id): ...

        First its present state, then every step and every log line in order, without a gap and
        without repetition, and the run again whenever it has changed. Of the run and of each step
        the latest state is told, not every state that it went through. Ends once the run has ended
        and everything before has been told, or with `RunVanished` if it is deleted.

        A slow consumer loses nothing and holds nothing up. A step shorter than some 100 ms is told
        when it has ended only. Of a run that goes on as new (`Run.link` rises) the steps of its past
        links are gone, and not told any more.

        Args:
            run_id: The run.
            after: The `cursor` of an update: go on with the next one.
            replay: Whether the steps and lines that are there already are told, where `after` does not
                say from where.

        Raises:
            ValidationError: `after` is no cursor of a run.
            RunNotFoundError: There is no such run; raised when the first update is asked for.
            NotRunningError: The instance was closed meanwhile.
        """
        return RunSubscription(self.__around, run_id, after, replay=replay)

    def subscribe_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        where: RunFilter | None = None,
        limit: int = MOST_SHOWN,
        after: str | None = None,
    ) -> Subscription[RunsUpdate]:
        """Follow all runs that fit, in whatever process they are executed; does not end by itself.

        First the newest ones, as `RunsSnapshot`; then a `RunSnapshot` for each run that has changed
        and fits, also beyond those. A run that changed several times since the consumer last asked
        is told once, as it stands. With `status`, a run that leaves it is not told: to keep a list,
        filter by status on your side. Deletions are not told.

        Args:
            status: One or several; None and empty mean any.
            job_name: One or several; None and empty mean any.
            labels: All of them must match.
            where: Only runs that fit this filter too.
            limit: How many runs the first update shows at most.
            after: The `cursor` of an update: go on with the next change instead of the first update.

        Raises:
            ValidationError: A filter, the limit or the cursor cannot be used.
            NotRunningError: The instance was closed meanwhile.
        """
        if isinstance(limit, bool) or limit < 0:
            raise ValidationError("limit must not be negative", fields=("limit",))
        filter = run_filter(status, job_name, labels, where)
        return RunsSubscription(self.__around, filter, limit=limit, after=after)
