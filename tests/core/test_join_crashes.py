"""A worker that dies at any word while children are spawned and joined: each is there once, and heard."""

from collections import Counter
from pathlib import Path

import pytest
from typing_extensions import override

from durably import Durably, Run, StepContext, StepFailed, define_job
from tests.core.mortality import Plan, World, die_at_every_word, life

CHILDREN = 3
CALM = Counter({f"part {number}": 1 for number in range(CHILDREN)})


class FanOut(World):
    """Children that are joined one after the other; one of them fails."""

    def __init__(self, path: Path) -> None:
        self.effects: Counter[str] = Counter()
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def part(step: StepContext, input: Plan) -> int:
            if input.number == 1:
                await step.sleep("pause", 3600)
            await step.run("part", self.effect, f"part {input.number}")
            if input.number == 2:
                raise ValueError("no")
            return input.number

        job = durably.register(define_job(name="part", input=Plan, output=int, run=part))

        async def story(step: StepContext, input: Plan) -> list[int | str]:
            ids = [await step.spawn(f"part-{n}", job, Plan(number=n)) for n in range(CHILDREN)]
            told: list[int | str] = []
            for number, child_id in enumerate(ids):
                try:
                    answer = await step.join(f"join-{number}", job, child_id)
                    told.append(answer)
                except StepFailed as error:
                    told.append(f"{error.error_type}: {error.message}")
            return told

        durably.register(define_job(name="story", input=Plan, output=list[int | str], run=story))

    async def effect(self, name: str) -> None:
        self.effects[name] += 1

    @override
    async def push(self, run: Run) -> None:
        for one in await self.client.get_runs():
            await self.wait_for_the_clock(one)

    @override
    async def check(self, run: Run) -> None:
        assert run.output == [0, 1, "ValueError: no"]
        jobs = Counter(one.job_name for one in await self.client.get_runs())
        assert jobs == {"story": 1, "part": CHILDREN}
        steps = await self.client.get_steps(run.id)
        assert [step.status for step in steps] == ["completed"] * 5 + ["failed"]
        assert self.effects >= CALM
        assert self.effects.total() <= CALM.total() + CHILDREN, "one death repeats what its worker executed"


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_leaves_every_child_joined(tmp_path: Path) -> None:
    calm = FanOut(tmp_path / "calm.db")
    said = await life(calm)
    assert calm.effects == CALM
    assert {"settle", "suspend", "finish"} <= set(said)
    await die_at_every_word(said, tmp_path, FanOut)
