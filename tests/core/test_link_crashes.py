"""A worker that dies at any word it says in a chain: no link is lost, skipped or begun twice."""

from collections import Counter
from pathlib import Path

import pytest
from typing_extensions import override

from durably import Durably, Run, StepContext, define_job
from tests.core.mortality import Plan, World, die_at_every_word, life

LINKS = 3
CALM = Counter({f"visit {number}": 1 for number in range(LINKS)})


class Chain(World):
    """Each link executes a step, spawns a child and sleeps; the last one ends."""

    def __init__(self, path: Path) -> None:
        self.effects: Counter[str] = Counter()
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def child(step: StepContext, input: Plan) -> int:
            return input.number

        child_job = durably.register(define_job(name="child", input=Plan, output=int, run=child))

        async def story(step: StepContext, input: Plan) -> int:
            await step.run("visit", self.effect, f"visit {input.number}")
            await step.spawn("side", child_job, input)
            await step.sleep("pause", 3600)
            step.log.info("rested", number=input.number)
            if input.number + 1 < LINKS:
                await step.continue_as_new(Plan(number=input.number + 1))
            return input.number

        durably.register(define_job(name="story", input=Plan, output=int, run=story))

    async def effect(self, name: str) -> None:
        self.effects[name] += 1

    @override
    async def push(self, run: Run) -> None:
        await self.wait_for_the_clock(run)

    @override
    async def check(self, run: Run) -> None:
        assert (run.output, run.link, run.input) == (LINKS - 1, LINKS, Plan(number=LINKS - 1))
        links = await self.client.get_links(run.id)
        assert [link.input for link in links] == [{"number": number} for number in range(LINKS - 1)]
        runs = await self.client.get_runs(job_name="child")
        assert Counter(child.output for child in runs) == Counter(range(LINKS))
        assert [step.name for step in await self.client.get_steps(run.id)] == ["visit", "side", "pause"]
        assert self.effects >= CALM
        assert self.effects.total() <= CALM.total() + 1, "one death repeats one body at most"
        lines = await self.client.get_logs(run.id)
        assert {line.fields["number"] for line in lines} == set(range(LINKS))


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_leaves_the_chain_whole(tmp_path: Path) -> None:
    calm = Chain(tmp_path / "calm.db")
    said = await life(calm)
    assert calm.effects == CALM
    assert said.count("finish") >= LINKS
    await die_at_every_word(said, tmp_path, Chain)
