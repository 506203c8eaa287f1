"""Jobs to be looked at, and a worker for them in a process of its own: `python -m tests.web.jobs URL`.

A file `<folder>/go-<name>` lets the job that waits for it go on.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from durably import Durably, StepContext, job


class Pages(TypedDict):
    """What an import is asked to do."""

    pages: int
    hold: NotRequired[str]
    """The file that it waits for before its last page."""
    fail: NotRequired[bool]
    lines: NotRequired[int]
    """How much it says after each page."""
    pause: NotRequired[float]
    """Seconds that each page takes."""


class Rows(TypedDict):
    """What an import answers."""

    rows: int


@job(name="import-pages")
async def import_pages(step: StepContext, input: Pages) -> Rows:
    """Import so many pages."""
    rows = 0
    step.log.info("started", pages=input["pages"])
    for page in range(input["pages"]):
        hold = input.get("hold") if page == input["pages"] - 1 else None

        async def load(hold: str | None = hold) -> int:
            while hold is not None and not Path(hold).exists():
                await asyncio.sleep(0.005)
            await asyncio.sleep(input.get("pause", 0))
            return 100

        rows += await step.run(f"page-{page}", load)
        step.progress(page + 1, input["pages"], f"page {page + 1}")
        for line in range(input.get("lines", 0)):
            step.log.info(f"line {page}.{line}")
    if input.get("fail"):
        step.log.error("no more")
        raise ValueError("the last page is torn")
    step.log.warning("done")
    return {"rows": rows}


async def main(url: str) -> None:
    """Work until the process is told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Durably(url, jobs=[import_pages], polling_interval=1):
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
