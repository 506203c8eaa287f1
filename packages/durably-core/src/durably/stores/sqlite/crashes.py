"""The death of an owner: whom to charge with it, and when a run is taken out of circulation.

The poison guard: a run that was running at two deaths in a row, with no new checkpoint or cursor of
its own in between, is a suspect. A death *counts* against a run only if nothing else can have caused it:
it was all that the worker held, or the only suspect among what it held.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from durably.models import Run, RunError
from durably.stores.sqlite.freeing import hand_back
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import run_at
from durably.stores.sqlite.rows import error_text
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.triggering import follow_failure
from durably.stores.sqlite.waits import child_ended

SQL = load("crashes")

DEATHS_OF_A_SUSPECT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run's deaths in a row without a new checkpoint or cursor."""

    crashes: int
    counted: int
    """Those that point at this run alone."""
    checkpoints: int
    """Finished steps at the last of them."""

    def is_suspect(self, checkpoints: int, *, has_new_cursor: bool = False) -> bool:
        """Whether the run, with this many finished steps now, must be executed alone."""
        has_advanced = has_new_cursor or checkpoints > self.checkpoints
        return self.crashes >= DEATHS_OF_A_SUSPECT and not has_advanced

    def after_death(self, checkpoints: int, *, counts: bool, has_new_cursor: bool = False) -> "Record":
        """The record with one more death; a new checkpoint or cursor begins a new series."""
        has_advanced = has_new_cursor or checkpoints > self.checkpoints
        return Record(
            crashes=1 if has_advanced else self.crashes + 1,
            counted=(0 if has_advanced else self.counted) + counts,
            checkpoints=checkpoints,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A run in the hands of a worker that is gone."""

    seq: int
    id: str
    is_running: bool
    expires_at: float
    record: Record
    checkpoints: int
    has_new_cursor: bool

    @property
    def is_suspect(self) -> bool:
        return self.record.is_suspect(self.checkpoints, has_new_cursor=self.has_new_cursor)


def take_over(session: Session, owner: str, *, by: str | None, max_crashes: int, dead: bool) -> Sequence[Run]:
    """Take from a worker what its leases no longer protect; answers the runs that are parked.

    Args:
        session: The transaction.
        owner: The worker that is gone.
        by: The worker that asks; one that finds its own leases run out has not died.
        max_crashes: How many counted deaths park a run.
        dead: Known to have died: then everything it holds is taken, at whatever time its leases end.
    """
    held = _held_by(session, owner)
    worker = session.row(SQL["find_worker"], {"worker_id": owner})
    state = None if worker is None else worker["state"]
    # Of a worker thought lost already, the runs taken then may have been the killers.
    conclusive = state != "lost"
    suspects = [run.seq for run in held if run.is_suspect]
    charged: list[tuple[str, int, int]] = []
    parked: list[Run] = []
    for run in held:
        if not dead and run.expires_at > session.now:
            continue
        if not run.is_running or owner == by or state == "draining":
            hand_back(session, run.seq)
            continue
        counts = conclusive and (len(held) == 1 or suspects == [run.seq])
        record = run.record.after_death(run.checkpoints, counts=counts, has_new_cursor=run.has_new_cursor)
        charged.append((run.id, int(counts), record.checkpoints))
        session.run(
            SQL["charge_run"],
            {
                "seq": run.seq,
                "crashes": record.crashes,
                "counted": record.counted,
                "checkpoints": record.checkpoints,
            },
        )
        if record.counted >= max_crashes:
            parked.append(_park(session, run.seq, record.counted))
        else:
            hand_back(session, run.seq)
        session.run(SQL["note_cursors"], {"seq": run.seq})
    if worker is not None and charged:
        earlier = json.loads(worker["charged"])
        session.run(SQL["lose_worker"], {"worker_id": owner, "charged": json.dumps(earlier + charged)})
    return parked


def give_back(session: Session, worker_id: str) -> None:
    """Take back what the runs of a worker were charged with: it was not dead after all."""
    worker = session.one(SQL["find_worker"], {"worker_id": worker_id})
    for run_id, counted, checkpoints in json.loads(worker["charged"]):
        session.run(SQL["give_back"], {"run_id": run_id, "counted": counted, "checkpoints": checkpoints})
    session.run(SQL["find_worker_again"], {"worker_id": worker_id})


def _held_by(session: Session, owner: str) -> Sequence[_Held]:
    return [
        _Held(
            seq=row["seq"],
            id=row["id"],
            is_running=row["status"] == "running",
            expires_at=row["lease_expires_at"],
            record=Record(
                crashes=row["crashes"], counted=row["counted_crashes"], checkpoints=row["steps_at_crash"]
            ),
            checkpoints=row["checkpoints"],
            has_new_cursor=bool(row["has_new_cursor"]),
        )
        for row in session.rows(SQL["held_runs"], {"worker_id": owner})
    ]


def _park(session: Session, seq: int, deaths: int) -> Run:
    step = session.row(SQL["step_at_death"], {"seq": seq})
    if step is None:
        where = "before its first step had finished"
    elif step["status"] == "running":
        where = f"while step {step['name']!r} was running"
    else:
        where = f"after step {step['name']!r} had finished"
    message = (
        f"{deaths} workers in a row died executing this run, without a new checkpoint, {where}; "
        "look for a crash of the interpreter or for memory running out, then retry the run"
    )
    row = session.row(
        SQL["park_run"],
        {
            "seq": seq,
            "error": error_text(RunError(type="WorkerCrashed", message=message)),
            "now": session.now,
            "change": session.next_change(),
        },
    )
    settle_key(session, key_of(row))
    parked = run_at(session, seq)
    child_ended(session, parked.id)
    follow_failure(session, parked)
    return parked
