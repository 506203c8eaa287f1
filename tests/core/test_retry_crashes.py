"""A worker that dies at any word it says while it tries again: no attempt given back or added."""

from pathlib import Path

import pytest
from typing_extensions import override

from durably import Durably, Retry, Run, StepContext, define_job
from tests.core.mortality import COUNTED, Plan, World, die_at_every_word, life

HOUR = Retry(2, delay=3600, max_delay=3600, jitter=False)


class Trial(World):
    """A job whose one step fails three times: twice before the job begins again, once after."""

    def __init__(self, path: Path) -> None:
        self.calls: list[str] = []
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def flaky(step: StepContext) -> int:
            self.calls.append("flaky")
            # What is stored decides: a call whose failure nobody heard of is made again.
            failures = await self.failures(step.run_id)
            if failures < 3:
                raise OSError(f"no {failures + 1}")
            return 7

        async def story(step: StepContext, input: Plan) -> int:
            first = await step.run("first", self.call, "first")
            return first + await step.run("flaky", flaky, step, retry=HOUR)

        durably.register(define_job(name="story", input=Plan, output=int, run=story, retry=HOUR))

    async def call(self, name: str) -> int:
        self.calls.append(name)
        return 1

    async def failures(self, run_id: str) -> int:
        """As many as are stored, those that a new attempt at the job has put aside included."""
        run = await self.client.get_run(run_id)
        steps = [step for step in await self.client.get_steps(run_id) if step.name == "flaky"]
        if steps:
            return len(steps[0].attempts)
        return 0 if run is None or run.attempt == 1 else 2

    @override
    async def push(self, run: Run) -> None:
        await self.wait_for_the_clock(run)

    @override
    async def check(self, run: Run) -> None:
        assert (run.output, run.attempt, run.error) == (8, 2, None)
        first, flaky = await self.client.get_steps(run.id)
        assert (first.status, flaky.status) == ("completed", "completed")
        assert [one.error.message for one in flaky.attempts] == ["no 1", "no 2", "no 3"]
        assert len(self.calls) <= 6, "one death repeats one body at most"


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_while_trying_again_gives_no_attempt_back_and_adds_none(
    tmp_path: Path,
) -> None:
    assert "save_attempt" in COUNTED
    calm = Trial(tmp_path / "calm.db")
    said = await life(calm)
    assert calm.calls == ["first", *["flaky"] * 4]
    assert said.count("save_attempt") == 2
    assert {"claim", "save_step", "finish", "suspend"} <= set(said)
    await die_at_every_word(said, tmp_path, Trial)
