"""Planted bugs of the engine, switched on from outside: the suite must find every one.

Each patches one place of the engine or one statement of its store for the length of a test. The
product knows nothing of them.
"""

# A bug is planted where nobody else has business.
# pyright: reportPrivateUsage=false, reportUnknownVariableType=false, reportUnknownMemberType=false

import asyncio
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from durably import attempts as engine_attempts
from durably import context, execution, executor, mapping, tenure
from durably.codec import Codec
from durably.errors import StepOutsideRunError, StoreError
from durably.events import RunCompleted, StepCompleted, subject
from durably.stores.sqlite import (
    SqliteStore,
    checkpoints,
    claims,
    crashes,
    freeing,
    leases,
    suspension,
    triggering,
    waits,
)
from durably.stores.values import Completed, Lease, Notes, StepRecord

Apply = Callable[[pytest.MonkeyPatch], object]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A planted bug."""

    sentence: str
    """What is wrong with the engine."""
    apply: Apply
    found_by: Sequence[str]
    """The reference jobs one of which shows it."""


def sql(module: types.ModuleType, name: str, old: str, new: str) -> Apply:
    """Change a statement, wherever the store has it."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        statement = module.SQL[name]
        assert old in statement, f"{name} has no {old!r} any more"
        patch.setitem(module.SQL, name, statement.replace(old, new))

    return apply


def attribute(owner: object, name: str, value: object) -> Apply:
    """Change a function or a constant."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        assert hasattr(owner, name)
        patch.setattr(owner, name, value)

    return apply


def both(*changes: Apply) -> Apply:
    """Several changes that make one bug."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for change in changes:
            change(patch)

    return apply


# ------------------------------------------------------------------ the bugs that need code


async def _save_later(self: SqliteStore, lease: Lease, step: StepRecord, notes: Notes, /) -> str:
    async def save() -> None:
        await asyncio.sleep(0.5)
        await self.database.write(lambda session: checkpoints.save_step(session, lease, step, notes))

    _kept.append(asyncio.get_running_loop().create_task(save()))
    return "applied"


_kept: list[object] = []


async def _trigger_later(self: SqliteStore, runs: Any, /) -> Any:
    real = _ENQUEUE(self, runs)
    enqueued = await real
    ids = [run.id for run in enqueued.runs]

    def forget(session: Any) -> None:
        for id in ids:
            session.run("DELETE FROM durably_runs WHERE id = :id AND lease_generation = 0", {"id": id})

    async def write_anew() -> None:
        await asyncio.sleep(0.5)
        await _ENQUEUE(self, runs)

    await self.database.write(forget)
    _kept.append(asyncio.get_running_loop().create_task(write_anew()))
    return enqueued


_ENQUEUE = SqliteStore.enqueue


async def _tell_first(self: engine_attempts.Attempts, started: StepRecord, text: str, value: object) -> None:
    about = self._execution.about(started)
    self._engine.bus.publish(StepCompleted(**about, output=value, duration=0.0))
    await self._execution.save(started, "completed", result_json=text)


async def _finish_first(self: executor.Executor, run: execution.Execution, outcome: Any) -> bool:
    about = subject(run.run)
    if isinstance(outcome, Completed):
        self._engine.bus.publish(RunCompleted(**about, output=None, duration=0.0))
    return await _FINISH(self, run, outcome)


_FINISH = executor.Executor._finish


def _live_without_fence(self: execution.Execution) -> None:
    if self.interruption is not None:
        raise asyncio.CancelledError
    if self.has_ended or execution.current_execution.get() is not self:
        raise StepOutsideRunError(self.run.id)


def _without_steps(session: Any, request: Any) -> Any:
    claimed = _CLAIM(session, request)
    return replace(claimed, claims=[replace(claim, steps=()) for claim in claimed.claims])


_CLAIM = claims.claim


async def _takes_it_personally(call: Any, **_: Any) -> Any:
    try:
        return await call()
    except StoreError as error:
        raise RuntimeError("no store") from error


