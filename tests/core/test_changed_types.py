"""Types that change under unfinished runs: stored values are read as the new ones, or the error says how they differ."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel, ConfigDict

from durably import (
    JobDefinition,
    JobFunction,
    Run,
    StepContext,
    StoredValueError,
    ValidationError,
    define_job,
)
from tests.core.versions import History, history_on

STORED = "durably.errors.StoredValueError"
NO_INTEGER = (
    "customer: Input should be a valid integer, unable to parse string as an integer (found a string)"
)


@pytest.fixture
async def history(url: str) -> AsyncIterator[History]:
    async with history_on(url) as history:
        yield history


class Order(BaseModel):
    """What is stored."""

    number: int
    customer: str


ORDER = Order(number=5, customer="secret")


class Added(Order):
    """A field more, with a default."""

    priority: int = 3


class Fewer(BaseModel):
    """A field less."""

    number: int


class Strict(Fewer):
    """A field less, and nothing more than that is taken."""

    model_config = ConfigDict(extra="forbid")


class Required(Order):
    """A field more, without a default."""

    address: str


class Retyped(BaseModel):
    """A field of another type."""

    number: int
    customer: int


def job(input: type[BaseModel], function: JobFunction[BaseModel, object]) -> JobDefinition[BaseModel, object]:
    return define_job(name="order", input=input, output=object, run=function)


async def parked(history: History, *, steps: bool) -> None:
    """Leave a run behind: before its first step, or asleep after one."""

    async def old(step: StepContext, input: BaseModel) -> object:
        await step.run("a", lambda: "old a")
        await step.sleep("nap", 60)
        return None

    async with history.deployed(job(Order, old)) as durably:
        await history.trigger(durably, "order", ORDER)
        if steps:
            await durably.process_one()


async def new(step: StepContext, input: BaseModel) -> object:
    return [await step.run("a", lambda: "new a"), input.model_dump()]


@pytest.mark.parametrize("steps", [False, True], ids=["not begun", "begun"])
@pytest.mark.parametrize(
    ("type_", "read"),
    [
        (Added, {"number": 5, "customer": "secret", "priority": 3}),
        (Fewer, {"number": 5}),
    ],
)
async def test_an_input_that_still_fits_is_read_as_its_new_type(
    history: History, type_: type[BaseModel], read: object, steps: bool
) -> None:
    await parked(history, steps=steps)
    run = await history.go_on_with(job(type_, new))
    assert run.output == ["old a" if steps else "new a", read]


@pytest.mark.parametrize("steps", [False, True], ids=["not begun", "begun"])
@pytest.mark.parametrize(
    ("type_", "reason", "shapes"),
    [
        (
            Strict,
            "Strict: customer: Extra inputs are not permitted (found a string)",
            "stored: {customer: str, number: int}; expected: {number: int}",
        ),
        (
            Required,
            "Required: address: Field required",
            "stored: {number: int, customer: str}; expected: {address: str, number: int, customer: str}",
        ),
        (
            Retyped,
            f"Retyped: {NO_INTEGER}",
            "stored: {customer: str, number: int}; expected: {customer: int, number: int}",
        ),
    ],
)
async def test_an_input_that_does_not_fit_any_more_fails_the_run_until_a_fixed_version_retries_it(
    history: History, type_: type[BaseModel], reason: str, shapes: str, steps: bool
) -> None:
    await parked(history, steps=steps)
    failed = await history.go_on_with(job(type_, new))
    check_failure(failed, f"the input of run {history.run_id} as stored does not fit {reason}; {shapes}")
    async with history.deployed(job(Added, new)) as durably:
        await durably.retry(history.run_id)
        run = await history.live(durably)
    assert run.output == [
        "old a" if steps else "new a",
        {"number": 5, "customer": "secret", "priority": 3},
    ]


def check_failure(run: Run, message: str) -> None:
    assert run.status == "failed"
    assert run.error is not None
    assert (run.error.type, run.error.message, run.error.steps) == (STORED, message, ())
    assert "secret" not in f"{run.error.message}{run.error.traceback}"


CASES = {
    "a step's result": "the result of step 'ask' of run {id}",
    "an item of a map": "the result of step 'ask[0]' of run {id}",
    "a signal's payload": "the payload of signal 'ask' of run {id}",
    "a child's output": "the output of job 'child', invoked as step 'ask' of run {id},",
}


@pytest.mark.parametrize("case", CASES)
async def test_what_a_job_was_given_before_is_read_as_its_new_type(history: History, case: str) -> None:
    """Or the step fails the run, again and again, and what is stored stays."""
    child_calls: list[str] = []

    def child(output: type[BaseModel]) -> JobDefinition[BaseModel, BaseModel]:
        async def run(step: StepContext, input: BaseModel) -> BaseModel:
            child_calls.append(output.__name__)
            return ORDER

        return define_job(name="child", input=Fewer, output=output, run=run)

    async def ask(step: StepContext, type_: type[BaseModel]) -> BaseModel:
        match case:
            case "a step's result":
                return await step.run("ask", lambda: ORDER, result=type_)
            case "an item of a map":
                return (await step.map("ask", lambda _: ORDER, [1], result=type_))[0]
            case "a signal's payload":
                return await step.wait_for_signal("ask", type_)
            case _:
                return await step.invoke("ask", child(type_), Fewer(number=1))

    def version(type_: type[BaseModel]) -> JobDefinition[BaseModel, object]:
        async def run(step: StepContext, input: BaseModel) -> object:
            answer = await ask(step, type_)
            await step.sleep("nap", 60)
            return answer.model_dump()

        return job(Fewer, run)

    async with history.deployed(version(Order), child(Order)) as durably:
        await history.trigger(durably, "order", Fewer(number=1))
        await durably.signal("ask", ORDER, run_id=history.run_id)
        await durably.process_until_idle()
        assert (await history.stored())["nap"].status == "running"
    failed = await history.go_on_with(version(Retyped), child(Retyped))
    what = CASES[case].format(id=history.run_id)
    check_failure(
        failed,
        f"{what} as stored does not fit Retyped: {NO_INTEGER}; "
        "stored: {customer: str, number: int}; expected: {customer: int, number: int}",
    )
    async with history.deployed(version(Added), child(Added)) as durably:
        await durably.retry(history.run_id)
        run = await history.live(durably)
    assert run.output == {"number": 5, "customer": "secret", "priority": 3}
    assert child_calls == (["Order"] if case == "a child's output" else [])


async def test_a_cursor_is_read_as_its_new_type_and_kept_until_a_version_can(history: History) -> None:
    begun = asyncio.Event()

    def version(type_: type[BaseModel]) -> JobDefinition[BaseModel, object]:
        async def run(step: StepContext, input: BaseModel) -> object:
            async def body() -> object:
                if (place := step.cursor(type_)) is not None:
                    return place.model_dump()
                step.save_cursor(ORDER)
                begun.set()
                return await asyncio.Event().wait()

            return await step.run("long", body, result=object)

        return job(Fewer, run)

    async with history.deployed(version(Order)) as durably:
        await durably.start()
        await history.trigger(durably, "order", Fewer(number=1))
        await begun.wait()
    failed = await history.go_on_with(version(Retyped))
    assert failed.error is not None
    assert (failed.error.type, failed.error.steps) == (STORED, ("long",))
    assert failed.error.message == (
        f"the cursor of step 'long' as stored does not fit Retyped: {NO_INTEGER}; "
        "stored: {customer: str, number: int}; expected: {customer: int, number: int}"
    )
    async with history.deployed(version(Added)) as durably:
        await durably.retry(history.run_id)
        run = await history.live(durably)
    assert run.output == {"number": 5, "customer": "secret", "priority": 3}


async def test_a_job_may_catch_it_and_go_another_way(history: History) -> None:
    caught: list[StoredValueError] = []

    async def old(step: StepContext, input: BaseModel) -> object:
        await step.run("count", lambda: {"rows": "many"})
        await step.sleep("nap", 60)
        return None

    async def later(step: StepContext, input: BaseModel) -> object:
        try:
            return await step.run("count", lambda: {"rows": 1}, result=dict[str, int])
        except StoredValueError as error:
            caught.append(error)
        return await step.run("count-2", lambda: {"rows": 2}, result=dict[str, int])

    async with history.deployed(job(Order, old)) as durably:
        await history.trigger(durably, "order", ORDER)
        await durably.process_one()
    run = await history.go_on_with(job(Order, later))
    assert run.output == {"rows": 2}
    [error] = caught
    assert (error.fields, error.stored, error.expected) == (("rows",), "{rows: str}", "{str: int}")


async def test_an_ended_run_is_shown_as_long_as_its_payloads_are_not_read(history: History) -> None:
    """By whoever knows its job in another version; who does not know it reads plain JSON."""

    def version(type_: type[BaseModel]) -> JobDefinition[BaseModel, BaseModel]:
        async def run(step: StepContext, input: BaseModel) -> BaseModel:
            return ORDER

        return define_job(name="order", input=type_, output=type_, run=run)

    async with history.deployed(version(Order)) as durably:
        await history.trigger(durably, "order", ORDER)
        await durably.process_one()
    async with history.deployed() as durably:
        plain = await durably.get_run(history.run_id)
        assert plain is not None
        assert plain.output == plain.input == {"number": 5, "customer": "secret"}
        assert plain.output_as(Added).priority == 3
    async with history.deployed(version(Retyped)) as durably:
        handle = durably.get_job("order")
        assert handle is not None
        [run] = await handle.get_runs()
        assert run.status == "completed"
        with pytest.raises(
            StoredValueError, match=rf"the output of run {run.id} as stored .*; stored: {{cust"
        ):
            _ = run.output
        with pytest.raises(
            StoredValueError, match=rf"the input of run {run.id} as stored .*; stored: {{cust"
        ):
            _ = run.input
        assert str(await durably.explain(run.id)).startswith("completed at ")
        with pytest.raises(
            ValidationError, match=r"cannot retrigger: the input of run .* as stored .*; stored: .cust"
        ):
            await durably.retrigger(run.id)
