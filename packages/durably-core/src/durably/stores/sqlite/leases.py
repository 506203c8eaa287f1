"""Keeping runs, and handing them back."""

from collections.abc import Mapping, Sequence

from durably.stores.sqlite.checkpoints import standing
from durably.stores.sqlite.crashes import give_back
from durably.stores.sqlite.freeing import hand_back
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.session import Session, Value
from durably.stores.values import Answer, Lease

SQL = load("leases")


def renew(
    session: Session, worker_id: str, leases: Sequence[Lease], lease_seconds: float
) -> Mapping[str, Answer]:
    """Extend the leases and note the heartbeat; answers the refused ones."""
    refused: dict[str, Answer] = {}
    for lease in leases:
        row = session.row(SQL["renew_lease"], {**_fence(lease), "expires_at": session.now + lease_seconds})
        if row is None or row["status"] != "running":
            refused[lease.run_id] = "lost" if row is None and not _cancelled(session, lease) else "cancelled"
    worker = session.row(SQL["beat"], {"worker_id": worker_id, "now": session.now})
    if worker is not None and worker["state"] == "lost":
        give_back(session, worker_id)
    return refused


def check(session: Session, leases: Sequence[Lease]) -> Mapping[str, Answer]:
    """The leases that are no longer good."""
    refused: dict[str, Answer] = {}
    for lease in leases:
        answer = standing(session, lease)
        if answer != "applied":
            refused[lease.run_id] = answer
    return refused


def release(session: Session, leases: Sequence[Lease]) -> None:
    """Hand runs back; of cancelled ones let go of the key."""
    for lease in leases:
        row = session.row(SQL["find_leased"], _fence(lease))
        if row is not None:
            hand_back(session, row["seq"])


def disown(session: Session, worker_id: str, keep: Sequence[Lease]) -> None:
    """Hand back everything this worker owns but what it knows of."""
    kept = {(lease.run_id, lease.generation) for lease in keep}
    for row in session.rows(SQL["owned_runs"], {"worker_id": worker_id}):
        if (row["id"], row["lease_generation"]) not in kept:
            hand_back(session, row["seq"])


def hold(session: Session, leases: Sequence[Lease], seconds: float) -> None:
    """Extend the leases for threads that cannot be stopped, and mark their worker draining."""
    for lease in leases:
        session.row(SQL["renew_lease"], {**_fence(lease), "expires_at": session.now + seconds})
    for worker_id in {lease.worker_id for lease in leases}:
        session.run(SQL["drain_worker"], {"worker_id": worker_id})


def _fence(lease: Lease) -> dict[str, Value]:
    return {"run_id": lease.run_id, "generation": lease.generation, "worker_id": lease.worker_id}


def _cancelled(session: Session, lease: Lease) -> bool:
    return standing(session, lease) == "cancelled"
