"""What a stranger writes."""

import pytest
from shop import (
    Order,
    Receipt,
    bank,
    charges_without_a_key,
    decides_outside_of_steps,
    order,
    renames_its_steps,
)

from durably_testing import SimulatedRun, VirtualClock, VirtualDurably, survives_crashes

Run = SimulatedRun[Order, Receipt]


@survives_crashes(order, prepare=bank.charged.clear)
def test_order(input: Order, run: Run) -> None:
    assert run.output.paid == input.amount
    assert sum(bank.charged.values()) == input.amount


@survives_crashes(charges_without_a_key)
def test_charges_without_a_key(input: Order, run: Run) -> None:
    assert run.output.paid == input.amount
    assert run.effects["charge"] <= 1


@survives_crashes(renames_its_steps)
def test_renames_its_steps(input: Order, run: Run) -> None:
    assert run.output.paid == input.amount


@survives_crashes(decides_outside_of_steps)
def test_decides_outside_of_steps(input: Order, run: Run) -> None:
    assert run.output.paid == input.amount


@pytest.mark.asyncio
async def test_parcels_leave_after_the_return_period(
    durably: VirtualDurably, durably_clock: VirtualClock
) -> None:
    run = await durably.register(order).trigger(Order(amount=3))
    ordered = durably_clock.now()
    await durably.drain()

    assert (await durably.wait_for_run(run.id)).status == "completed"
    assert (durably_clock.now() - ordered).days == 14
