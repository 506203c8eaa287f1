"""Who changed what, or tried to: told to the application."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from starlette.exceptions import HTTPException

from durably import ConflictError, Run
from durably_web.auth import RunOperation
from durably_web.hooks import settle

Ctx = TypeVar("Ctx")

Action: TypeAlias = RunOperation | Literal["trigger"]
Outcome: TypeAlias = Literal["done", "refused", "conflict"]

logger: logging.Logger = logging.getLogger("durably.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Generic[Ctx]):
    """A change that somebody made, or was kept from.

    Nothing is told of runs that are not there for them, and of what could not be understood.
    """

    ctx: Ctx
    """Who, as `authenticate` answered it."""
    action: Action
    outcome: Outcome
    """`refused`: they may not; `conflict`: they may, but the run is not in a state for it, or a key is
    taken."""
    job_name: str
    run: Run | None
    """The run it was done to, as it was before; of a trigger or retrigger that was done: the run that
    answers it. None of a trigger that was not."""


class Audit(Generic[Ctx]):
    """Tells what one visitor does.

    Args:
        hook: Whom it is told to. What goes wrong there is logged, and changes no answer.
        ctx: The visitor.
    """

    def __init__(self, hook: Callable[[AuditEntry[Ctx]], object] | None, ctx: Ctx) -> None:
        self._hook = hook
        self._ctx = ctx

    async def note(
        self, action: Action, job_name: str, run: Run | None, *, outcome: Outcome = "done"
    ) -> None:
        """Tell of one change."""
        if self._hook is None:
            return
        entry = AuditEntry(ctx=self._ctx, action=action, outcome=outcome, job_name=job_name, run=run)
        try:
            await settle(self._hook(entry))
        except Exception:
            run_id = None if run is None else run.id
            logger.exception("audit failed: %s of job %s, run %s: %s", action, job_name, run_id, outcome)

    @asynccontextmanager
    async def of(self, action: Action, job_name: str, run: Run | None = None) -> AsyncGenerator[None]:
        """Tell if what is tried within is refused, or cannot be done now."""
        try:
            yield
        except ConflictError:
            await self.note(action, job_name, run, outcome="conflict")
            raise
        except HTTPException as error:
            if error.status_code in {403, 409}:
                outcome: Outcome = "refused" if error.status_code == 403 else "conflict"
                await self.note(action, job_name, run, outcome=outcome)
            raise
