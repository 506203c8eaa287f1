"""The dashboard, with jobs of several kinds and a worker in another process: `hatch run dashboard`."""

import argparse
import asyncio
import signal
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn
from rich.console import Console

from docs.examples.dashboard.app import create_app
from docs.examples.dashboard.keeping import kept_worker
from docs.examples.dashboard.opening import trigger_runs

HOST = "127.0.0.1"
FOLDER = Path(__file__).resolve().parents[3] / ".cache" / "dashboard"

HELP = """\
The dashboard, with jobs of several kinds and a worker in another process.

Some runs are triggered at each start: an import, pictures, an album of child runs, payments at
a bank that fails now and then, an expense that somebody has to approve. Ctrl-C ends it. What was
executing then goes on at the next start.

The jobs are in jobs.py, the application in app.py, both in docs/examples/dashboard.
"""

console = Console(highlight=False, soft_wrap=True)
say = console.print


def main() -> int:
    """Read the command line, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="hatch run dashboard --", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--port",
        type=int,
        choices=range(65_536),
        default=8000,
        metavar="PORT",
        help="the first port to try (default: 8000; 0: any)",
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the database is (default: %(default)s)"
    )
    arguments = parser.parse_args()
    # Who ends it politely from outside gets the same clean-up as one who presses Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with listen(arguments.port) as listener, suppress(KeyboardInterrupt):
        serve(listener, folder)
    say(f"\nEnded, and the worker too. The database stays in {folder}.")
    return 0


def listen(port: int) -> socket.socket:
    """The first free port from this one on."""
    for candidate in range(port, min(port + 100, 65_536)):
        with suppress(OSError):
            return socket.create_server((HOST, candidate))
    raise SystemExit(
        f"None of the ports {port} to {port + 99} of {HOST} can be had. Name another one: --port N"
    )


def serve(listener: socket.socket, folder: Path) -> None:
    """Trigger the runs, start the worker, and answer requests."""
    left = asyncio.run(trigger_runs(folder))
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    say(f"[bold]The dashboard:[/]  [link={url}/durably/]{url}/durably/[/link]")
    say(f"[bold]A page of your own with parts of it:[/]  [link={url}/]{url}/[/link]")
    if left:
        say(f"{left} runs of last time go on.")
    config = uvicorn.Config(create_app(folder), log_level="warning", timeout_graceful_shutdown=1)
    with kept_worker(folder, say):
        say("Ctrl-C ends it.")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    raise SystemExit(main())
