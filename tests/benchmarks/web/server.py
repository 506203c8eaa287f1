"""A dashboard in a process of its own: `python -m tests.benchmarks.web.server DATABASE`.

Says its address, answers each line of its standard input with what it has used so far, and ends with it.
"""

import asyncio
import sys
from pathlib import Path

from tests.benchmarks.neighbour import say, usage
from tests.benchmarks.web.asking import dashboard
from tests.web.serving import serving


async def serve(database: str) -> None:
    async with dashboard(Path(database)) as site, serving(site.web) as url:
        say(url)
        while await asyncio.to_thread(sys.stdin.readline):
            say(usage())


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
