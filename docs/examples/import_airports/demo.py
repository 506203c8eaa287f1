"""A real job, killed in the middle and resumed before your eyes: `hatch run demo`."""

import argparse
import asyncio
import csv
import random
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from docs.examples.import_airports.jobs import ImportAirports, Imported, import_airports
from durably import Durably, JobHandle, Run, Step

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "airports.csv"
PAUSE = 0.25

HELP = """\
A real job, killed in the middle and resumed before your eyes.

airports.csv is imported into a table of SQLite, 200 rows a step, by a worker in a process of
its own. In the middle of a step that process is killed with SIGKILL. A second worker takes the
run over, passes by the steps that have a checkpoint, and ends the import. Then the table is
held against the file. It takes about ten seconds; Ctrl-C stops it and removes what it made.

The job is in jobs.py, the worker in worker.py, both in docs/examples/import_airports.
"""

WorkerProcess = subprocess.Popen[bytes]

console = Console(highlight=False, soft_wrap=True)
say = console.print


async def perform(database: Path, *, kill_after: int) -> bool:
    """The whole story; answers whether the table agrees with the file."""
    async with asyncio.timeout(60), Durably(database, worker=False) as durably:
        job = durably.register(import_airports)
        run = await job.trigger(ImportAirports(source=SOURCE, database=database, pause=PAUSE))
        say(f"[bold]Triggered[/] {run.job_name}. It is a row in the database; nobody executes it yet.\n")

        with progress_bar() as bar:
            stage = Stage(durably, job, run, bar)
            with worker(database) as first:
                stage.enter(first, "[blue]worker 1[/]")
                await stage.follow(
                    first, lambda: len(stage.completed) >= kill_after and bool(stage.executing)
                )
                first.kill()  # SIGKILL: no handler, no farewell, no clean-up.
                first.wait()
            killed_at = datetime.now(UTC)
            await stage.look()
            stage.tell(first)
            kept = stage.completed
            say(
                f"\n[bold red]✖ Process {first.pid} killed[/] with SIGKILL, {stage.executing or 'no step'} was executing."
            )
            say(f"  {len(kept)} steps have a checkpoint: {kept[0].name} … {kept[-1].name}.")
            if stage.run.lease_expires_at is not None:
                left = (stage.run.lease_expires_at - killed_at).total_seconds()
                say(f"  The dead process's lease on the run has {left:.0f} s to go.\n")

            with worker(database) as second:
                stage.enter(second, "[magenta]worker 2[/]")
                await stage.follow(second, lambda: any(step.started_at > killed_at for step in stage.steps))
                replayed = [step for step in kept if step in stage.steps]  # Their rows are as they were.
                say(f"  [cyan]↺[/] {len(replayed)} steps replayed from their checkpoints, not executed")
                await stage.follow(second, lambda: stage.run.is_terminal)
                stage.tell(second)
        return prove(stage, database, replayed, killed_at)


class Stage:
    """One run as its rows show it: nothing is told here that another process could not read."""

    def __init__(
        self,
        durably: Durably,
        job: JobHandle[ImportAirports, Imported],
        run: Run[ImportAirports, Imported],
        bar: Progress,
    ) -> None:
        self.durably = durably
        self.job = job
        self.run = run
        self.steps: Sequence[Step] = ()
        self.told = 0
        self.cast: dict[int, str] = {}
        self.bar = bar
        self.rows = bar.add_task("rows", total=None)

    @property
    def completed(self) -> list[Step]:
        """The steps that have a checkpoint."""
        return [step for step in self.steps if step.status == "completed"]

    @property
    def executing(self) -> str | None:
        """The step whose body has begun and not ended, as far as the rows tell."""
        return next((step.name for step in self.steps if step.status == "running"), None)

    def enter(self, process: WorkerProcess, name: str) -> None:
        """Introduce a worker."""
        self.cast[process.pid] = name
        say(f"[bold]{name}[/] enters: process {process.pid}.")

    async def look(self) -> None:
        """Read the run and its steps."""
        self.run = await self.job.get_run(self.run.id) or self.run
        self.steps = await self.durably.get_steps(self.run.id)

    def tell(self, process: WorkerProcess) -> None:
        """Say which steps this worker has completed since the last time."""
        for step in self.completed[self.told :]:
            again = f" · attempt {step.attempt}" if step.attempt > 1 else ""
            say(f"  [green]✔[/] {step.name:<9} {self.cast[process.pid]}{again}")
        self.told = len(self.completed)
        if self.run.progress is not None:
            self.bar.update(self.rows, completed=self.run.progress.current, total=self.run.progress.total)

    async def follow(self, process: WorkerProcess, seen: Callable[[], bool]) -> None:
        """Look and tell, twenty times a second, until what is waited for was seen."""
        await self.look()
        while not seen():
            self.tell(process)
            if self.run.is_terminal or process.poll() is not None:
                raise RuntimeError(f"the run is {self.run.status}, the worker's exit code {process.poll()}")
            await asyncio.sleep(0.05)
            await self.look()


