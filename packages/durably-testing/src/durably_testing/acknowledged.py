"""What the outside was told, and what must therefore be true: the ledger of a state machine."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from durably import Run, RunStatus

_RUNS = """SELECT run.id, run.status, run.completed_at, (
  SELECT count(*) FROM durably_steps AS step WHERE step.run_seq = run.seq AND step.status IN ('completed', 'failed')
) FROM durably_runs AS run"""
_FAMILY = """WITH RECURSIVE family (id) AS (
  SELECT :id UNION SELECT run.id FROM durably_runs AS run JOIN family ON run.parent_id = family.id
) SELECT id FROM family"""


@dataclass(frozen=True, slots=True)
class _Row:
    status: RunStatus
    completed_at: float | None
    checkpoints: int


class Acknowledged:
    """Remembers what calls have returned, and says what contradicts it.

    Args:
        connection: The database, to look at beside the engine.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._seen: set[str] = set()
        self._cancelled: dict[str, int] = {}
        self._holders: dict[tuple[str, str], str] = {}

    def triggered(self, run: Run) -> str | None:
        """`trigger` answered with this run; answers what is wrong with it."""
        self._seen.add(run.id)
        if run.idempotency_key is None or run.disposition == "coalesced":
            return None
        key = (run.job_name, run.idempotency_key)
        holder = self._holders.get(key)
        self._holders[key] = run.id
        if holder in {None, run.id} or holder not in self._seen:
            return None
        return f"idempotency key {key[1]!r} of {key[0]} answered with run {run.id}, and before with {holder}"

    def cancelled(self, run_id: str) -> None:
        """`cancel` returned."""
        row = self._rows().get(run_id)
        if row is not None:
            self._cancelled[run_id] = row.checkpoints

    def retried(self, run_id: str) -> None:
        """`retry` returned: what was cancelled of this run and its children may live again."""
        for (id,) in self._connection.execute(_FAMILY, {"id": run_id}):
            self._cancelled.pop(id, None)

    def deleted(self, run_id: str) -> None:
        """`delete_run` returned."""
        self._forget(run_id)

    def to_purge(self, ended_before: float) -> frozenset[str]:
        """What a purge of what ended before this instant may remove."""
        return frozenset(
            id
            for id, row in self._rows().items()
            if row.completed_at is not None and row.completed_at < ended_before
        )

    def purged(self, allowed: frozenset[str]) -> None:
        """`purge_runs` returned."""
        for id in allowed - self._rows().keys():
            self._forget(id)

    def contradictions(self) -> Sequence[str]:
        """What is not as somebody was told."""
        rows = self._rows()
        found = [f"run {id} was acknowledged and is not there" for id in sorted(self._seen - rows.keys())]
        for id, checkpoints in self._cancelled.items():
            row = rows.get(id)
            if row is None:
                continue
            if row.status != "cancelled":
                found.append(f"run {id} was cancelled for good and is {row.status}")
            elif row.checkpoints != checkpoints:
                found.append(f"run {id} got a checkpoint after it had been cancelled for good")
        self._seen |= rows.keys()
        return found

    def _forget(self, run_id: str) -> None:
        self._seen.discard(run_id)
        self._cancelled.pop(run_id, None)

    def _rows(self) -> Mapping[str, _Row]:
        return {id: _Row(*values) for id, *values in self._connection.execute(_RUNS)}
