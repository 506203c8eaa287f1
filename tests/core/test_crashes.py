"""A worker that dies at any word of a job that does everything a job may do: nothing lost, nothing twice."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from typing_extensions import override

from durably import Durably, Run, StepContext, StepFailed, define_job
from tests.core.mortality import Plan, World, die_at_every_word, life

CALM = Counter({"first": 1, "child": 2, "left": 1, "right": 1})
"""How often each body is executed when nobody dies."""


class Story(World):
    """Steps side by side, a sleep, a signal, children, a failure that is caught."""

    def __init__(self, path: Path) -> None:
        self.effects: Counter[str] = Counter()
        self.has_sent: bool = False
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def child(step: StepContext, input: Plan) -> int:
            await step.run("double", self.effect, "child", 2 * input.number)
            return 2 * input.number

        async def failing(step: StepContext, input: Plan) -> int:
            raise ValueError("no")

        child_job = durably.register(define_job(name="child", input=Plan, output=int, run=child))
        failing_job = durably.register(define_job(name="failing", input=Plan, output=int, run=failing))

        async def story(step: StepContext, input: Plan) -> list[int]:
            told: list[int] = [await step.run("first", self.effect, "first", 1)]
            await step.sleep("pause", 3600)
            told.append(await step.wait_for_signal("go", int))
            step.log.info("went on")
            told.append(await step.invoke("child", child_job, Plan(number=5)))
            await step.spawn("side", child_job, Plan(number=6))
            try:
                await step.invoke("failing", failing_job, Plan())
            except StepFailed:
                told.append(-1)
            left, right = await asyncio.gather(
                step.run("left", self.effect, "left", 7), step.run("right", self.effect, "right", 8)
            )
            return [*told, left, right]

        durably.register(define_job(name="story", input=Plan, output=list[int], run=story))

    async def effect(self, name: str, value: int) -> int:
        self.effects[name] += 1
        return value

    @override
    async def push(self, run: Run) -> None:
        """Let time pass, and send the signal once."""
        await self.wait_for_the_clock(run)
        if run.status != "waiting":
            return
        kinds = [step.kind for step in await self.client.get_steps(run.id) if step.status == "running"]
        if kinds == ["signal"] and not self.has_sent:
            self.has_sent = True
            await self.client.signal("go", 3, run_id=run.id)

    @override
    async def check(self, run: Run) -> None:
        assert run.output == [1, 3, 10, -1, 7, 8]
        jobs = Counter(one.job_name for one in await self.client.get_runs())
        assert jobs == {"story": 1, "child": 2, "failing": 1}
        steps = await self.client.get_steps(run.id)
        assert [step.name for step in steps if step.status == "running"] == []
        assert len({step.name for step in steps}) == len(steps) == 8
        assert CALM <= self.effects <= CALM + Counter(["first", "child", "left", "right"])
        assert self.effects.total() <= CALM.total() + 2, (
            "one death repeats the bodies of one execution at most"
        )


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_to_the_store_loses_nothing(tmp_path: Path) -> None:
    calm = Story(tmp_path / "calm.db")
    said = await life(calm)
    assert calm.effects == CALM
    assert {"claim", "save_step", "finish", "suspend", "settle"} <= set(said)
    await die_at_every_word(said, tmp_path, Story)
