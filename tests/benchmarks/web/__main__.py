"""`hatch run bench-web`: measure what the dashboard costs, over a database of a million runs."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from tests.benchmarks import figures
from tests.benchmarks.__main__ import WIDTH, load
from tests.benchmarks.figures import Figure
from tests.benchmarks.places import folder_on_disk
from tests.benchmarks.web import filling, pages
from tests.benchmarks.web.asking import visiting
from tests.benchmarks.web.idle import idle
from tests.benchmarks.web.news import news

CACHE = Path(__file__).parents[3] / ".cache" / "benchmarks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    runs: int = 1_000_000
    samples: int = 15
    commits: int = 40
    pages: int = 500
    seconds: float = 60.0
    """For which the open pages are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a workload measures with."""

    database: Path
    folder: Path
    """A place for another database."""
    scale: Scale
    tell: Callable[[str], None]


Workload: TypeAlias = Callable[[Bench], Awaitable[list[Figure]]]


async def lists(bench: Bench) -> list[Figure]:
    """The runs page with every filter, cold: with all counts made anew."""
    async with visiting(bench.database) as visitor:
        return await pages.of_lists(visitor, bench.scale.runs, bench.scale.samples, bench.tell)


async def others(bench: Bench) -> list[Figure]:
    """The other pages."""
    async with visiting(bench.database) as visitor:
        return await pages.of_others(visitor, bench.scale.runs, bench.scale.samples, bench.tell)


async def long_runs(bench: Bench) -> list[Figure]:
    """Runs with very many steps and lines."""
    async with visiting(bench.database) as visitor:
        return await pages.of_long_runs(visitor, bench.scale.runs, bench.scale.samples, bench.tell)


async def doorbell(bench: Bench) -> list[Figure]:
    """From a commit in a worker's process to the DOM of a real browser."""
    bench.tell("commits, seen by a browser")
    return await news(bench.folder, bench.scale.commits)


async def open_pages(bench: Bench) -> list[Figure]:
    """Many open pages on one process, while nothing happens."""
    bench.tell(f"{bench.scale.pages} open pages for {bench.scale.seconds:.0f} s")
    return await idle(bench.database, bench.scale.runs, bench.scale.pages, bench.scale.seconds)


WORKLOADS: Mapping[str, Workload] = {
    "runs": lists,
    "pages": others,
    "long": long_runs,
    "news": doorbell,
    "idle": open_pages,
}


def arguments() -> argparse.Namespace:
    """What is asked for."""
    names = "\n".join(
        f"  {name:6} {(workload.__doc__ or '').strip()}" for name, workload in WORKLOADS.items()
    )
    parser = argparse.ArgumentParser(
        prog="bench-web",
        description=f"{__doc__}\n\nworkloads:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="what to measure; all without any")
    parser.add_argument("--quick", action="store_true", help="less of everything: 50,000 runs, and rough")
    parser.add_argument("--runs", type=int, help="how many runs the database has; 1,000,000")
    parser.add_argument(
        "--dir", type=Path, help="where the database is kept from one time to the next; must be a real disk"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return parser.parse_args()


async def filled(folder: Path, runs: int, tell: Callable[[str], None]) -> Path:
    """The database, as it was kept, or made now."""
    path = folder / filling.name_of(runs)
    if not path.exists():
        tell(f"filling a database with {runs:,} runs, which is kept for the next time")
        for old in folder.glob(f"{filling.PREFIX}{runs}-*"):
            old.unlink()
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        await filling.fill(unfinished, runs)
        unfinished.rename(path)
    return path


async def main() -> int:
    """Measure, and show."""
    given = arguments()
    unknown = [name for name in given.names if name not in WORKLOADS]
    if unknown:
        print(f"there is no workload {unknown[0]!r}; there are: {', '.join(WORKLOADS)}")
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    scale = Scale(runs=50_000, samples=5, commits=20, pages=100, seconds=10.0) if given.quick else Scale()
    scale = replace(scale, runs=given.runs or scale.runs)
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = folder_on_disk(given.dir or CACHE)
    measured: dict[str, list[Figure]] = {}
    failures = 0
    with tempfile.TemporaryDirectory(prefix="bench-web-", dir=kept) as folder, console.status("") as status:
        database = await filled(kept, scale.runs, status.update)
        console.print(
            f"{scale.runs:,} runs in {database.stat().st_size / 1e6:,.0f} MB; medians of {scale.samples}; {load()}"
        )
        bench = Bench(database=database, folder=Path(folder), scale=scale, tell=status.update)
        for name in given.names or WORKLOADS:
            begun = time.monotonic()
            try:
                measured[name] = await WORKLOADS[name](bench)
            except Exception:  # noqa: BLE001 (the others are worth having all the same)
                failures += 1
                console.print_exception()
            else:
                title = f"{name}: {(WORKLOADS[name].__doc__ or '').strip()}"
                figures.show(console, f"{title} ({time.monotonic() - begun:.0f} s)", measured[name])
    console.print(f"At the end: {load()}.")
    if given.json:
        figures.write(given.json, measured, {"runs": scale.runs, "samples": scale.samples, "load": load()})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
