"""Core's wheel, installed alone in a new environment with only its own dependencies, runs a job.

The source tree, the workshop's tools and the other two packages are out of reach there: a forgotten file or an
undeclared dependency shows here and nowhere else.
"""

import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.packaging.conftest import run

# What is built and installed is so once.
pytestmark = pytest.mark.xdist_group("packaging")

SCRIPT = """
import asyncio
import importlib.util
import sys

from durably import Durably, StepContext
from pydantic import BaseModel


class Order(BaseModel):
    amount: int


class Receipt(BaseModel):
    paid: int


def charge(amount: int) -> int:
    return amount


durably = Durably(f"sqlite:///{sys.argv[1]}")


@durably.job
async def pay(step: StepContext, input: Order) -> Receipt:
    return Receipt(paid=await step.run("charge", charge, input.amount))


async def main() -> None:
    async with durably:
        result = await pay.trigger_and_wait(Order(amount=42), timeout=30)
    print("paid", result.output.paid)
    strangers = [name for name in ("aiosqlite", "rich", "pytest", "durably_web") if importlib.util.find_spec(name)]
    print("strangers", strangers)


asyncio.run(main())
"""


@pytest.mark.timeout(180)
def test_the_wheel_of_core_installed_alone_runs_a_job(wheels: dict[str, Path], tmp_path: Path) -> None:
    uv = find_uv_bin()
    run(uv, "venv", "--quiet", "--python", sys.executable, "alone", cwd=tmp_path)
    alone = tmp_path / "alone" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    run(uv, "pip", "install", "--quiet", "--python", alone, wheels["durably-core"], cwd=tmp_path)
    (tmp_path / "job.py").write_text(SCRIPT, encoding="utf-8")

    answer = run(alone, "-W", "error", "job.py", "jobs.db", cwd=tmp_path)

    assert answer.split("\n")[:2] == ["paid 42", "strangers []"]
    assert (tmp_path / "jobs.db").exists()
