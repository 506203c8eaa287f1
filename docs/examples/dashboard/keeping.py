"""Keeps a worker process: when it dies there is another one, and when this process ends none is left."""

import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

PATIENCE = 1.0
"""Seconds that the worker has to hand back what it executes."""
PAUSE = 0.5
"""Seconds between the death of a worker and the next one."""


@contextmanager
def kept_worker(folder: Path, tell: Callable[[str], object]) -> Generator[None]:
    """Have a worker for the database in this folder, and say which process it is."""
    keeper = Keeper(folder, tell)
    Thread(target=keeper.keep, daemon=True).start()
    try:
        yield
    finally:
        keeper.end()


class Keeper:
    """Starts the worker, waits for its death, and starts another one."""

    def __init__(self, folder: Path, tell: Callable[[str], object]) -> None:
        self.folder = folder
        self.tell = tell
        self.lock = Lock()
        self.ending = Event()
        self.worker: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Until `end` is called."""
        while (worker := self.start()) is not None:
            self.tell(f"A worker works: process {worker.pid}.")
            worker.wait()
            if not self.ending.wait(PAUSE):
                self.tell(f"Process {worker.pid} is gone. Another one takes its runs over.")

    def start(self) -> subprocess.Popen[bytes] | None:
        """The next worker, in a session of its own, so that Ctrl-C reaches this process alone.

        Should this process be killed, its end of the pipe closes, and the worker leaves.
        """
        command: list[str | Path] = [sys.executable, "-m", "docs.examples.dashboard.worker", self.folder]
        with self.lock:
            if self.ending.is_set():
                return None
            self.worker = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            return self.worker

    def end(self) -> None:
        """Have the worker leave. One that does not is killed: that costs the steps it is in, nothing more."""
        with self.lock:
            self.ending.set()
        if self.worker is None:
            return
        try:
            self.worker.communicate(timeout=PATIENCE)  # closes the pipe
        except subprocess.TimeoutExpired:
            self.worker.kill()
            self.worker.wait()
