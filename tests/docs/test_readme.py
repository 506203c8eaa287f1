"""The READMEs' Python, executed as printed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

REPOSITORY = Path(__file__).parents[2]
READMES = [
    "README.md",
    *(f"packages/{name}/README.md" for name in ("durably-core", "durably-web", "durably-testing")),
]


def blocks(readme: str) -> list[str]:
    """The Python blocks of a README, in order."""
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


PRINTED = [
    pytest.param(block, id=f"{readme}-{number}")
    for readme in READMES
    for number, block in enumerate(blocks(readme), start=1)
]


def start(block: str, folder: Path) -> subprocess.Popen[str]:
    """A Python block as a script in a folder of its own; warnings are errors."""
    script = folder / "printed.py"
    script.write_text(block, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-u", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize("block", PRINTED)
def test_python_runs_as_printed(block: str, tmp_path: Path) -> None:
    process = start(block, tmp_path)
    output, errors = process.communicate()

    assert process.returncode == 0, errors
    assert not errors
    assert output


def test_the_front_page_and_the_package_pages_each_have_a_job() -> None:
    assert [len(blocks(readme)) for readme in READMES] == [1, 1, 1, 1]


def test_the_crash_test_finds_what_the_readme_says(tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(
        r'^```python title="test_orders.py"\n(.*?)^```$', text, flags=re.MULTILINE | re.DOTALL
    )
    (shown,) = re.findall(r"^```\n(E .*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "test_orders.py").write_text(block, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    printed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_orders.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )

    lines = [line.partition("…")[0].rstrip() for line in shown.splitlines()]
    for line in filter(None, lines):
        assert line in printed.stdout, printed.stdout


def asked(request: str | Request) -> tuple[str, str]:
    """Where the answer came from, and the page."""
    with urlopen(request, timeout=30) as page:
        return page.url, str(page.read(), "utf-8")


@pytest.mark.parametrize("readme", ["README.md", "packages/durably-web/README.md"])
def test_the_dashboard_is_mounted_as_printed(readme: str, tmp_path: Path) -> None:
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    (block,) = re.findall(r'^```python title="app.py"\n(.*?)^```$', text, flags=re.MULTILINE | re.DOTALL)
    (path,) = re.findall(r"http://127\.0\.0\.1:8000(/\S+)", text)
    (tmp_path / "app.py").write_text(block, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "uvicorn", "app:app", "--port", "0"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as server:
        try:
            assert server.stderr is not None
            (url,) = next(found for line in server.stderr if (found := re.findall(r"http://\S+:\d+", line)))
            assert "Trigger a run" in asked(url + path)[1]
            form = Request(f"{url}{path}/trigger", b"f.=Ada", {"sec-fetch-site": "same-origin"})
            run, shown = asked(form)
            deadline = time.monotonic() + 30
            while "Hello, Ada!" not in shown:
                assert time.monotonic() < deadline, shown
                shown = asked(run)[1]
        finally:
            server.terminate()
            server.communicate()


def test_the_first_job_fits_in_fifteen_lines() -> None:
    (block,) = blocks("README.md")
    assert len([line for line in block.splitlines() if line.strip()]) <= 15


def test_the_first_job_survives_what_the_readme_does_to_it(tmp_path: Path) -> None:
    (block,) = blocks("README.md")

    killed = start(block, tmp_path)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "greeting Ada\n"
    # The second greeting takes a second, so the first one's checkpoint is long there when it prints.
    assert killed.stdout.readline() == "greeting Grace\n"
    killed.kill()
    killed.communicate()
    again, errors = start(block, tmp_path).communicate()
    once_more, _ = start(block, tmp_path).communicate()

    answer = "['Hello, Ada!', 'Hello, Grace!', 'Hello, Edsger!']\n"
    assert again.endswith(answer), errors
    assert "greeting Ada" not in again
    assert "greeting Edsger" in again
    assert once_more == answer


def test_links_lead_somewhere() -> None:
    for readme in READMES:
        text = (REPOSITORY / readme).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("https://"):
                assert (REPOSITORY / readme).parent.joinpath(target).exists(), f"{readme}: {target}"
