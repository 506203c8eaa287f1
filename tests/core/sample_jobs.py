"""Jobs for workers in processes of their own. `python -m tests.core.sample_jobs URL [option=value …]`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from pydantic import BaseModel

from durably import Durably, StepContext, job


class Ledger(BaseModel):
    """Where steps write down that they were executed, and which of them is deadly or endless."""

    path: str
    steps: int = 5
    deadly: int | None = None
    """This step kills its process, every time."""
    stuck: int | None = None
    """This step never ends while the file `<path>.hold` exists."""
    thread: bool = False
    """Whether the stuck step is a plain function."""


@job(name="ledger")
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
        body = wait if number == input.stuck else note
        total += await step.run(f"step-{number}", body, number)
    return total


async def main(url: str, options: dict[str, float]) -> None:
    """Work until the process is told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Durably(url, jobs=[ledger], **options):  # type: ignore[arg-type, list-item]
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    settings = {
        name: int(value) if value.isdigit() else float(value)
        for name, _, value in (pair.partition("=") for pair in sys.argv[2:])
    }
    asyncio.run(main(sys.argv[1], settings))
