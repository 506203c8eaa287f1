"""Every single fault at every point of chains, of children that are joined, and of steps with a cursor."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from durably import Durably, JobDefinition, Retry, StepContext, StepFailed, job
from durably_testing import EffectLedger, Scene, SimulatedRun, crash_at_every_step
from tests.testing.test_every_crash import KINDS
from tests.volume import profile, sample

ROWS = 5

rows = EffectLedger()
"""What the world outside remembers of the rows, within one history."""


class Plan(BaseModel):
    number: int = 0


def double(number: int) -> int:
    return 2 * number


@job
async def part(step: StepContext, input: Plan) -> int:
    doubled = await step.run(f"part-{input.number}", double, input.number)
    if input.number == 2:
        raise ValueError("no")
    return doubled


@job
async def chain(step: StepContext, input: Plan) -> int:
    await step.run(f"visit-{input.number}", double, input.number)
    await step.run("visit", double, input.number)
    heard = await step.wait_for_signal("news", int)
    await step.spawn("side", part, Plan(number=10 * (heard + 1)))
    await step.sleep("pause", 3600)
    step.log.info(f"rested {input.number}")
    if input.number < 2:
        await step.continue_as_new(Plan(number=input.number + 1))
    return input.number


@job
async def fan_out(step: StepContext, input: Plan) -> list[int | str]:
    ids = [await step.spawn(f"spawn-{n}", part, Plan(number=n)) for n in range(3)]
    told: list[int | str] = []
    for number, child_id in enumerate(ids):
        try:
            doubled = await step.join(f"join-{number}", part, child_id)
            told.append(doubled)
        except StepFailed as error:
            told.append(error.message)
    return told


@job(retry=Retry(2, delay=60, max_delay=60))
async def import_rows(step: StepContext, input: Plan) -> int:
    async def load() -> int:
        for row in range(step.cursor(int) or 0, ROWS):
            if row == 3 and rows.count("row 3") < 2:
                rows("row 3")
                raise OSError("no")
            await asyncio.sleep(10)
            rows(f"loaded {row}")
            step.save_cursor(row + 1)
        return ROWS

    return await step.run("load", load, retry=Retry(2, delay=5, jitter=False))


async def tell_news(durably: Durably, run_id: str) -> None:
    for number in range(3):
        await durably.signal("news", number, run_id=run_id)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A job, its surroundings, and what must hold at the end of every history."""

    job: JobDefinition[Any, Any]
    check: Callable[[SimulatedRun[Any, Any]], object]
    scene: Scene = field(default_factory=Scene)


def _chained(run: SimulatedRun[Any, Any]) -> None:
    assert (run.output, run.run.link) == (2, 3)
    assert [step.name for step in run.steps] == ["visit-2", "visit", "news", "side", "pause"]
    for number in range(3):
        assert 1 <= run.effects[f"visit-{number}"] <= 1 + run.crashes
        assert 1 <= run.effects[f"part-{10 * (number + 1)}"] <= 1 + run.crashes
    # A worker is killed in one link; a clock that has jumped stays wrong through all three of them.
    struck_links = 3 if any(fault.kind == "skew" for fault in run.faults) else 1
    assert 3 <= run.effects["visit"] <= 3 + struck_links * run.crashes
    assert len(run.runs) == 4
    numbers = [entry.sequence for entry in run.logs]
    assert numbers == sorted(set(numbers))


def _joined(run: SimulatedRun[Any, Any]) -> None:
    assert run.output == [0, 2, "no"]
    assert len(run.runs) == 4
    assert all(1 <= run.effects[f"part-{number}"] <= 1 + run.crashes for number in range(3))


def _loaded(run: SimulatedRun[Any, Any]) -> None:
    assert run.output == ROWS
    [step] = run.steps
    assert (step.status, step.cursor) == ("completed", None)
    counts = [run.effects[f"loaded {row}"] for row in range(ROWS)]
    assert min(counts) >= 1
    # The row whose cursor was not stored yet; and the one that a paused process had begun, and ends when it wakes.
    assert sum(counts) - ROWS <= 2 * run.crashes, f"rows that a cursor had passed were loaded again: {counts}"


SCENARIOS = (
    Scenario(job=chain, check=_chained, scene=Scene(jobs=[part], meanwhile=tell_news)),
    Scenario(job=fan_out, check=_joined, scene=Scene(jobs=[part])),
    Scenario(job=import_rows, check=_loaded, scene=Scene(effects=rows)),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", sample(SCENARIOS, quick=3), ids=lambda scenario: scenario.job.name)
def test_every_single_fault_is_survived(scenario: Scenario) -> None:
    report = crash_at_every_step(
        scenario.job,
        Plan(),
        kinds=KINDS[profile()],
        turns=profile() != "quick",
        check=scenario.check,
        **scenario.scene,
    )
    report.verify()
