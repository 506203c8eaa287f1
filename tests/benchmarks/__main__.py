"""`hatch run bench`: measure what durably costs, beside the floors of this machine."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.benchmarks import figures
from tests.benchmarks.bench import FULL, NORMAL, QUICK, Bench
from tests.benchmarks.places import folder_on_disk
from tests.benchmarks.profiling import PROFILED, profile
from tests.benchmarks.workloads import WORKLOADS, chosen, described

if TYPE_CHECKING:
    from durably import Durability
    from tests.benchmarks.figures import Figure


WIDTH = 130


def arguments() -> argparse.Namespace:
    names = "\n".join(f"  {name:12} {described(workload)}" for name, workload in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="bench",
        description=f"{__doc__}\n\nworkloads:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="what to measure, or how it begins; all without any")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="less of everything: under a minute, and rough")
    amount.add_argument(
        "--full", action="store_true", help="also 1,000,000 finished runs, and 8 idle workers"
    )
    parser.add_argument("--dir", type=Path, help="where the databases stand; must be a real disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument(
        "--durability",
        choices=("disk", "process"),
        default="disk",
        help="of engine and floors (disk: WAL + FULL)",
    )
    parser.add_argument("--profile", choices=PROFILED, metavar="NAME", help=f"one of {', '.join(PROFILED)}")
    return parser.parse_args()


def load() -> str:
    """How busy the machine is; the benchmark itself adds about one."""
    cores = f"{os.cpu_count()} cores"
    return f"{cores}, load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else cores


async def main() -> int:
    given = arguments()
    # A file has no width of its own, and a table wants some.
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    try:
        workloads = chosen(given.names)
    except KeyError as error:
        console.print(f"there is no workload {error}; there are: {', '.join(WORKLOADS)}")
        return 2
    scale = QUICK if given.quick else FULL if given.full else NORMAL
    durability: Durability = given.durability
    measured: dict[str, list[Figure]] = {}
    failures = 0
    with tempfile.TemporaryDirectory(prefix="durably-bench-", dir=folder_on_disk(given.dir)) as folder:
        console.print(f"durability {durability!r}, {scale.rounds} rounds, {load()}, in {folder}")
        with console.status("") as status:
            bench = Bench(Path(folder), scale, durability=durability, tell=status.update)
            if given.profile:
                status.update(f"profiling {given.profile}")
                await profile(bench, given.profile, console)
                return 0
            for name, workload in workloads.items():
                begun = time.monotonic()
                try:
                    measured[name] = await workload(bench)
                except Exception:  # noqa: BLE001 (the others are worth having all the same)
                    failures += 1
                    console.print_exception()
                else:
                    title = f"{name}: {described(workload)}"
                    figures.show(console, f"{title} ({time.monotonic() - begun:.0f} s)", measured[name])
    console.print(
        f"At the end: {load()}. A busy machine lowers the ratios too: the engine works on two threads."
    )
    if given.json:
        conditions = {"durability": durability, "rounds": scale.rounds, "load": load()}
        figures.write(given.json, measured, conditions)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
