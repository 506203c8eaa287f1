"""The three packages, built as a release builds them, once for all tests of this directory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
DISTRIBUTIONS: Final = ("durably-core", "durably-web", "durably-testing")


def own_environment() -> dict[str, str]:
    """The variables of a shell that knows nothing of this workshop."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PYTHON", "DURABLY_PROFILE", "PYTEST_ADDOPTS"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def run(*command: str | Path, cwd: Path) -> str:
    """Run `command` as a stranger's shell would; its output, or a failure that shows it."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=own_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def build(target: str, source: Path, into: Path) -> Path:
    """Build `source`'s sdist or wheel in this environment; hatchling needs no other one."""
    before = set(into.iterdir())
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", into, cwd=source)
    (built,) = set(into.iterdir()) - before
    return built


@pytest.fixture(scope="session")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist of each distribution."""
    into = tmp_path_factory.mktemp("sdists")
    return {name: build("sdist", REPOSITORY / "packages" / name, into) for name in DISTRIBUTIONS}


@pytest.fixture(scope="session")
def wheels(sdists: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution, built from its unpacked sdist, far from the repository."""
    into = tmp_path_factory.mktemp("wheels")
    unpacked = tmp_path_factory.mktemp("unpacked")
    for sdist in sdists.values():
        # The module's own command: the early releases of Python 3.11 know no extraction filter yet.
        run(sys.executable, "-m", "tarfile", "--extract", sdist, unpacked, cwd=unpacked)
    return {
        name: build("wheel", unpacked / sdist.name.removesuffix(".tar.gz"), into)
        for name, sdist in sdists.items()
    }
