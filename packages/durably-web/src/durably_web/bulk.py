"""The same with many runs: those that were selected, or all that fit what was asked for.

What travels is the question, not a list of ids. So a run that has changed meanwhile is left alone, one
that was created since is not touched, and never more runs are than the confirmation named.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from starlette.exceptions import HTTPException

from durably import ConflictError, Run, RunFilter, RunNotFoundError, RunStatus
from durably_web.search import Search, Wanted
from durably_web.visits import Visit

BulkAction: TypeAlias = Literal["retry", "cancel"]
Outcome: TypeAlias = Literal["done", "changed", "refused"]

MOST: Final = 1_000
"""Runs that one confirmation is good for."""
MOST_LOOKED_AT: Final = 10_000
"""Runs that are gone through for them, where many are not the visitor's to change."""
BATCH: Final = 50
"""Runs that are changed at a time: the writer has turns for others in between."""
PAGE: Final = 200

SOURCES: Final[Mapping[BulkAction, tuple[RunStatus, ...]]] = {
    "retry": ("failed", "cancelled"),
    "cancel": ("pending", "running", "waiting"),
}
"""The statuses in which it makes sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of them."""

    done: int = 0
    changed: int = 0
    """Those that were in another state by then."""

    @property
    def known(self) -> int:
        """Those that the visitor may know of."""
        return self.done + self.changed


NOTHING: Final = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """All runs that fit a question, as far as an action makes sense for them."""

    visit: Visit
    action: BulkAction
    wanted: Wanted

    @classmethod
    def of(cls, visit: Visit, action: BulkAction, search: Search) -> "Matching":
        """Those that the search means."""
        wanted = search.wanted(tuple(visit.durably.jobs), visit.now)
        sensible = wanted.filter & RunFilter(status=SOURCES[action])
        return cls(visit=visit, action=action, wanted=replace(wanted, filter=sensible))

    async def count(self) -> tuple[int, bool]:
        """How many the visitor may change, up to `MOST`; and whether there are more."""
        count = 0
        async for page in self._pages():
            for run in page:
                count += await self.visit.caller.may(self.action, run)
                if count > MOST:
                    return MOST, True
        return count, False

    async def apply(self, *, most: int) -> Tally:
        """Change them, the newest first; no more than `most`."""
        tally = Tally()
        async for page in self._pages():
            left = [run.id for run in page]
            while left and tally.known < most:
                size = min(BATCH, most - tally.known)
                tally = await apply(self.visit, self.action, left[:size], tally)
                left = left[size:]
            if tally.known >= most:
                break
        return tally

    async def _pages(self) -> AsyncIterator[Sequence[Run]]:
        """The runs that fit, in pages; no more than are to be looked at."""
        if self.wanted.text:
            async for page in self._found():
                yield page
            return
        before, looked_at = None, 0
        while looked_at < MOST_LOOKED_AT:
            page = await self.visit.caller.runs(self.wanted.filter, limit=PAGE, before=before)
            if page:
                yield page
            if len(page) < PAGE:
                return
            before, looked_at = page[-1].position, looked_at + PAGE

    async def _found(self) -> AsyncIterator[Sequence[Run]]:
        """The runs with a text: those that a page of the list would find, and what follows there."""
        cursor, searches = None, 0
        while searches < MOST_LOOKED_AT / PAGE:
            found = await self.visit.caller.search(
                self.wanted.text, by=self.wanted.by, asked=self.wanted.filter, limit=PAGE, cursor=cursor
            )
            if found.runs:
                yield found.runs
            # Where a search came to its end without a page full, it has looked as far as the list does.
            if found.cursor is None or len(found.runs) < PAGE:
                return
            cursor, searches = found.cursor, searches + 1


async def apply(visit: Visit, action: BulkAction, run_ids: Sequence[str], tally: Tally = NOTHING) -> Tally:
    """Change these runs, each as the visitor; in batches. Those that are not theirs are not counted."""
    for first in range(0, len(run_ids), BATCH):
        batch = run_ids[first : first + BATCH]
        outcomes = await asyncio.gather(*(_applied(visit, action, run_id) for run_id in batch))
        tally = Tally(
            done=tally.done + outcomes.count("done"), changed=tally.changed + outcomes.count("changed")
        )
    return tally


async def _applied(visit: Visit, action: BulkAction, run_id: str) -> Outcome:
    try:
        await (visit.caller.retry(run_id) if action == "retry" else visit.caller.cancel(run_id))
    except ConflictError:
        return "changed"
    except RunNotFoundError:
        return "refused"
    except HTTPException as error:
        if error.status_code in {403, 404}:
            return "refused"
        raise
    return "done"
