"""A worker in a process of its own: `python -m tests.benchmarks.neighbour DATABASE SLOTS`.

Says `ready`, answers each line of its standard input with what it has used so far, says `arrived` when a long job
has come to its last step and stays there, and ends with its standard input.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from durably import Durably
from tests.benchmarks.jobs import awaiting_job, counting, long_job


def peak_memory() -> int:
    """The most bytes of memory this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts a parent's memory in ru_maxrss of the child it starts; this mark is our own.
        mark = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(mark.split()[1]) * 1024
    import resource

    # Kibibytes everywhere but on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_memory() -> int:
    """The bytes of memory that this process holds; 0 where that cannot be told."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    mark = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(mark.split()[1]) * 1024


def usage() -> str:
    """What this process has used so far, as JSON."""
    return json.dumps({"cpu": time.process_time(), "peak": peak_memory(), "resident": resident_memory()})


async def arrived() -> None:
    say("arrived")
    await asyncio.Event().wait()


def say(word: str) -> None:
    print(word, flush=True)


async def serve(database: str, slots: int) -> None:
    durably = Durably(database, max_concurrent_runs=slots)
    durably.register(counting)
    durably.register(awaiting_job(time.perf_counter))
    durably.register(long_job(arrived))
    async with durably:
        say("ready")
        while await asyncio.to_thread(sys.stdin.readline):
            say(usage())
        await durably.stop(drain=0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
