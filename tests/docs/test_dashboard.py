"""`hatch run dashboard`, as a newcomer meets it: a server, a worker in another process, and pages."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from docs.examples.dashboard.__main__ import HOST, listen
from docs.examples.dashboard.opening import trigger_runs
from durably import Durably

REPOSITORY = Path(__file__).parents[2]
LIMIT = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C there needs a console of one's own")


@dataclass(frozen=True)
class Dashboard:
    """A process that was started as `hatch run dashboard` does."""

    process: subprocess.Popen[str]
    url: str
    worker: int

    def get(self, path: str) -> str:
        """A page."""
        with urlopen(self.url + path, timeout=LIMIT) as response:
            return str(response.read(), "utf-8")

    def post(self, path: str, fields: Mapping[str, str]) -> str:
        """The page after a form, sent as a browser does."""
        body = urlencode(fields).encode()
        with urlopen(
            Request(self.url + path, body, {"sec-fetch-site": "same-origin"}), timeout=LIMIT
        ) as response:
            return str(response.read(), "utf-8")

    def find(self, path: str, pattern: str) -> str:
        """The group of the pattern in the page, as soon as it is there."""
        deadline = time.monotonic() + LIMIT
        while (found := re.search(pattern, page := self.get(path))) is None:
            assert time.monotonic() < deadline, page
            time.sleep(0.05)
        return found[1]

    def end(self, by: signal.Signals) -> str:
        """What it has still said. The output ends with the last process that holds it."""
        self.process.send_signal(by)
        said, _ = self.process.communicate(timeout=LIMIT)
        return said


@contextmanager
def started(folder: Path) -> Generator[Dashboard]:
    """On a free port."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    script = settings["tool"]["hatch"]["envs"]["default"]["scripts"]["dashboard"]
    python, *command = shlex.split(script.replace("{args}", f"--port 0 --folder '{folder}'"))
    assert python == "python"
    with subprocess.Popen(
        [sys.executable, "-W", "error", *command],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        try:
            url = heard(process, r"(http://127\.0\.0\.1:\d+)/durably/")
            yield Dashboard(process, url, int(heard(process, r"A worker works: process (\d+)")))
        finally:
            process.kill()


def heard(process: subprocess.Popen[str], pattern: str) -> str:
    """The group of the pattern in the first line that has it."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    pytest.fail(f"it ended without {pattern!r}")


def test_a_worker_elsewhere_executes_what_the_pages_show_until_ctrl_c_ends_both(tmp_path: Path) -> None:
    with started(tmp_path) as dashboard:
        for page in ("/", "/durably/", "/durably/runs", "/durably/jobs/render-zoom"):
            assert "<!doctype html>" in dashboard.get(page)
        assert dashboard.worker != dashboard.process.pid
        dashboard.find("/durably/workers", rf"(:{dashboard.worker}\b)")
        for job, status in [
            ("charge-card", "completed"),
            ("charge-card", "failed"),
            ("charge-card", "cancelled"),
            ("charge-card", "pending"),
            ("import-airports", "running"),
        ]:
            dashboard.find(f"/durably/runs?job={job}&status={status}", r'href="/durably/runs/([\w-]{36})"')

        waiting = "/durably/runs?job=reimburse&status=waiting"
        run = "/durably/runs/" + dashboard.find(waiting, r'href="/durably/runs/([\w-]{36})"')
        assert "Send “approved”" in dashboard.get(run)
        dashboard.post(f"{run}/signal", {"name": "approved", "payload": "true"})
        dashboard.find(run, "(Grace gets 250.00 back for a ticket to Vienna)")

        picture = dashboard.find("/", r'src="(/pictures/[^"]+\.png)"').replace(" ", "%20")
        with urlopen(dashboard.url + picture, timeout=LIMIT) as response:
            assert response.read(8) == b"\x89PNG\r\n\x1a\n"

        last_words = dashboard.end(signal.SIGINT)
        assert dashboard.process.returncode == 0, last_words
        assert "Ended, and the worker too" in last_words
        assert "Traceback" not in last_words
        with pytest.raises(ProcessLookupError):
            os.kill(dashboard.worker, 0)


def test_a_worker_that_dies_has_a_successor_and_none_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as dashboard:
        os.kill(dashboard.worker, signal.SIGKILL)
        successor = int(heard(dashboard.process, r"A worker works: process (\d+)"))
        assert successor != dashboard.worker
        dashboard.end(signal.SIGKILL)
        assert dashboard.process.returncode == -signal.SIGKILL


async def test_a_second_start_leaves_the_runs_of_the_first_alone_and_has_one_till(tmp_path: Path) -> None:
    assert await trigger_runs(tmp_path) == 0
    left = await trigger_runs(tmp_path)
    assert left > 5
    async with Durably(tmp_path / "app.db", worker=False) as durably:
        assert await durably.count_runs(job_name="keep-till") == 1
        assert await durably.count_runs(status="pending") == 2 * left - 1


def test_a_port_that_is_taken_is_passed_by() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with listen(port) as free:
            assert port < free.getsockname()[1] < port + 100


def test_help_says_what_will_happen() -> None:
    command = [sys.executable, "-m", "docs.examples.dashboard", "--help"]
    text = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "hatch run dashboard --" in text
    assert "Ctrl-C ends it" in text
