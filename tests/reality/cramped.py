"""A worker on a disk that is full for a while, or whose files may not grow: `python -m … HOW FOLDER`.

- `tmpfs`: a file system of two mebibytes is mounted on the folder, and another file takes the rest of it. For a
  process that may mount.
- `limit`: the kernel refuses to let any file of this process grow (RLIMIT_FSIZE).

Prints what it saw as JSON.
"""

import asyncio
import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from durably import Durably, StepContext, define_job


def fill(folder: Path) -> Callable[[], None]:
    """Take all the room; answers what gives it back."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    return ballast.unlink


def limit(folder: Path) -> Callable[[], None]:
    """Let no file grow; answers what lets them again."""
    largest = max(file.stat().st_size for file in folder.glob("app.db*") if file.is_file())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


async def main(how: str, folder: Path) -> None:
    bodies: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    gate = asyncio.Event()

    async def write(step: StepContext, input: int) -> int:
        def body(number: int) -> str:
            bodies[f"{input}-{number}"] += 1
            return "x" * 2000

        await step.run("wait", gate.wait)
        for number in range(5):
            await step.run(f"step-{number}", body, number)
        return input

    job = define_job(name="write", input=int, output=int, run=write)
    async with Durably(f"sqlite:///{folder}/app.db", jobs=[job], polling_interval=0.1) as durably:
        durably.on("worker:error", lambda event: errors.update([type(event.error).__name__]))
        handle = durably.register(job)
        runs = [await handle.trigger(number) for number in range(5)]
        relieve = fill(folder) if how == "tmpfs" else limit(folder)
        gate.set()
        while not errors:
            await asyncio.sleep(0.01)
        late = asyncio.ensure_future(handle.trigger(99))
        await asyncio.sleep(0.3)
        relieve()
        for run in [*runs, await late]:
            await durably.wait_for_run(run.id, timeout=20)
        statuses = Counter(run.status for run in await durably.get_runs())
    print(json.dumps({"statuses": statuses, "errors": errors, "bodies": max(bodies.values())}))


if __name__ == "__main__":
    if sys.argv[1] == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", sys.argv[2]], check=True)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
