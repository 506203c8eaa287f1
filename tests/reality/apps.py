"""Jobs of every kind, for workers that are killed and paused."""

import asyncio
import time

from durably import Durably, Retry, StepContext, StepFailed, job
from durably_testing.killing.evidence import note_effect


@job
async def order(step: StepContext, input: int) -> int:
    """Steps in the loop and in threads, one after another and in parallel."""

    def charge() -> int:
        note_effect("charged", key=f"{input}")
        return input

    async def pack(part: int) -> int:
        await asyncio.sleep(0.002)
        return part

    total = await step.run("charge", charge)
    step.log.info("charged", total=total)
    parts = await asyncio.gather(*(step.run(f"pack-{part}", pack, part) for part in range(3)))
    await step.run("label", time.sleep, 0.005)
    step.progress(1, 2)
    sizes = await step.map("weigh", pack, [1, 2, 3, 4])
    await step.run("ship", asyncio.sleep, 0.01)
    return total + sum(parts) + sum(sizes)


@job
async def basket(step: StepContext, input: int) -> int:
    """Two orders below it, a failure that is caught, one that passes, and a signal."""
    orders = await asyncio.gather(*(step.invoke(f"order-{n}", order, input + n) for n in range(2)))

    def refuse() -> None:
        raise ValueError("never")

    def waver() -> int:
        if step.attempt < 3:
            raise ConnectionError("not yet")
        return 1

    try:
        await step.run("refuse", refuse)
    except StepFailed:
        await step.run("console", time.sleep, 0.001)
    once = await step.run("waver", waver, retry=Retry(100, delay=0.01, max_delay=0.01))
    await step.sleep("rest", 0.05)
    return sum(orders) + once + await step.wait_for_signal("paid", int)


@job
async def rounds(step: StepContext, input: tuple[int, int]) -> int:
    """The same steps again and again, each round without the checkpoints of the one before."""
    left, total = input
    total += await step.run("add", lambda: 1)
    await step.run("rest", asyncio.sleep, 0.002)
    if left:
        await step.continue_as_new((left - 1, total))
    return total


@job
async def tiny(step: StepContext, input: int) -> int:
    """Over as soon as it has begun."""
    return input


def app(database: str) -> Durably:
    # Hundreds of strikes may meet one run five times in a row, and a run is not to be set aside for that.
    return Durably(
        database,
        jobs=[order, basket, rounds],
        stale_threshold=1.0,
        heartbeat_interval=0.25,
        max_crashes=1000,
    )


def patient(database: str) -> Durably:
    """With leases that no busy machine makes run out."""
    return Durably(database, jobs=[tiny])