def _short_leases(session: Any, request: Any) -> Any:
    return _CLAIM(session, replace(request, lease_seconds=request.lease_seconds / 10))


def _live_value(self: Codec[object], value: object, **options: Any) -> tuple[str, object]:
    return _ENCODE(self, value, **options)[0], value


_ENCODE: Any = Codec.encode


async def _not_saved(self: execution.Execution, started: StepRecord, failure: object) -> float:
    return 0.0


async def _new_keys(self: context.DurableStepContext, items: mapping.Items) -> list[object]:
    results = await mapping.execute(
        items,
        [str(key) for key in items.bodies],
        call=lambda place, body: self._run(place, body, items.codec, items.call_site, items.policy),
        ended=self._execution.has_ended_well,
    )
    return list(results)


def _claim_numbers_anew(session: Any, request: Any) -> Any:
    claimed = _CLAIM(session, request)
    return replace(claimed, claims=[replace(claim, last_sequence=0) for claim in claimed.claims])


def _handing_out_twice() -> Callable[..., Any]:
    last: list[Any] = []

    def claim(session: Any, request: Any) -> Any:
        claimed = _CLAIM(session, request)
        if claimed.claims:
            last[:] = claimed.claims
        elif last and last[0].lease.worker_id != request.worker_id:
            return replace(claimed, claims=[last.pop()])
        return claimed

    return claim


def _no_failures(session: Any, seq: int) -> dict[str, int]:
    return {}


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _always_applied(*_: object) -> str:
    return "applied"


def _chance_id(self: execution.Execution) -> str:
    return f"{self.run.id}/{self._engine.environment.random()}"


def _new_deadline(session: Any, seq: int, lease: Lease, wait: Any) -> StepRecord:
    if wait.step.kind in {"sleep", "signal"}:
        session.run(
            "UPDATE durably_steps SET wake_at = :wake_at WHERE run_seq = :seq AND name = :name AND status = 'running'",
            {"wake_at": wait.step.wake_at, "seq": seq, "name": wait.step.name},
        )
    return _BEGIN(session, seq, lease, wait)


_BEGIN = suspension._begin


def _parks_at_once(session: Any, *args: Any, **options: Any) -> Any:
    options["max_crashes"] = 1
    return _TAKE_OVER(session, *args, **options)


_TAKE_OVER = crashes.take_over


def _never_parks(session: Any, *args: Any, **options: Any) -> Any:
    options["max_crashes"] = 10**9
    return _TAKE_OVER(session, *args, **options)


