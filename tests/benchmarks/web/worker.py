"""A worker whose commits are watched on a screen: `python -m tests.benchmarks.web.worker DATABASE`.

Says `ready`, and then for each line of its standard input commits something and answers at what instant it knew of
that: for `step` the next step of the run `telling`, for `run` a new run.
"""

import asyncio
import json
import sys
import time
from functools import partial

from durably import Durably, StepCompleted, StepContext, define_job
from tests.benchmarks.jobs import number
from tests.benchmarks.neighbour import say

TELLING = "telling"
NOTHING = "nothing"


async def serve(database: str) -> None:
    wanted: asyncio.Queue[int] = asyncio.Queue()
    committed: asyncio.Queue[float] = asyncio.Queue()

    async def tell(step: StepContext, input: int) -> None:
        while True:
            position = await wanted.get()
            # Numbered ones would be folded into one row.
            name = "".join(chr(97 + int(digit)) for digit in str(position))
            await step.run(f"step-{name}", partial(number, position))

    async def nothing(step: StepContext, input: int) -> None:
        return None

    def happened(_: StepCompleted) -> None:
        committed.put_nowait(time.time())

    durably = Durably(database, jobs=[define_job(name=TELLING, input=int, run=tell)])
    idle = durably.register(define_job(name=NOTHING, input=int, run=nothing))
    durably.on("step:complete", happened)
    async with durably:
        run = await durably.jobs[TELLING].trigger(0)
        say(run.id)
        position = 0
        while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
            position += 1
            if word == "step":
                wanted.put_nowait(position)
                at = await committed.get()
            else:
                await idle.trigger(position, delay=3600)
                at = time.time()
            say(json.dumps({"at": at, "position": position}))
        await durably.stop(drain=0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
