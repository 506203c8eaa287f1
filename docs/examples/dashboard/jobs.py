"""The jobs that the dashboard shows. An ordinary module of an application: it knows no database and no web."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveInt

from docs.examples.dashboard.pictures import PLACES, Place, draw
from docs.examples.import_airports.jobs import import_airports
from durably import Fatal, JobDefinition, Retry, StepContext, job

# Pictures: steps that compute, in threads

PICTURES = Path("pictures")


class Zoom(BaseModel):
    """A flight into the Mandelbrot set."""

    place: Place = "seahorse valley"
    frames: PositiveInt = Field(default=12, le=100)
    width: PositiveInt = Field(default=200, ge=16, le=1920, description="Pixels of a picture.")


@job
async def render_zoom(step: StepContext, input: Zoom) -> list[str]:
    """Draw pictures of the Mandelbrot set, each twice as close as the one before. A step draws one picture."""
    files: list[str] = []
    for number in range(1, input.frames + 1):
        file = PICTURES / f"{input.place}-{number:03}.png"
        size = await step.run(f"frame-{number:03}", draw, file, input.place, number - 1, input.width)
        step.log.info(f"drew {file.name}", bytes=size)
        step.progress(number, input.frames, f"picture {number} of {input.frames}")
        files.append(file.name)
    return files


# An album: a run that has others do the work


class Album(BaseModel):
    """Which places to visit."""

    places: list[Place] = Field(default=list(PLACES), min_length=1)
    frames: PositiveInt = Field(default=4, le=100)


@job
async def make_album(step: StepContext, input: Album) -> dict[str, list[str]]:
    """Have a child draw each place, side by side. Waiting for them this run needs no worker."""
    children = {
        place: await step.spawn(f"draw {place}", render_zoom, Zoom(place=place, frames=input.frames))
        for place in dict.fromkeys(input.places)
    }
    album: dict[str, list[str]] = {}
    for place, child in children.items():
        album[place] = await step.join(f"collect {place}", render_zoom, child)
        step.progress(len(album), len(children), f"{place} is there")
    return album


# Payments: a step that fails and is tried again


class Payment(BaseModel):
    """What to charge, and how the bank behaves."""

    order: str = Field(examples=["A-1001"])
    cents: PositiveInt
    bank: Literal["answers", "answers the third time", "is down", "refuses"] = "answers"


@job
async def charge_card(step: StepContext, input: Payment) -> str:
    """Charge a card. The bank is asked three times, with a pause; then the run fails, and can be retried."""
    attempts = Retry(3, delay=1.5, factor=2)
    receipt = await step.run("ask the bank", ask_bank, step, input, retry=attempts)
    step.log.info("charged", order=input.order, cents=input.cents)
    return receipt


async def ask_bank(step: StepContext, payment: Payment) -> str:
    """Stands for a service. A real one is given `step.idempotency_key`, the same each time, and charges once."""
    await asyncio.sleep(0.3)
    if payment.bank == "refuses":
        raise Fatal("the card has expired")  # asking again is pointless
    if payment.bank == "is down" or (payment.bank == "answers the third time" and step.attempt < 3):
        step.log.warning("no answer", attempt=step.attempt)
        raise ConnectionError("the bank does not answer: 503 Service Unavailable")
    return f"receipt of {payment.order}"


# Expenses: a run that waits for a person


class Expense(BaseModel):
    """What somebody has paid for."""

    who: str
    what: str
    cents: PositiveInt


@job
async def reimburse(step: StepContext, input: Expense) -> str:
    """Pay an expense back. Above 100.00 somebody has to approve it, on the page of the run."""
    if input.cents > 100_00:
        step.log.info("somebody has to approve this", cents=input.cents)
        if not await step.wait_for_signal("approved", bool, timeout=timedelta(days=7)):
            return f"{input.who} gets nothing back"
    await step.run("transfer", asyncio.sleep, 0.2)
    return f"{input.who} gets {input.cents / 100:.2f} back for {input.what}"


# Customers: a run without an end


class Till(BaseModel):
    """How far the till has come."""

    served: int = 0


@job
async def keep_till(step: StepContext, input: Till) -> None:
    """Serve a customer every few seconds, for ever. Each pass is a link of the same run."""
    number = input.served + 1
    bank = "is down" if number % 10 == 0 else "answers the third time" if number % 4 == 0 else "answers"
    payment = Payment(order=f"B-{number}", cents=100 + 37 * number % 900, bank=bank)
    await step.spawn("charge", charge_card, payment, detached=True, labels={"till": "1"})
    await step.sleep("next customer", timedelta(seconds=4))
    await step.continue_as_new(Till(served=number))


JOBS: list[JobDefinition[Any, Any]] = [
    import_airports,
    render_zoom,
    make_album,
    charge_card,
    reimburse,
    keep_till,
]
