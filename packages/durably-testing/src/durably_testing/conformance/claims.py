"""Claiming: who gets which run, and when."""

import asyncio

from durably import RunError
from durably.spi import Lease, Notes
from durably_testing.conformance.stage import LEASE, Stage


class ClaimsContract:
    """Claiming: who gets which run, and when."""

    async def test_a_claim_makes_the_run_running_and_the_workers(self, stage: Stage) -> None:
        await stage.trigger("it")
        stage.clock.advance(1)
        claim = await stage.take("w1")
        run = claim.run
        assert run == await stage.run("it")
        assert (run.status, run.lease_owner, run.lease_generation) == ("running", "w1", 1)
        assert run.started_at is not None
        assert run.started_at.timestamp() == stage.clock.now()
        assert run.lease_expires_at is not None
        assert run.lease_expires_at.timestamp() == stage.clock.now() + LEASE
        assert claim.lease == Lease("it", 1, "w1")
        assert (list(claim.steps), claim.last_sequence, claim.suspect) == ([], 0, False)

    async def test_the_generation_rises_at_every_claim_for_the_whole_life(self, stage: Stage) -> None:
        await stage.trigger("it")
        generations: list[int] = []
        for _ in range(2):
            lease = (await stage.take()).lease
            generations.append(lease.generation)
            await stage.store.release([lease])
        await stage.take()
        stage.clock.advance(LEASE + 1)
        lease = (await stage.take("w2")).lease
        generations += [lease.generation - 1, lease.generation]
        await stage.store.cancel("it", token="t")
        await stage.store.release([lease])
        await stage.store.retry("it", token="u")
        generations.append((await stage.take()).lease.generation)
        assert generations == [1, 2, 3, 4, 5]

    async def test_the_first_start_is_remembered(self, stage: Stage) -> None:
        await stage.trigger("it")
        first = await stage.take()
        await stage.store.release([first.lease])
        stage.clock.advance(5)
        assert (await stage.take()).run.started_at == first.run.started_at

    async def test_runs_of_unknown_jobs_are_left_alone(self, stage: Stage) -> None:
        await stage.trigger("theirs", job_name="theirs")
        await stage.trigger("ours")
        assert await stage.claim(jobs=["job"]) == ["ours"]
        assert await stage.claim(jobs=[]) == []
        assert await stage.status("theirs") == "pending"
        assert await stage.claim(jobs=["theirs"]) == ["theirs"]

    async def test_the_limit_is_kept_and_the_lowest_ranks_win_across_jobs(self, stage: Stage) -> None:
        for number in range(6):
            await stage.trigger(f"{number}", job_name="ab"[number % 2])
            stage.clock.advance(1)
        assert await stage.claim(limit=4, jobs=["b", "a"]) == ["0", "1", "2", "3"]
        assert await stage.claim(limit=4, jobs=["b", "a"]) == ["4", "5"]

    async def test_many_claimers_at_once_share_out_the_runs(self, stage: Stage) -> None:
        await stage.store.enqueue([stage.new() for _ in range(60)])
        answers = await asyncio.gather(*(stage.claim(f"w{number}", limit=4) for number in range(20)))
        got = [id for answer in answers for id in answer]
        assert len(got) == len(set(got)) == 60

    async def test_it_says_when_the_next_run_falls_due(self, stage: Stage) -> None:
        assert (await stage.ask()).wake_in is None
        await stage.trigger("later", delay=90)
        await stage.trigger("sooner", job_name="of another worker", delay=40)
        stage.clock.advance(10)
        assert (await stage.ask()).wake_in == 30
        assert (await stage.ask(limit=0)).wake_in == 30

    async def test_the_end_of_a_lease_is_an_instant_to_wake_at(self, stage: Stage) -> None:
        await stage.trigger("it")
        assert (await stage.ask("w1")).wake_in == LEASE
        stage.clock.advance(10)
        assert (await stage.ask("w2")).wake_in == LEASE - 10

    async def test_a_resumed_run_comes_with_its_steps_in_order_and_its_last_sequence(
        self, stage: Stage
    ) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        error = RunError(type="E", message="m", traceback="t", steps=("x",))
        records = [
            stage.step("zeta", position=1, sequence=1, result='"r"'),
            stage.step("alpha", "failed", position=2, sequence=3, error=error, attempt=3),
        ]
        for record in records:
            assert await stage.save(lease, record) == "applied"
        left = stage.step("middle", "running", position=3, sequence=4)
        await stage.store.note(lease, Notes(started=[left], logs=[stage.line(sequence=9)]))
        await stage.store.release([lease])
        claim = await stage.take()
        assert list(claim.steps) == [*records, left]
        assert claim.last_sequence == 9
        assert claim.run.completed_step_count == 1
