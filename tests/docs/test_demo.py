"""`hatch run demo`, as a newcomer meets it: in a process of its own, without a terminal."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


COMMAND = [sys.executable, "-W", "error", "-m", "docs.examples.import_airports.demo"]


def start(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    """The demo, its folder for temporary files in our hands."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"},
    )


def said(process: subprocess.Popen[str]) -> str:
    """All that is said until the end: of the demo, and of its workers, which share its output."""
    assert process.stdout is not None
    with process.stdout as output:
        text = output.read()
    process.wait()
    return text


def listen(process: subprocess.Popen[str], until: str) -> None:
    """Read until a line says this."""
    assert process.stdout is not None
    for line in process.stdout:
        if until in line:
            return
    pytest.fail(f"the demo ended without {until!r}")


def test_a_run_is_killed_in_the_middle_resumed_and_proven(tmp_path: Path) -> None:
    def show() -> tuple[str, float]:
        begun = time.monotonic()
        demo = start("--kill-after", "5", temporary=tmp_path)
        text = said(demo)
        assert demo.returncode == 0, text
        return text, time.monotonic() - begun

    text, took = show()
    if took >= 15:
        # A neighbour's load may spoil one try.
        text, took = show()
    assert took < 15
    first, second = re.findall(r"worker (\d) enters: process (\d+)", text)
    assert first[1] != second[1]
    assert f"Process {first[1]} killed with SIGKILL, batch-" in text
    (kept,) = re.findall(r"(\d+) steps replayed from their checkpoints, not executed", text)
    assert int(kept) >= 5
    assert text.count("worker 1\n") >= int(kept)
    assert "· attempt 2" in text
    assert re.search(r"rows in the file +3,376\n", text)
    assert re.search(r"rows in the table +3,376, the same ones\n", text)
    assert "Every row once, no batch twice." in text
    (database,) = re.findall(r"The database stays for a look: (.+)\n", text)
    assert Path(database).is_relative_to(tmp_path)
    assert Path(database).exists()
    # Nobody is asked where nobody can answer.
    assert text.rstrip().endswith("hatch run dashboard")


@pytest.mark.skipif(sys.platform == "win32", reason="a console of one's own is needed to send Ctrl-C there")
@pytest.mark.parametrize("moment", ["Triggered", "batch-02", "killed with SIGKILL", "replayed"])
def test_ctrl_c_leaves_no_process_and_no_file_behind(moment: str, tmp_path: Path) -> None:
    demo = start("--kill-after", "3", temporary=tmp_path)
    listen(demo, moment)
    demo.send_signal(signal.SIGINT)
    text = said(demo)

    assert demo.returncode == 130, text
    assert "Interrupted" in text
    assert "Traceback" not in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is not known there")
def test_the_worker_does_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    demo = start(temporary=tmp_path)
    listen(demo, "batch-01")
    demo.send_signal(signal.SIGKILL)

    # The output ends with the last process that holds it.
    said(demo)
    assert demo.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="there is no terminal to be had there")
@pytest.mark.parametrize(("answer", "then"), [("", "$"), ("y", "A worker works")])
def test_somebody_at_a_terminal_is_offered_the_dashboard(answer: str, then: str, tmp_path: Path) -> None:
    import pty

    offer = "from docs.examples.import_airports.demo import offer_dashboard as offer"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", f"{offer}; offer('--port', '0', '--folder', {str(tmp_path)!r}); print('$')"],
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as demo:
        try:
            until_said(ours, "[y/N]")
            os.write(ours, f"{answer}\n".encode())
            until_said(ours, then)
            if answer == "y":
                demo.send_signal(signal.SIGINT)
                until_said(ours, "Ended, and the worker too")
            assert demo.wait(30) == 0
        finally:
            demo.kill()
            os.close(ours)
            os.close(theirs)


def until_said(terminal: int, text: str) -> None:
    """Read until this was said."""
    seen = b""
    while text.encode() not in seen:
        seen += os.read(terminal, 10_000)


def test_help_says_what_will_happen(tmp_path: Path) -> None:
    demo = start("--help", temporary=tmp_path)
    text = said(demo)

    assert demo.returncode == 0
    assert "hatch run demo --" in text
    assert "killed with SIGKILL" in text
    assert list(tmp_path.iterdir()) == []
