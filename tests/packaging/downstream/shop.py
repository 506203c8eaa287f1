"""The jobs of a shop."""

import random

from pydantic import BaseModel, Field

from durably import StepContext, job


class Order(BaseModel):
    amount: int = Field(ge=1, le=100)


class Receipt(BaseModel):
    paid: int
    number: float = 0


class Bank:
    """Whatever is charged twice with one key is charged once."""

    def __init__(self) -> None:
        self.charged: dict[str, int] = {}

    def charge(self, amount: int, key: str) -> int:
        return self.charged.setdefault(key, amount)


bank = Bank()


async def charge_carefully(step: StepContext, amount: int) -> int:
    return bank.charge(amount, step.idempotency_key)


async def charge(amount: int) -> int:
    return amount


async def ship(paid: int) -> str:
    return f"parcel of {paid}"


@job
async def order(step: StepContext, input: Order) -> Receipt:
    paid = await step.run("charge", charge_carefully, step, input.amount)
    await step.sleep("return-period", 14 * 86_400)
    await step.run("ship", ship, paid)
    return Receipt(paid=paid)


@job
async def charges_without_a_key(step: StepContext, input: Order) -> Receipt:
    paid = await step.run("charge", charge, input.amount)
    await step.run("ship", ship, paid)
    return Receipt(paid=paid)


@job
async def renames_its_steps(step: StepContext, input: Order) -> Receipt:
    paid = await step.run(f"charge-{random.random()}", charge, input.amount)
    await step.run("ship", ship, paid)
    return Receipt(paid=paid)


@job
async def decides_outside_of_steps(step: StepContext, input: Order) -> Receipt:
    paid = await step.run("charge", charge, input.amount)
    return Receipt(paid=paid, number=random.random())
