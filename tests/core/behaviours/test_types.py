"""TYP: what the type checkers see; they read this file with the rest."""

from collections.abc import AsyncIterator
from typing import assert_type

from pydantic import BaseModel

from durably import (
    Disposition,
    Durably,
    DurablyOptions,
    Event,
    JobDefinition,
    JobHandle,
    Run,
    RunResult,
    StepContext,
    TriggerOptions,
    define_job,
    events,
    is_domain_event,
    job,
)


class Order(BaseModel):
    number: int = 2


class Receipt(BaseModel):
    total: int


async def count(step: StepContext, input: Order) -> Receipt:
    total = await step.run("total", lambda: input.number * 2, result=int)
    assert_type(total, int)
    return Receipt(total=total)


async def test_a_jobs_types_reach_whoever_uses_it(durably: Durably) -> None:
    """TYP-1, REG-7, GET-1."""
    handle = durably.register(define_job(name="count", input=Order, output=Receipt, run=count))
    assert_type(handle, JobHandle[Order, Receipt])
    run = await handle.trigger(Order(), labels={"a": "b"})
    assert_type(run, Run[Order, Receipt])
    assert_type(run.input, Order)
    assert_type(run.disposition, Disposition | None)
    assert_type(await handle.batch_trigger([Order()]), list[Run[Order, Receipt]])
    await durably.start()
    result = await handle.trigger_and_wait(Order(), timeout=5)
    assert_type(result, RunResult[Receipt])
    assert result.output.total == 4
    assert_type(await handle.get_run(run.id), Run[Order, Receipt] | None)
    assert_type(await durably.get_run(run.id), Run | None)
    assert_type(await durably.wait_for_run(run.id, timeout=5), Run)


def test_decorated_functions_keep_their_types() -> None:
    """TYP-1."""
    assert_type(job(count), JobDefinition[Order, Receipt])
    assert_type(Durably(":memory:").job(count), JobHandle[Order, Receipt])


async def sum_up(step: StepContext, input: Order, by: int, *, to: dict[str, int]) -> Receipt:
    return Receipt(total=input.number * by + len(to))


def test_a_job_that_takes_resources_keeps_its_types() -> None:
    """TYP-1."""
    durably = Durably(":memory:")
    assert_type(job(sum_up), JobDefinition[Order, Receipt])
    assert_type(job(name="other")(sum_up), JobDefinition[Order, Receipt])
    assert_type(durably.job(sum_up), JobHandle[Order, Receipt])
    assert_type(durably.job(name="other")(sum_up), JobHandle[Order, Receipt])
    definition = define_job(name="sum", input=Order, output=Receipt, run=sum_up)
    assert_type(definition, JobDefinition[Order, Receipt])

    @durably.resource
    async def number() -> AsyncIterator[int]:
        yield 1

    assert_type(number(), AsyncIterator[int])


def test_options_are_typed_dicts_that_may_be_passed_on() -> None:
    """TYP-1."""
    options: DurablyOptions = {"max_concurrent_runs": 3}
    trigger: TriggerOptions = {"labels": {"a": "b"}, "concurrency_key": "k", "coalesce": "skip"}
    assert Durably(":memory:", **options).get_job("none") is None
    assert trigger["coalesce"] == "skip"


def test_a_domain_event_is_narrowed() -> None:
    """TYP-1, EVT-4."""
    event: Event = events.RunTriggered(run_id="r", job_name="j")
    if is_domain_event(event):
        assert event.run_id == "r"
