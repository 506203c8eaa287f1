"""Beginning waits, and parking a run on them."""

from collections.abc import Sequence

from durably.errors import ConflictError, ValidationError
from durably.models import TERMINAL_STATUSES
from durably.stores.sqlite.checkpoints import standing, write_notes
from durably.stores.sqlite.freeing import hand_back
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.rows import to_step_record
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.triggering import enqueue
from durably.stores.sqlite.waits import end, is_over
from durably.stores.values import Answer, Lease, Notes, Settled, StepRecord, Wait

SQL = load("waits")


def nothing_to_settle(session: Session, lease: Lease, waits: Sequence[Wait], notes: Notes) -> Settled | None:
    """The waits as they stand, if not one of them begins or ends now."""
    if notes or standing(session, lease) != "applied":
        return None
    row = session.one(SQL["find_owned"], {"run_id": lease.run_id, "generation": lease.generation})
    steps: list[StepRecord] = []
    for wait in waits:
        found = session.row(SQL["find_wait"], {"seq": row["seq"], "name": wait.step.name})
        if found is None:
            return None
        step = to_step_record(found)
        if step.kind != wait.step.kind or (step.status == "running" and is_over(session, row["seq"], step)):
            return None
        steps.append(step)
    return Settled(answer="applied", steps=steps)


def settle(session: Session, lease: Lease, waits: Sequence[Wait], notes: Notes) -> Settled:
    """Begin waits that have not begun, end those that can end; answers them as they stand."""
    row = session.row(SQL["find_owned"], {"run_id": lease.run_id, "generation": lease.generation})
    if row is None:
        return Settled(answer=standing(session, lease))
    write_notes(session, lease, notes)
    return Settled(answer="applied", steps=[_begin(session, row["seq"], lease, wait) for wait in waits])


def suspend(
    session: Session, lease: Lease, waits: Sequence[Wait], notes: Notes, *, until: float | None
) -> Answer:
    """Park the run on its waits, at most until an instant; it goes on at once if one has ended already."""
    settled = settle(session, lease, waits, notes)
    if settled.answer != "applied":
        return settled.answer
    row = session.one(SQL["find_owned"], {"run_id": lease.run_id, "generation": lease.generation})
    if any(step.status != "running" for step in settled.steps):
        hand_back(session, row["seq"])
        return "applied"
    ends = [end for end in (until, *(step.wake_at for step in settled.steps)) if end is not None]
    keyed = session.row(
        SQL["suspend_run"],
        {
            "seq": row["seq"],
            "wake_at": min(ends, default=None),
            "now": session.now,
            "change": session.next_change(),
        },
    )
    settle_key(session, key_of(keyed))
    return "applied"


def _begin(session: Session, seq: int, lease: Lease, wait: Wait) -> StepRecord:
    step = wait.step
    if wait.child is not None:
        if step.kind == "child":
            key = (wait.child.key_scope, wait.child.concurrency_key)
            _refuse_an_ancestors_key(session, lease.run_id, step, key)
        enqueue(session, [wait.child])
    elif wait.joins is not None:
        _refuse_a_stranger(session, lease.run_id, step, wait.joins)
    session.run(
        SQL["begin_wait"],
        {
            "seq": seq,
            "name": step.name,
            "position": step.position,
            "attempt": step.attempt,
            "sequence": step.sequence,
            "started_at": step.started_at,
            "kind": step.kind,
            "wake_at": step.wake_at,
            "signal_key": step.signal_key,
            "child_id": step.child_id,
        },
    )
    present = to_step_record(session.one(SQL["find_wait"], {"seq": seq, "name": step.name}))
    return end(session, seq, present, sequence=step.sequence) if present.status == "running" else present


def _refuse_a_stranger(session: Session, run_id: str, step: StepRecord, job_name: str) -> None:
    """A run is joined by whoever spawned it. One that is not there may have been, and was deleted since."""
    child = session.row(SQL["find_child"], {"child_id": step.child_id})
    if child is None:
        return
    if child["parent_id"] != run_id:
        raise ValidationError(
            f"step {step.name!r} cannot join run {step.child_id}, which is no child of run {run_id}: join "
            "takes the id that step.spawn answered",
            fields=("child_id",),
        )
    if child["job_name"] != job_name:
        raise ValidationError(
            f"step {step.name!r} cannot join run {step.child_id} as a {job_name!r}: it executes "
            f"{child['job_name']!r}",
            fields=("job",),
        )
    if child["status"] not in TERMINAL_STATUSES:
        _refuse_an_ancestors_key(session, run_id, step, (child["key_scope"], child["concurrency_key"]))


def _refuse_an_ancestors_key(
    session: Session, run_id: str, step: StepRecord, key: tuple[str | None, str | None]
) -> None:
    """A child that queues behind its own ancestor would wait for ever."""
    if key[1] is None:
        return
    ancestor = session.row(SQL["find_key_of"], {"run_id": run_id})
    while ancestor is not None:
        if ancestor["holds_key"] and key_of(ancestor) == key:
            message = (
                f"child {step.name!r} asks for the concurrency key {key[1]!r}, which run "
                f"{ancestor['id']} keeps while it waits for it; use another key, or spawn the child and do not wait for it"
            )
            raise ConflictError(message, run_id=ancestor["id"], status="running")
        ancestor = session.row(SQL["find_key_of"], {"run_id": ancestor["parent_id"]})
