"""A job that logs, and words for what a subscription told of it."""

import asyncio

from pydantic import BaseModel

from durably import LogLine, RunSnapshot, RunUpdate, StepContext, StepSnapshot, Subscription, define_job


class Talk(BaseModel):
    steps: int = 3
    lines: int = 2
    fails: bool = False


async def talk(step: StepContext, input: Talk) -> int:
    """Log a few lines in each step, and between them."""
    for number in range(input.steps):

        async def say(number: int = number) -> int:
            for line in range(input.lines):
                step.log.info(f"{number}.{line}")
            return number

        await step.run(f"step-{number}", say)
        step.log.info(f"after {number}")
    step.progress(input.steps)
    if input.fails:
        raise ValueError("as asked")
    return input.steps


talking = define_job(name="talk", input=Talk, output=int, run=talk)


def said(steps: int = 3, lines: int = 2) -> list[str]:
    """What the job logs, in order."""
    return [
        text
        for number in range(steps)
        for text in (*(f"{number}.{n}" for n in range(lines)), f"after {number}")
    ]


async def collect(subscription: Subscription[RunUpdate]) -> list[RunUpdate]:
    async with asyncio.timeout(20):
        return [update async for update in subscription]


def heard(updates: list[RunUpdate]) -> list[str]:
    return [update.entry.message for update in updates if isinstance(update, LogLine)]


def states(updates: list[RunUpdate]) -> list[str]:
    return [update.run.status for update in updates if isinstance(update, RunSnapshot)]


def finished(updates: list[RunUpdate]) -> list[str]:
    return [
        update.step.name
        for update in updates
        if isinstance(update, StepSnapshot) and update.step.status == "completed"
    ]


def rises(updates: list[RunUpdate]) -> bool:
    """Whether the numbers of steps and lines rise without a repetition."""
    numbers = [
        update.step.sequence if isinstance(update, StepSnapshot) else update.entry.sequence
        for update in updates
        if isinstance(update, StepSnapshot | LogLine)
    ]
    return numbers == sorted(set(numbers))