@contextmanager
def worker(database: Path) -> Generator[WorkerProcess]:
    """A worker in a process of its own; gone when this block is left, however it is left."""
    # In a session of its own, so that Ctrl-C reaches this process alone, which then sees to the worker. Should this
    # process be killed itself, its end of the pipe closes, and the worker leaves.
    command: list[str | Path] = [sys.executable, "-m", "docs.examples.import_airports.worker", database]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
            process.communicate(timeout=5)
        finally:
            process.kill()


def progress_bar() -> Progress:
    """A bar at the foot of a terminal, nothing elsewhere."""
    columns = BarColumn(bar_width=50), MofNCompleteColumn(), TextColumn("rows imported")
    return Progress(
        TextColumn(" "), *columns, console=console, transient=True, disable=not console.is_terminal
    )


def prove(stage: Stage, database: Path, replayed: Sequence[Step], killed_at: datetime) -> bool:
    """Hold the table against the file, and say who did what; answers whether all is well."""
    with SOURCE.open(newline="", encoding="utf-8") as file:
        expected = sorted(row["iata"] for row in csv.DictReader(file))
    with closing(sqlite3.connect(database)) as tables:
        found = sorted(iata for (iata,) in tables.execute("SELECT iata FROM airports"))
        batches = tables.execute("SELECT number, pid FROM batches ORDER BY number").fetchall()
    executed = [step for step in stage.steps if step.started_at > killed_at]
    gap = min(step.started_at for step in executed) - killed_at
    facts = {
        "from the kill to the next step": f"{gap.total_seconds():.2f} s, a new Python process included",
        "steps": f"{len(replayed)} replayed, {len(executed)} executed after the kill",
    }
    for step in executed:
        if step.attempt > 1:
            writers = [stage.cast[pid] for number, pid in batches if step.name == f"batch-{number:02}"]
            facts["begun by both workers"] = f"{step.name}; its rows were written by {' and '.join(writers)}"
    shares = Counter(stage.cast[pid] for _, pid in batches)
    facts["batches written"] = ", ".join(f"{count} by {name}" for name, count in shares.items())
    facts["rows in the file"] = f"{len(expected):,}"
    facts["rows in the table"] = f"{len(found):,}" + (", the same ones" if found == expected else "")

    say(f"\n[bold]The run is {stage.run.status}.[/] What can be counted afterwards:")
    for name, fact in facts.items():
        say(f"  {name:<32}{fact}")
    is_well = (
        stage.run.status == "completed"
        and found == expected
        and len({number for number, _ in batches}) == len(batches)
    )
    say("[bold green]✔ Every row once, no batch twice.[/]" if is_well else "[bold red]✖ They differ.[/]")
    return is_well


def main() -> int:
    """Read the command line, perform, and clean up if interrupted."""
    parser = argparse.ArgumentParser(
        prog="hatch run demo --", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kill-after",
        type=int,
        choices=range(2, 18),
        default=random.randint(6, 11),
        metavar="STEPS",
        help="kill the worker once so many steps are completed, 2 to 17 (default: a random number)",
    )
    arguments = parser.parse_args()
    # Who ends it politely from outside gets the same clean-up as one who presses Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="durably-demo-"))
    database = folder / "airports.db"
    try:
        is_well = asyncio.run(perform(database, kill_after=arguments.kill_after))
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        say("\nInterrupted. The worker is gone, the database removed.")
        return 130
    except (RuntimeError, TimeoutError) as error:
        say(f"\n[bold red]✖ Not as planned:[/] {str(error) or 'it took too long'}")
        is_well = False
    say(f"\nThe database stays for a look: [bold]{database}[/]")
    query = "SELECT state, count(*) FROM airports GROUP BY 1"
    say(f'  sqlite3 {database} "{query}"')
    if is_well:
        offer_dashboard()
    return 0 if is_well else 1


def offer_dashboard(*arguments: str) -> None:
    """Name it; whoever sits at a terminal may have it at once."""
    say("\nRuns can be watched in a browser too: [bold]hatch run dashboard[/]")
    if sys.stdin.isatty() and sys.stdout.isatty() and is_wanted("Start it now?"):
        sys.argv[1:] = arguments
        runpy.run_module("docs.examples.dashboard", run_name="__main__")


def is_wanted(question: str) -> bool:
    """Ask; whoever says nothing does not want it."""
    try:
        return console.input(f"{question} [dim]\\[y/N][/] ").strip().lower() in {"y", "yes"}
    except (EOFError, KeyboardInterrupt):
        return False


if __name__ == "__main__":
    raise SystemExit(main())
