"""The right to a run while it lasts: what an owner may write, until when, and what ends it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from durably.bus import Bus
from durably.doorbell import Doorbell
from durably.environment import Environment, ThreadPool
from durably.errors import StoreError
from durably.events import (
    LogWritten,
    RunFailed,
    RunProgressed,
    RunTriggered,
    StepSubject,
    WorkerError,
    subject,
)
from durably.insistence import insist
from durably.journal import NO_PAGE, Journal, Page
from durably.lifecycle import Interruption
from durably.models import Progress, Run, RunError
from durably.options import Limits
from durably.resources import Resources
from durably.stores.base import Store
from durably.stores.follow_ups import follow_up_id
from durably.stores.values import Answer, Claim, Lease, Notes, StepRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What an execution needs around it."""

    store: Store
    bus: Bus
    environment: Environment
    threads: ThreadPool
    limits: Limits
    resources: Resources
    work: Doorbell
    """Rings when something may have become ready, or a wait may have ended."""
    persist_logs: bool
    keep_results: bool

    def tell_failed(self, run: Run, error: RunError) -> None:
        """Tell that a run has failed, and of the run that was stored with the failure."""
        self.bus.publish(RunFailed(**subject(run), error=error))
        if run.on_failure:
            self.bus.publish(RunTriggered(run_id=follow_up_id(run), job_name=run.on_failure[0]))


class Tenure:
    """A claimed run in the hands of this worker.

    Guarantees that nothing is written past the lease's deadline on the monotonic clock, and that
    trouble of the store is never the job's.
    """

    def __init__(
        self, claim: Claim, engine: Engine, *, deadline: float, journal_filled: Callable[[], None]
    ) -> None:
        self.run: Run = claim.run
        self.lease: Lease = claim.lease
        self.deadline: float = deadline
        """The monotonic instant at which the lease runs out unless it is renewed."""
        self.interruption: Interruption | None = None
        self.has_ended: bool = False
        self.root: asyncio.Task[object] | None = None
        self.journal: Journal = Journal(
            claim.last_sequence, filled=journal_filled, keeps_logs=engine.persist_logs
        )
        self._engine = engine

    def interrupt(self, why: Interruption) -> None:
        """End the execution from outside; the first reason stays.

        Only the root task is cancelled: in a child, a TaskGroup would take the cancellation for
        its own and complete normally (S1).
        """
        if self.interruption is None and not self.has_ended:
            self.interruption = why
            if self.root is not None:
                self.root.cancel()

    # Writing

    async def write(
        self,
        context: str,
        write: Callable[[int, Notes], Coroutine[object, object, Answer]],
        *,
        numbers: int = 1,
    ) -> None:
        """Write steps under fresh numbers, and the notes of the moment.

        Each try has numbers of its own: in trouble a later write may have gone before it, and
        nothing may appear below what has been seen.
        """
        page = NO_PAGE

        def attempt() -> Coroutine[object, object, Answer]:
            nonlocal page
            first = self.journal.number(numbers)
            page = self.journal.page()
            return write(first, page.notes)

        try:
            answer = await self.insist(context, attempt)
        except StoreError:
            # Not the job's error: let the run go, so that it resumes once the store is well.
            answer = "lost"
        if answer != "applied":
            self.interrupt(answer)
            raise asyncio.CancelledError(f"run {self.run.id}: {answer}")
        self.publish_page(page)

    async def insist(self, context: str, write: Callable[[], Coroutine[object, object, T]]) -> T:
        """Write, again and again while the store is in trouble, as long as the lease lasts.

        Raises:
            StoreError: The trouble outlasted the lease, or will not pass.
        """
        if self._engine.environment.monotonic() >= self.deadline:
            self.interrupt("lost")
            raise asyncio.CancelledError(f"run {self.run.id}: lost")
        return await insist(
            write,
            until=lambda: self.deadline,
            environment=self._engine.environment,
            report=partial(self.report, context),
        )

    def report(self, context: str, error: BaseException) -> None:
        """Tell of trouble that is not the job's."""
        self._engine.bus.publish(WorkerError(context=context, error=error, run_id=self.run.id))

    async def flush(self, *, started_before: float) -> None:
        """Write what the journal holds, steps that started after this instant excepted.

        Raises:
            asyncio.CancelledError: As `save`.
        """
        marks = self.journal.marks(started_before=started_before)

        def write(first: int, notes: Notes) -> Coroutine[object, object, Answer]:
            started = [replace(mark, sequence=number) for number, mark in enumerate(marks, first)]
            return self._engine.store.note(self.lease, replace(notes, started=started))

        has_news = self.journal.has_news
        page = self.journal.page()
        if marks or (has_news and page.notes):
            await self.write("notes", write, numbers=len(marks))
        elif has_news:
            # Lines that are told and not kept.
            self.publish_page(page)

    # Telling

    def publish_page(self, page: Page) -> None:
        """Tell of notes that are committed now; not after the events of whoever has claimed the run since."""
        self._engine.bus.written(self.run.id)
        entries = self.journal.written(page)
        if self.interruption == "lost":
            return
        about = subject(self.run)
        for entry in entries:
            if isinstance(entry, Progress):
                self._engine.bus.publish(RunProgressed(**about, progress=entry))
            else:
                self._engine.bus.publish(
                    LogWritten(
                        **about,
                        level=entry.level,
                        message=entry.message,
                        fields=entry.fields,
                        step_name=entry.step_name,
                    )
                )

    def about(self, step: StepRecord) -> StepSubject:
        """What every event about this step says of it."""
        return {**subject(self.run), "step_name": step.name, "attempt": step.attempt}
