"""Claiming: promote what has fallen due, then take ready runs by rank."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from durably.models import Run
from durably.stores.sqlite.attempts import failures_of
from durably.stores.sqlite.crashes import DEATHS_OF_A_SUSPECT, take_over
from durably.stores.sqlite.freeing import hand_back
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.reads import run_at
from durably.stores.sqlite.rows import to_step_record
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.waits import end_what_can_end
from durably.stores.values import Claim, Claimed, ClaimRequest, Lease

SQL = load("claims")

LARGEST_PROMOTION = 500
"""Timers looked at in one transaction; a claim that leaves some says so by `wake_in=0`."""


def nothing_to_claim(session: Session, request: ClaimRequest) -> Claimed | None:
    """The answer to a claim that would find nothing; None if it would have something to do."""
    wake_in = _wake_in(session)
    if wake_in == 0:
        return None
    if request.limit > 0:
        for job_name in request.jobs:
            if session.row(SQL["is_job_ready"], {"job_name": job_name}) is not None:
                return None
    return Claimed(wake_in=wake_in)


def claim(session: Session, request: ClaimRequest) -> Claimed:
    """Promote, then claim."""
    parked = _promote(session, request)
    claims: list[Claim] = []
    more = False
    for seq, suspect in _candidates(session, request):
        if suspect and claims:
            # It has to be claimed alone, and is the first in rank once these are taken.
            more = True
            break
        claimed = _take(session, seq, request, suspect=suspect)
        if claimed is not None:
            claims.append(claimed)
        if suspect and claims:
            break
    return Claimed(claims=claims, parked=parked, wake_in=0 if more else _wake_in(session))


def _wake_in(session: Session) -> float | None:
    row = session.row(SQL["earliest_timer"])
    return None if row is None else max(0.0, row["timer_at"] - session.now)


def _promote(session: Session, request: ClaimRequest) -> Sequence[Run]:
    due = session.rows(SQL["due_timers"], {"now": session.now, "limit": LARGEST_PROMOTION})
    silent: dict[str, None] = {}
    for row in due:
        if row["lease_owner"] is None:
            hand_back(session, row["seq"])
        else:
            # The runs of one owner are judged together: which of them killed it?
            silent[row["lease_owner"]] = None
    parked: list[Run] = []
    for owner in silent:
        parked += take_over(session, owner, by=request.worker_id, max_crashes=request.max_crashes, dead=False)
    return parked


def _candidates(session: Session, request: ClaimRequest) -> Iterator[tuple[int, bool]]:
    """Ready runs of the known jobs by rank, at most `limit`, and whether each is a suspect."""
    if request.limit <= 0:
        return
    found = [
        tuple(row)
        for job_name in request.jobs
        for row in session.rows(SQL["ready_runs"], {"job_name": job_name, "limit": request.limit})
    ]
    for _, seq, crashes in sorted(found)[: request.limit]:
        # The stored number may be from before its newest checkpoint; the snapshot knows better.
        yield seq, crashes >= DEATHS_OF_A_SUSPECT and run_at(session, seq).crashes >= DEATHS_OF_A_SUSPECT


def _take(session: Session, seq: int, request: ClaimRequest, *, suspect: bool) -> Claim | None:
    taken = session.run(
        SQL["claim_run"],
        {
            "seq": seq,
            "worker_id": request.worker_id,
            "expires_at": session.now + request.lease_seconds,
            "now": session.now,
            "change": session.next_change(),
        },
    )
    if not taken:
        # Its key has a holder: then it must not stand in the ready index.
        settle_key(session, key_of(session.row(SQL["find_key"], {"seq": seq})))
        return None
    run = run_at(session, seq)
    lease = Lease(run.id, run.lease_generation, request.worker_id)
    claim = Claim(run=run, lease=lease, steps=(), last_sequence=0, suspect=suspect)
    if run.lease_generation == 1:
        # Nobody had it before, so it has neither steps nor logs.
        return claim
    end_what_can_end(session, seq)
    rows = session.rows(SQL["steps_of_run"], {"seq": seq})
    steps = [replace(to_step_record(row), cursor_json=row["cursor"]) for row in rows]
    if any(step.status == "running" for step in steps):
        failures = failures_of(session, seq)
        steps = [replace(step, failures=failures.get(step.name, 0)) for step in steps]
    logged = session.one(SQL["last_sequence"], {"seq": seq})
    last = max([logged[0], *(step.sequence for step in steps)])
    return replace(claim, steps=steps, last_sequence=last)
