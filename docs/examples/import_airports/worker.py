"""A worker in a process of its own: `python -m docs.examples.import_airports.worker DATABASE`. It ends when its standard input does."""

import asyncio
import os
import sys
import threading

from docs.examples.import_airports.jobs import import_airports
from durably import Durably


async def work(database: str) -> None:
    """Execute runs until whoever started this process is gone."""
    async with Durably(database) as durably:
        durably.register(import_airports)
        await standard_input_to_end()
        await durably.stop(drain=0)


async def standard_input_to_end() -> None:
    """Wait for the end of standard input: the other end of the pipe closes however its process ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        os.read(sys.stdin.fileno(), 1)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
