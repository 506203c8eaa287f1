"""A worker in a process of its own: `python -m docs.examples.dashboard.worker FOLDER`, until its standard input ends."""

import asyncio
import os
import sys
from datetime import timedelta

from docs.examples.dashboard.jobs import JOBS
from docs.examples.import_airports.worker import standard_input_to_end
from durably import Durably


async def work(folder: str) -> None:
    """Execute runs until whoever started this process is gone."""
    os.chdir(folder)  # the jobs write their files here
    async with Durably("sqlite:///app.db", jobs=JOBS, retain=timedelta(days=1)) as durably:
        await standard_input_to_end()
        # What executes is handed back, and goes on when the next worker is there.
        await durably.stop(drain=0)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
