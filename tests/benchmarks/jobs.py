"""The jobs that are measured. Their steps do nothing: what is left is the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from durably import JobDefinition, StepContext, define_job, job

LONG = "long"


async def number(value: int) -> int:
    return value


@job
async def counting(step: StepContext, input: int) -> int:
    """As many steps as the input says."""
    for position in range(input):
        await step.run(f"step-{position}", number, position)
    return input


@job
async def unknown(step: StepContext, input: int) -> int:
    """A job that no worker of the benchmark knows."""
    await step.run("step", number, input)
    return input


@job
async def napping(step: StepContext, input: float) -> float:
    """Sleep until this instant, in seconds since the epoch."""
    await step.sleep_until("nap", datetime.fromtimestamp(input, UTC))
    return input


@job
async def leaf(step: StepContext, input: int) -> int:
    """A child without a step."""
    return input


@job
async def invoking(step: StepContext, input: int) -> int:
    """As many children as the input says, one after another."""
    return sum([await step.invoke(f"child-{position}", leaf, position) for position in range(input)])


@job
async def fanning_out(step: StepContext, input: int) -> int:
    """The same, side by side."""
    return sum(
        await asyncio.gather(*(step.invoke(f"child-{position}", leaf, position) for position in range(input)))
    )


@job
async def spawning(step: StepContext, input: int) -> int:
    """As many children as the input says, that nobody waits for."""
    for position in range(input):
        await step.spawn(f"child-{position}", leaf, position)
    return input


def awaiting_job(resumed: Callable[[], object]) -> JobDefinition[int, int]:
    """Wait for the signal `go`, and call `resumed`."""

    async def run(step: StepContext, input: int) -> int:
        payload = await step.wait_for_signal("go", int)
        resumed()
        return payload

    return define_job(name="awaiting", input=int, output=int, run=run)


def long_job(arrived: Callable[[], Awaitable[None]]) -> JobDefinition[int, None]:
    """As many steps as the input says, then one that calls `arrived`."""

    async def run(step: StepContext, input: int) -> None:
        for position in range(input):
            await step.run(f"step-{position}", number, position)
        await step.run("arrived", arrived)

    return define_job(name=LONG, input=int, run=run)
