"""Assertions about simulated runs, and about what a program has triggered, that explain themselves."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from durably import (
    BehindKey,
    Durably,
    Explanation,
    RetryingAt,
    Run,
    ScheduledFor,
    SleepingUntil,
    WaitingForChild,
    WaitingForSignal,
)
from durably_testing.effects import EffectLedger
from durably_testing.simulation import AnyJob, SimulatedRun, definition_of

In = TypeVar("In")
Out = TypeVar("Out")

Counted: TypeAlias = SimulatedRun[Any, Any] | EffectLedger
"""Where effects are counted: of a history, or of the ledger `durably_effects`."""


def assert_at_most_once(counted: Counted, effect: str, /) -> None:
    """Fail if an effect happened twice.

    Args:
        counted: A simulated run, or a ledger.
        effect: A step's name, or what the job's doubles call it.

    Raises:
        AssertionError: It did; says how often, and where.
    """
    __tracebackhide__ = True
    times = _counts(counted).get(effect, 0)
    if times > 1:
        raise AssertionError(f"{effect!r} happened {times} times, not at most once{_where(counted)}")


def assert_effects(counted: Counted, expected: Mapping[str, int], /) -> None:
    """Fail unless these effects happened so often; others do not matter.

    Args:
        counted: A simulated run, or a ledger.
        expected: How often, by name; 0 for never.

    Raises:
        AssertionError: One did not; says which, and what happened instead.
    """
    __tracebackhide__ = True
    found = _counts(counted)
    wrong = [
        f"{name!r} happened {found.get(name, 0)} times, not {times}"
        for name, times in expected.items()
        if found.get(name, 0) != times
    ]
    if wrong:
        all_ = ", ".join(f"{name} {times}x" for name, times in found.items()) or "nothing"
        raise AssertionError(f"{'; '.join(wrong)} (what happened: {all_}){_where(counted)}")


def assert_resumed_from(run: SimulatedRun[Any, Any], step: str, /) -> None:
    """Fail unless the run was taken up again at this step: what came before was not executed again.

    Raises:
        AssertionError: It was not; says what each execution did.
    """
    __tracebackhide__ = True
    later = run.executions[1:]
    if any(one.executed[:1] == (step,) for one in later):
        return
    found = dict.fromkeys(one.executed[0] for one in later if one.executed)
    instead = f"from {', '.join(map(repr, found))}" if found else "from no step at all"
    told = "\n".join(f"  {number}. {one}" for number, one in enumerate(run.executions, 1))
    raise AssertionError(f"the run was not resumed from {step!r} but {instead}:\n{told}\n{run.story()}")


async def assert_triggered(
    durably: Durably,
    job: AnyJob[In, Out],
    /,
    *,
    input: In | Mapping[str, object] | Callable[[In], object] | None = None,
    idempotency_key: str | None = None,
    concurrency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Run[In, Out]:
    """Fail unless there is a run of the job like this; answers the newest one.

    Args:
        durably: Where it must have been triggered.
        job: Of which job.
        input: Its input; or some of its fields, as they are stored; or a function that says whether it is meant.
            None: any.
        idempotency_key: Its idempotency key. None: any, or none.
        concurrency_key: Its concurrency key. None: any, or none.
        labels: These, and perhaps others.

    Raises:
        AssertionError: There is none; says what is wrong with each that there is.
    """
    __tracebackhide__ = True
    definition = definition_of(job)
    durably.register(definition)
    reasons: list[str] = []
    for run in await durably.get_runs(job_name=definition.name):
        typed = cast("Run[In, Out]", run)
        wrong = [
            *_wrong_input(typed, input),
            *_wrong("idempotency_key", run.idempotency_key, idempotency_key),
            *_wrong("concurrency_key", run.concurrency_key, concurrency_key),
            *(part for name, label in (labels or {}).items() for part in _wrong(f"labels[{name!r}]", run.labels.get(name), label)),
        ]  # fmt: skip
        if not wrong:
            return typed
        reasons.append(f"- run {run.id}: {'; '.join(wrong)}")
    if not reasons:
        others = sorted({run.job_name for run in await durably.get_runs()})
        reasons.append(f"(there are runs of {', '.join(others) or 'no job'})")
    raise AssertionError("\n".join([f"no run of {definition.name!r} was triggered like that", *reasons]))


async def assert_no_stuck(durably: Durably, /) -> None:
    """Fail if a run will not go on by itself, however much time passes.

    Sleeping, being scheduled or tried again, and waiting with a timeout, or for a child that is none of
    them, is not stuck. Call it after `drain`: what is ready then is.

    Raises:
        AssertionError: One is; says why each of them does not go on.
    """
    __tracebackhide__ = True
    reasons = {
        run.id: (run, await durably.explain(run.id))
        for run in await durably.get_runs(status=("pending", "running", "waiting"))
    }
    stuck = [
        f"- run {run.id} of {run.job_name} ({run.status}): {reason}"
        for run, reason in reasons.values()
        if not _goes_on(reason, {run_id: found for run_id, (_, found) in reasons.items()})
    ]
    if stuck:
        raise AssertionError("\n".join([f"{len(stuck)} runs are stuck", *stuck]))


def _goes_on(reason: Explanation, others: Mapping[str, Explanation]) -> bool:
    match reason:
        case SleepingUntil() | ScheduledFor() | RetryingAt():
            return True
        case WaitingForSignal():
            return reason.until is not None
        case WaitingForChild():
            # If that one is stuck, it is told itself.
            return reason.run_id in others
        case BehindKey():
            return reason.holder_id in others
        case _:
            return False


def _counts(counted: Counted) -> Mapping[str, int]:
    return counted.effects if isinstance(counted, SimulatedRun) else counted.counts()


def _where(counted: Counted) -> str:
    return f"\n{counted.story()}" if isinstance(counted, SimulatedRun) else ""


def _wrong(name: str, found: object, wanted: object) -> list[str]:
    return [] if wanted is None or found == wanted else [f"{name} is {found!r}, not {wanted!r}"]


def _wrong_input(run: Run[In, Any], wanted: object) -> list[str]:
    if wanted is None:
        return []
    if isinstance(wanted, Mapping):
        stored = json.loads(run.input_json)
        return [
            part
            for name, value in cast("Mapping[str, object]", wanted).items()
            for part in _wrong_field(stored, name, value)
        ]
    if callable(wanted):
        return [] if wanted(run.input) else [f"its input {run.input!r} is not meant"]
    return [] if run.input == wanted else [f"input is {run.input!r}, not {wanted!r}"]


def _wrong_field(stored: object, name: str, wanted: object) -> list[str]:
    fields: Mapping[str, object] = cast("Mapping[str, object]", stored) if isinstance(stored, dict) else {}
    if name not in fields:
        return [f"input has no {name}"]
    return [] if fields[name] == wanted else [f"input.{name} is {fields[name]!r}, not {wanted!r}"]
