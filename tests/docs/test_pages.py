"""Every page of the documentation, executed as printed."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from inspect import signature
from pathlib import Path
from typing import get_args
from urllib.request import Request, urlopen

import pytest

import durably
import durably_testing
import durably_web
from docs import life_of_a_run
from durably import spi
from durably.lifecycle import TRANSITIONS
from durably_testing import plugin
from durably_web.components.props import COMMON
from durably_web.kit import COMPONENTS
from tests.docs.pages import DOCS, REPOSITORY, blocks, fits

CALL = re.compile(r"`(\w+)\(([\w, ]*)\)`")
RUNNER = Path(__file__).with_name("pages.py")
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if "adr" not in page.parts and any(block.language in {"python", "sh"} for block in blocks(page))
)


def as_a_reader() -> dict[str, str]:
    """The environment of a reader who has activated a virtual environment."""
    binaries = str(Path(sys.executable).parent)
    # Nor is a reader measured: what the pages execute is tested elsewhere.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return {
        **unmeasured,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
    }


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_runs_as_printed(page: Path, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-W", "error", RUNNER, page],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=as_a_reader(),
        check=False,
    )

    assert process.returncode == 0, process.stderr
    assert not process.stderr


def test_the_runner_notices_what_a_page_gets_wrong(tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n")
    process = subprocess.run([sys.executable, RUNNER, page], capture_output=True, text=True, check=False)

    assert process.returncode == 1
    assert "wrong.md:2: the page says\n2\n\nbut it prints\n1" in process.stderr
    assert fits("run 7 took 3 s", "run … took … s")
    assert not fits("run 7 took 3 s", "run … took … ms")


def test_a_letter_is_never_sent_again_once_it_has_a_checkpoint(tmp_path: Path) -> None:
    """What the tutorial says of its kill, wherever that strikes."""
    (source,) = [block for block in blocks(DOCS / "tutorial.md") if block.title == "letters.py"]
    (tmp_path / "letters.py").write_text(source.text, encoding="utf-8")

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "letters.py"]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=as_a_reader()
        )

    killed = start()
    assert killed.stdout is not None
    before = [killed.stdout.readline() for _ in range(4)]
    killed.kill()
    before.append(killed.communicate()[0])
    after, _ = start().communicate()

    # The second letter's line is printed before its checkpoint is committed.
    assert "sent to Ada\n" in before
    assert "sent to Ada" not in after
    assert "rendering" not in after
    assert after.endswith("sent to Barbara\ndone: 4 letters\n")


def test_the_application_of_the_recipe_serves_and_executes(tmp_path: Path) -> None:
    (app,) = [block for block in blocks(DOCS / "howto" / "fastapi.md") if block.title == "app.py"]
    (tmp_path / "app.py").write_text(app.text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ask(path: str, body: object = None) -> dict[str, str]:
        request = Request(
            f"http://127.0.0.1:{port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urlopen(request, timeout=10) as answer:
            found: dict[str, str] = json.load(answer)
            return found

    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--workers", "2"]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=as_a_reader())
    try:
        order = {"id": "A-1", "cents": 4200}
        first = patiently(lambda: ask("/orders", order))
        again = ask("/orders", order)
        assert (first["disposition"], again["disposition"]) == ("created", "idempotent")
        assert first["run"] == again["run"]
        shown = patiently(lambda: finished(ask(f"/runs/{first['run']}")))
        assert shown == {"status": "completed", "output": "paid 4200 for A-1"}
    finally:
        server.terminate()
        server.wait(timeout=30)

    said = (tmp_path / "server.log").read_text()
    assert "Error" not in said, said
    with closing(sqlite3.connect(tmp_path / "app.db")) as database:
        # Both processes have said goodbye.
        assert database.execute("SELECT count(*) FROM durably_workers").fetchone() == (0,)


def finished(shown: dict[str, str]) -> dict[str, str]:
    if shown["status"] != "completed":
        raise ConnectionError(shown["status"])
    return shown


def patiently(ask: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Ask until there is an answer."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_the_life_of_a_run_is_drawn_from_the_engine() -> None:
    explanation = DOCS / "explanation"
    drawn = (explanation / "life-of-a-run.svg").read_text(encoding="utf-8")
    told = (explanation / "resuming.md").read_text(encoding="utf-8")

    assert drawn == life_of_a_run.picture(), "run: python docs/life_of_a_run.py"
    assert told == life_of_a_run.page(told), "run: python docs/life_of_a_run.py"
    assert life_of_a_run.WORDS.keys() == TRANSITIONS.keys()


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    shown = re.findall(r"^::: (durably(?:\.spi|_web|_testing)?)\.(\w+)$", pages, re.MULTILINE)
    promised = {("durably", name) for name in set(durably.__all__) - {"__version__"}}
    promised |= {("durably.spi", name) for name in spi.__all__ if name not in durably.__all__}
    promised |= {("durably_web", name) for name in durably_web.__all__}
    promised |= {("durably_testing", name) for name in durably_testing.__all__}

    assert sorted(set(shown) - {("durably", "spi")}) == sorted(promised)


def test_every_option_and_every_event_is_on_its_page() -> None:
    options = (DOCS / "howto" / "options.md").read_text(encoding="utf-8")
    watching = (DOCS / "howto" / "watching.md").read_text(encoding="utf-8")

    named = [*durably.DurablyOptions.__annotations__, *durably.TriggerOptions.__annotations__]
    assert [name for name in named if f"`{name}`" not in options] == []
    assert [name for name in get_args(durably.EventType) if f"`{name}`" not in watching] == []


def test_every_fixture_and_option_of_the_pytest_plugin_is_in_the_reference() -> None:
    reference = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
    source = Path(plugin.__file__).read_text(encoding="utf-8")
    options = re.findall(r"\"(--durably-[a-z-]+)\"", source)
    fixtures = re.findall(r"^@pytest\w*\.fixture\n(?:async )?def (\w+)", source, re.MULTILINE)

    assert len(options) == 6
    assert len(fixtures) == 4
    assert [name for name in (*options, *fixtures) if f"`{name}" not in reference] == []


def test_every_page_is_in_the_navigation_and_every_decision_in_its_list() -> None:
    site = (REPOSITORY / "zensical.toml").read_text(encoding="utf-8")
    decisions = (DOCS / "adr" / "index.md").read_text(encoding="utf-8")

    for page in DOCS.rglob("*.md"):
        listed = decisions if page.parent.name == "adr" and page.name != "index.md" else site
        name = page.name if listed is decisions else name_of(page)
        assert name in listed, f"{name_of(page)} is not listed"


def test_every_component_is_told_with_its_props() -> None:
    page = (DOCS / "howto" / "components.md").read_text()
    told = {
        name: props
        for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
        for name, props in CALL.findall(row)
    }
    known = {
        name: ", ".join(prop for prop in signature(component).parameters if prop not in COMMON)
        for name, component in COMPONENTS.items()
    }
    # What is sealed in it stands in the page's code.
    known["trigger_button"] = "job, input, label, idempotency_key"
    # No component, but called as one.
    known["assets"] = ""
    assert told == known
