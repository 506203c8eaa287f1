"""Jobs for workers in processes of their own. `python -m tests.core.sample_jobs URL OPTIONS-AS-JSON`."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from durably import Durably, DurablyOptions, FailedRun, StepContext, job


class Ledger(BaseModel):
    """Where steps write down that they were executed, and which of them is deadly or endless."""

    path: str
    steps: int = 5
    deadly: int | None = None
    """This step kills its process, every time."""
    stuck: int | None = None
    """This step never ends while the file `<path>.hold` exists."""


@job(name="mourn")
async def mourn(step: StepContext, failed: FailedRun) -> str:
    """Say what the run failed of."""
    return failed.error.type


@job(name="ledger", on_failure=mourn)
async def ledger(step: StepContext, input: Ledger) -> int:
    """Write a line a step."""

    def note(number: int) -> int:
        with Path(input.path).open("a") as file:
            file.write(f"{step.run_id} {number} {os.getpid()}\n")
        if number == input.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    async def wait(number: int) -> int:
        note(number)
        while Path(f"{input.path}.hold").exists():
            await asyncio.sleep(0.01)
        return number

    total = 0
    for number in range(input.steps):
        if number == input.stuck:
            total += await step.run(f"step-{number}", wait, number)
        else:
            total += await step.run(f"step-{number}", note, number)
    return total


class Round(BaseModel):
    """Where each link writes down that it was executed, and how many there are to be."""

    path: str
    rounds: int
    number: int = 0


@job(name="rounds")
async def rounds(step: StepContext, input: Round) -> int:
    """Write a line a link."""

    def note() -> None:
        with Path(input.path).open("a") as file:
            file.write(f"{step.run_id} {input.number} {os.getpid()}\n")

    await step.run("note", note)
    if input.number + 1 < input.rounds:
        await step.continue_as_new(Round(path=input.path, rounds=input.rounds, number=input.number + 1))
    return input.number


class Crunch(BaseModel):
    """Where each item writes down that it was done, and after how many of them the process dies, every time."""

    path: str
    items: int
    deadly: int


@job(name="crunch")
async def crunch(step: StepContext, input: Crunch) -> int:
    """Write a line an item, in one step."""

    def work() -> int:
        begin = step.cursor(int) or 0
        for item in range(begin, input.items):
            with Path(input.path).open("a") as file:
                file.write(f"{step.run_id} {item} {os.getpid()}\n")
            step.save_cursor(item + 1)
            if item + 1 == begin + input.deadly:
                # Not before whoever looks at the database has seen the cursor.
                while not Path(f"{input.path}.{item + 1}").exists():
                    time.sleep(0.002)
                os.kill(os.getpid(), signal.SIGKILL)
        return begin

    return await step.run("work", work)


async def main(url: str, options: DurablyOptions) -> None:
    """Work until the process is told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options["jobs"] = [ledger, rounds, crunch]
    async with Durably(url, **options):
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
