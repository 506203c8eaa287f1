"""The jobs that are measured. Their steps do nothing: what is left is the engine."""

from collections.abc import Awaitable, Callable

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


def long_job(arrived: Callable[[], Awaitable[None]]) -> JobDefinition[int, None]:
    """As many steps as the input says, then one that calls `arrived`."""

    async def run(step: StepContext, input: int) -> None:
        for position in range(input):
            await step.run(f"step-{position}", number, position)
        await step.run("arrived", arrived)

    return define_job(name=LONG, input=int, run=run)
