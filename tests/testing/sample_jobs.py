"""Jobs to crash: good ones, and ones with a planted bug."""

import random
from contextlib import suppress

from pydantic import BaseModel, Field

from durably import StepContext, job
from durably_testing import EffectLedger


class Order(BaseModel):
    amount: int = Field(ge=1, le=100)


class Receipt(BaseModel):
    paid: int


def charge(amount: int) -> int:
    return amount


async def ship(amount: int) -> str:
    return f"parcel of {amount}"


@job
async def order(step: StepContext, input: Order) -> Receipt:
    paid = await step.run("charge", charge, input.amount)
    await step.run("ship", ship, paid)
    await step.sleep("return-period", 14 * 86_400)
    await step.run("thank", ship, 0)
    return Receipt(paid=paid)


@job
async def names_by_chance(step: StepContext, input: Order) -> Receipt:
    await step.run(f"charge-{random.random()}", charge, input.amount)
    await step.run("ship", ship, 1)
    return Receipt(paid=input.amount)


bank = EffectLedger()


@job
async def pays_between_steps(step: StepContext, input: Order) -> Receipt:
    bank("pay")
    await step.run("ship", ship, 1)
    await step.run("thank", ship, 0)
    return Receipt(paid=input.amount)


@job
async def hides_its_errors(step: StepContext, input: Order) -> Receipt:
    import socket

    def call() -> int:
        with suppress(Exception):
            socket.create_connection(("127.0.0.1", 1))
        return 1

    await step.run("call", call)
    return Receipt(paid=input.amount)


@job
async def waits(step: StepContext, input: Order) -> Receipt:
    if await step.wait_for_signal("approved", bool, timeout=86_400):
        await step.run("charge", charge, input.amount)
    return Receipt(paid=input.amount)


@job
async def never_ends(step: StepContext, input: Order) -> Receipt:
    await step.wait_for_signal("never", bool)
    return Receipt(paid=0)
