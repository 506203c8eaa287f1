"""Workers: who is there, who is gone."""

import json
from collections.abc import Sequence
from functools import partial

from durably.models import Run
from durably.stores.sqlite.crashes import take_over
from durably.stores.sqlite.keys import headless_keys, settle_key
from durably.stores.sqlite.presence import Presence
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.session import Session
from durably.stores.values import Claimed, NewWorker

SQL = load("workers")

SILENCE_UNTIL_FORGOTTEN = 24 * 3600.0
"""Seconds without a heartbeat after which a worker that holds nothing is taken off the list."""


def add_worker(session: Session, presence: Presence, worker: NewWorker) -> None:
    """List the worker, with its presence lock where its death can be seen."""
    lock = presence.take(worker.id) if worker.host else None
    session.run(
        SQL["add_worker"],
        {
            "id": worker.id,
            "host": worker.host,
            "pid": worker.pid,
            "slots": worker.slots,
            "jobs": json.dumps(list(worker.jobs)),
            "now": session.now,
            "presence": lock,
        },
    )


def remove_worker(session: Session, presence: Presence, worker_id: str) -> None:
    """Take the worker off the list, unless it drains."""
    if session.run(SQL["remove_worker"], {"worker_id": worker_id}):
        session.after_commit(lambda: presence.drop(worker_id))


def nobody_dead(session: Session, presence: Presence, host: str) -> Claimed | None:
    """An empty answer while everybody who can be judged is alive."""
    return None if _dead(session, presence, host) else Claimed()


def bury_dead(session: Session, presence: Presence, host: str, max_crashes: int) -> Claimed:
    """Take the runs of dead workers, and the workers off the list."""
    dead = _dead(session, presence, host)
    parked = [run for worker_id, _ in dead for run in _bury(session, worker_id, max_crashes)]
    for _, lock in dead:
        session.after_commit(partial(presence.bury, lock))
    return Claimed(parked=parked, wake_in=0 if dead else None)


def nothing_to_mend(session: Session) -> int | None:
    """0 while every queue has a head and no worker has been silent for long."""
    silent = session.row(SQL["find_silent_worker"], {"before": session.now - SILENCE_UNTIL_FORGOTTEN})
    return None if silent is not None or headless_keys(session) else 0


def sweep(session: Session) -> int:
    """Give every queue a head; answers how many had none."""
    session.run(SQL["forget_silent_workers"], {"before": session.now - SILENCE_UNTIL_FORGOTTEN})
    headless = headless_keys(session)
    for key in headless:
        settle_key(session, key)
    return len(headless)


def _bury(session: Session, worker_id: str, max_crashes: int) -> Sequence[Run]:
    parked = take_over(session, worker_id, by=None, max_crashes=max_crashes, dead=True)
    session.run(SQL["bury_worker"], {"worker_id": worker_id})
    return parked


def _dead(session: Session, presence: Presence, host: str) -> Sequence[tuple[str, str]]:
    """Dead workers of this host and boot, with the files that tell."""
    if not host:
        return []
    return [
        (row["id"], row["presence"])
        for row in session.rows(SQL["present_workers"], {"host": host})
        if not presence.holds(row["id"]) and presence.is_dead(row["presence"])
    ]
