"""A job's own code with given results."""

from contextlib import suppress
from datetime import timedelta
from typing import cast

import pytest
from pydantic import BaseModel

from durably import ConfigurationError, SignalTimeout, StepContext, StepFailed, ValidationError, job
from durably_testing import SimulationError, fake_step


class Order(BaseModel):
    amount: int


class Payment(BaseModel):
    id: int
    note: str = ""


class Bank:
    """A resource."""

    def __init__(self, balance: int) -> None:
        self.balance = balance


class CardDeclinedError(Exception):
    """What a bank says."""


async def charge(amount: int) -> Payment:
    raise AssertionError("the real bank was asked")


def pack(amount: int) -> str:
    return f"parcel of {amount}"


@job
async def greet(step: StepContext, input: str) -> str:
    return f"hello {input}"


@job
async def order(step: StepContext, input: Order) -> str:
    try:
        payment = await step.run("charge", charge, input.amount)
    except StepFailed as failed:
        return f"refused: {failed.error_type}: {failed.message}"
    await step.sleep("return-period", timedelta(days=14))
    for number in range(2):
        await step.run(f"pack-{number}", pack, input.amount)
    return f"payment {payment.id}"


@job
async def asks(step: StepContext, input: Order) -> str:
    try:
        approved = await step.wait_for_signal("approved", bool, timeout=60)
    except SignalTimeout:
        return "nobody answered"
    child = await step.spawn("background", greet, "child")
    greeting = await step.invoke("greeting", greet, "you")
    after = await step.join("after", greet, child)
    return f"{approved}, {greeting}, {after}"


@job
async def needs_a_bank(step: StepContext, input: Order, bank: Bank) -> int:
    return bank.balance - input.amount


async def test_given_results_stand_in_for_steps_and_the_rest_is_executed() -> None:
    run = await fake_step(order).given({"pack-1": "a bag"}, charge={"id": 7}).run(Order(amount=3))

    assert run.output == "payment 7"
    assert run.steps == ["charge", "return-period", "pack-0", "pack-1"]
    assert run.executed == ["pack-0"]
    assert run.error is None


async def test_a_result_may_be_a_value_of_the_steps_own_type() -> None:
    run = await fake_step(order).given(charge=Payment(id=8)).run(Order(amount=3))
    assert run.output == "payment 8"


async def test_a_step_may_be_made_to_fail_and_the_job_meets_it_as_in_a_run() -> None:
    run = await fake_step(order).raises(charge=CardDeclinedError("no money")).run(Order(amount=3))
    assert run.output == "refused: tests.testing.test_fakes.CardDeclinedError: no money"


async def test_an_error_that_the_job_does_not_catch_is_told_and_raised_by_the_output() -> None:
    run = (
        await fake_step(order)
        .given(charge={"id": 1})
        .raises({"pack-0": OSError("no tape")})
        .run(Order(amount=3))
    )

    assert isinstance(run.error, OSError)
    with pytest.raises(OSError, match="no tape"):
        _ = run.output


async def test_signals_children_and_their_troubles_are_given_by_name() -> None:
    run = await fake_step(asks).given(approved=True, greeting="good day").run(Order(amount=3))
    assert run.output == "True, good day, hello child"
    assert run.executed == ["background", "after"]

    late = await fake_step(asks).raises(approved=TimeoutError()).run(Order(amount=3))
    assert late.output == "nobody answered"

    failed = (
        await fake_step(asks)
        .given(approved=True)
        .raises(greeting=CardDeclinedError("x"))
        .run(Order(amount=3))
    )
    assert isinstance(failed.error, CardDeclinedError)


async def test_a_signal_that_is_not_given_would_never_come() -> None:
    run = await fake_step(asks).run(Order(amount=3))
    assert "would wait for ever" in str(run.error)


async def test_a_result_that_does_not_fit_its_step_is_the_tests_mistake_whatever_the_job_catches() -> None:
    @job
    async def careless(step: StepContext, input: Order) -> int:
        with suppress(Exception):
            await step.run("charge", charge, input.amount)
        return 1

    with pytest.raises(
        SimulationError, match=r"the result given for step 'charge' does not fit Payment: .*id"
    ):
        await fake_step(careless).given(charge={"number": 7}).run(Order(amount=3))


async def test_a_name_that_the_job_never_comes_to_is_told_with_those_it_came_to() -> None:
    with pytest.raises(
        SimulationError, match=r"given for 'chrage', and .* came to: charge, return-period, pack-0"
    ):
        await fake_step(order).given(charge={"id": 1}, chrage={"id": 2}).run(Order(amount=3))


async def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError):
        await fake_step(order).run(cast("Order", {"amount": "many"}))


async def test_resources_are_handed_over_by_type() -> None:
    assert (await fake_step(needs_a_bank).resource(Bank, Bank(10)).run(Order(amount=3))).output == 7
    with pytest.raises(ConfigurationError, match="Bank"):
        await fake_step(needs_a_bank).run(Order(amount=3))