MUTANTS: dict[str, Mutant] = {
    "checkpoint-unfenced": Mutant(
        sentence="a checkpoint is written by whoever comes, whatever its generation",
        apply=sql(checkpoints, "save_step", " AND lease_generation = :generation", ""),
        found_by=("slow-steps",),
    ),
    "checkpoint-of-a-cancelled-run": Mutant(
        sentence="a checkpoint is written although the run is not running any more",
        apply=sql(checkpoints, "save_step", " AND status = 'running'", ""),
        found_by=("cancelled-at-work",),
    ),
    "checkpoint-overwritten": Mutant(
        sentence="a checkpoint that is committed may be written again",
        apply=both(
            sql(checkpoints, "save_step", "durably_steps.status NOT IN ('completed', 'failed') AND ", ""),
            sql(checkpoints, "save_step", " AND lease_generation = :generation", ""),
        ),
        found_by=("slow-steps",),
    ),
    "outcome-unfenced": Mutant(
        sentence="a run is ended by whoever comes",
        apply=both(
            attribute(checkpoints, "standing", _always_applied),
            sql(checkpoints, "finish_run", " AND lease_generation = :generation", ""),
            sql(checkpoints, "finish_run", " AND status = 'running'", ""),
        ),
        found_by=("slow-steps",),
    ),
    "step-acknowledged-before-its-commit": Mutant(
        sentence="a checkpoint is acknowledged, and written half a second later",
        apply=attribute(SqliteStore, "save_step", _save_later),
        found_by=("in-a-row",),
    ),
    "trigger-acknowledged-before-its-commit": Mutant(
        sentence="a trigger is acknowledged, and written half a second later",
        apply=attribute(SqliteStore, "enqueue", _trigger_later),
        found_by=("keyed",),
    ),
    "step-event-before-its-commit": Mutant(
        sentence="step:complete is told before the checkpoint is committed",
        apply=attribute(engine_attempts.Attempts, "_complete", _tell_first),
        found_by=("in-a-row",),
    ),
    "run-event-before-its-commit": Mutant(
        sentence="run:complete is told before the outcome is committed",
        apply=attribute(executor.Executor, "_finish", _finish_first),
        found_by=("in-a-row",),
    ),
    "generation-reused": Mutant(
        sentence="a claim does not raise the generation",
        apply=sql(
            claims,
            "claim_run",
            "lease_generation = lease_generation + 1",
            "lease_generation = max(1, lease_generation)",
        ),
        found_by=("in-a-row",),
    ),
    "generation-begins-anew": Mutant(
        sentence="a run that is handed back begins with generation 1 again",
        apply=sql(freeing, "hand_back", "lease_owner = NULL", "lease_generation = 0, lease_owner = NULL"),
        found_by=("in-a-row",),
    ),
    "no-self-fencing": Mutant(
        sentence="a worker begins steps after its lease has run out",
        apply=attribute(execution.Execution, "require_live", _live_without_fence),
        found_by=("in-a-row", "talker"),
    ),
    "heartbeats-renew-nothing": Mutant(
        sentence="a heartbeat does not extend the lease",
        apply=sql(
            leases,
            "renew_lease",
            "lease_expires_at = :expires_at, timer_at = :expires_at",
            "updated_at = updated_at",
        ),
        found_by=("long-body",),
    ),
    "claim-without-checkpoints": Mutant(
        sentence="a claim does not hand over the checkpoints",
        apply=both(attribute(claims, "claim", _without_steps)),
        found_by=("in-a-row",),
    ),
    "signal-wakes-nobody": Mutant(
        sentence="a signal is stored, and the run that waits for it is not woken",
        apply=attribute(waits, "_wake_if_ended", _nothing),
        found_by=("two-waits", "approval"),
    ),
    "child-wakes-nobody": Mutant(
        sentence="the end of a child does not wake its parent",
        apply=attribute(checkpoints, "child_ended", _nothing),
        found_by=("parent",),
    ),
    "wait-forgets-its-deadline": Mutant(
        sentence="a wait counts from anew whenever the run comes to it again",
        apply=both(
            attribute(suspension, "_begin", _new_deadline),
            attribute(claims, "end_what_can_end", _nothing),
        ),
        found_by=("sleeper", "approval"),
    ),
    "late-signal-changes-history": Mutant(
        sentence="a timeout is no checkpoint: a signal that comes later still counts",
        apply=both(
            sql(waits, "find_signal", "WHERE :wake_at IS NULL OR sent_at <= :wake_at", ""),
            sql(waits, "end_wait", "status = 'running'", "status = 'running' AND :error IS NULL"),
        ),
        found_by=("impatient",),
    ),
    "signal-consumed-by-nobody": Mutant(
        sentence="a signal is not marked as consumed",
        apply=sql(waits, "consume_signal", "consumed_at = :now", "consumed_at = NULL"),
        found_by=("receiver",),
    ),
    "key-released-at-a-wait": Mutant(
        sentence="a run that waits gives its key up",
        apply=sql(suspension, "suspend_run", "lease_owner = NULL", "holds_key = 0, lease_owner = NULL"),
        found_by=("keyed",),
    ),
    "key-not-guarded": Mutant(
        sentence="a claim does not look who holds the key",
        apply=both(
            sql(claims, "claim_run", "holds_key = (concurrency_key IS NOT NULL)", "holds_key = 0"),
            sql(claims, "claim_run", "AND holder.holds_key = 1", "AND 0"),
            sql(
                freeing,
                "let_go",
                "ready = (status IN ('pending', 'waiting') AND concurrency_key IS NULL)",
                "ready = 0",
            ),
        ),
        found_by=("keyed",),
    ),
    "key-never-released": Mutant(
        sentence="the end of a run does not let the next one of its key go on",
        apply=attribute(checkpoints, "settle_key", _nothing),
        found_by=("keyed",),
    ),
    "idempotency-ignored": Mutant(
        sentence="a second trigger with the same idempotency key makes a second run",
        apply=sql(triggering, "insert_run", ":idempotency_key", "NULL"),
        found_by=("keyed",),
    ),
    "cancel-stays-with-the-parent": Mutant(
        sentence="the children of a cancelled run go on",
        apply=both(
            sql(waits, "unfinished_children", "parent_id = :run_id", "parent_id = :run_id AND 0"),
            sql(waits, "orphans", "parent.status = 'cancelled'", "0"),
        ),
        found_by=("cancelled",),
    ),
    "terminal-overwritten": Mutant(
        sentence="a cancelled run is completed by its owner all the same",
        apply=both(
            attribute(checkpoints, "standing", _always_applied),
            sql(checkpoints, "finish_run", " AND status = 'running'", ""),
        ),
        found_by=("cancelled-at-work",),
    ),
    "failure-not-checkpointed": Mutant(
        sentence="a failure that the job was told of is not stored",
        apply=attribute(execution.Execution, "save_failure", _not_saved),
        found_by=("other-way",),
    ),
    "attempts-not-counted": Mutant(
        sentence="a new owner does not know how often a step has failed",
        apply=attribute(claims, "failures_of", _no_failures),
        found_by=("hopeless",),
    ),
    "live-value-is-not-the-stored-one": Mutant(
        sentence="a step answers the live object, and on replay what was stored",
        apply=attribute(Codec, "encode", _live_value),
        found_by=("shapes",),
    ),
    "map-keys-not-stored": Mutant(
        sentence="a map takes whatever list it is given on replay",
        apply=attribute(context.DurableStepContext, "_map", _new_keys),
        found_by=("mapped",),
    ),
    "derived-ids-by-chance": Mutant(
        sentence="step.uuid and step.random differ on replay",
        apply=attribute(
            context.DurableStepContext, "_origin", property(lambda self: _chance_id(self._execution))
        ),
        found_by=("helpers",),
    ),
    "numbers-begin-anew": Mutant(
        sentence="the log's numbers begin anew at each claim",
        apply=attribute(claims, "claim", _claim_numbers_anew),
        found_by=("talker",),
    ),
    "log-repeated-on-replay": Mutant(
        sentence="lines between steps are written again on every replay",
        apply=attribute(execution.Execution, "is_replaying", False),
        found_by=("talker",),
    ),
    "crashes-not-counted": Mutant(
        sentence="a run that kills every worker is tried for ever",
        apply=attribute(claims, "take_over", _never_parks),
        found_by=("poison",),
    ),
    "parked-at-the-first-death": Mutant(
        sentence="a run is given up at the first death of its worker",
        apply=attribute(claims, "take_over", _parks_at_once),
        found_by=("in-a-row",),
    ),
    "lease-shorter-than-promised": Mutant(
        sentence="a lease ends in the store long before its owner thinks so",
        apply=attribute(claims, "claim", _short_leases),
        found_by=("long-body",),
    ),
    "trouble-of-the-store-fails-the-run": Mutant(
        sentence="an error of the store counts as an error of the job",
        apply=attribute(tenure, "insist", _takes_it_personally),
        found_by=("in-a-row",),
    ),
    "sleep-never-wakes": Mutant(
        sentence="a suspended run has no instant at which it is looked at again",
        apply=sql(suspension, "suspend_run", "timer_at = :wake_at", "timer_at = NULL"),
        found_by=("sleeper",),
    ),
    "claimed-twice": Mutant(
        sentence="one claim is handed out to two workers",
        apply=attribute(claims, "claim", _handing_out_twice()),
        found_by=("long-body",),
    ),
}
