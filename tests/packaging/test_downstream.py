"""A stranger's project, in an environment of its own, finds with five lines what is wrong with its jobs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.packaging.conftest import own_environment, run

# What is built and installed is so once.
pytestmark = pytest.mark.xdist_group("packaging")

PROJECT = Path(__file__).with_name("downstream")

FOUND = {
    "test_charges_without_a_key": [
        "assert 2 <= 1",
        "1. worker-1 killed before the checkpoint of step 'charge': the step had done its work, and does it again",
    ],
    "test_renames_its_steps": [
        "has a checkpoint of an earlier execution",
        "1. worker-1 killed after the checkpoint of step 'charge-0.",
    ],
    "test_decides_outside_of_steps": [
        "did not return the same, at $.number: first 0.",
        "1. worker-1 killed before the end of the run as completed",
    ],
}


@pytest.fixture(scope="module")
def project(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with the wheels installed beside it and nothing else of ours."""
    place = tmp_path_factory.mktemp("downstream")
    uv = find_uv_bin()
    run(uv, "venv", "--quiet", "--python", sys.executable, ".venv", cwd=place)
    ours = (wheels["durably-core"], wheels["durably-testing"])
    run(uv, "pip", "install", "--quiet", "--python", python_of(place), *ours, cwd=place)
    shutil.copytree(PROJECT, place, dirs_exist_ok=True)
    return place


def python_of(project: Path) -> Path:
    return project / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def pytest_in(project: Path, *options: str) -> str:
    """What a session prints, whether its tests pass or fail."""
    done = subprocess.run(
        [str(python_of(project)), "-m", "pytest", "--color=no", *options],
        cwd=project,
        env=own_environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def session(project: Path) -> str:
    """What all tests of the project print."""
    return pytest_in(project, "--durably-examples=10")


@pytest.mark.timeout(300)
def test_the_plugin_comes_with_the_package_and_good_jobs_pass(session: str) -> None:
    assert re.search(r"^plugins: .*durably-testing-\d", session, re.MULTILINE)
    assert "3 failed, 2 passed" in session, session


@pytest.mark.timeout(300)
@pytest.mark.parametrize("test", FOUND)
def test_a_planted_bug_is_told_with_its_crash_and_a_token_that_replays_it(
    test: str, session: str, project: Path
) -> None:
    # Up to the next test, or the summary: where CI is set, pytest tells everything there once more.
    told = re.split(r"\n(?:____|====)", session.partition(f"_ {test} _")[2])[0]
    assert [words for words in FOUND[test] if words not in told] == [], told
    assert "2. worker" not in told, "shrunk to one crash"
    assert "site-packages" not in told, "none of our frames are in the way"

    (token,) = set(re.findall(r"--durably-replay=([\w-]+)", told))
    replayed = pytest_in(project, f"--durably-replay={token}")
    assert "1 failed, 4 deselected" in replayed, replayed
    assert [words for words in FOUND[test] if words not in replayed] == [], replayed
    assert f"replaying one history of test_shop.py::{test}" in replayed
