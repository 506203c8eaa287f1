"""Claiming: who gets which run, and when."""

import asyncio
import json
import subprocess
import sys

import pytest

from durably.stores.sqlite.claims import LARGEST_PROMOTION
from durably.stores.values import Lease
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import LEASE, Stage


async def test_a_claim_makes_the_run_running_and_the_workers(stage: Stage) -> None:
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


async def test_the_generation_rises_at_every_claim_for_the_whole_life(stage: Stage) -> None:
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


async def test_the_first_start_is_remembered(stage: Stage) -> None:
    await stage.trigger("it")
    first = await stage.take()
    await stage.store.release([first.lease])
    stage.clock.advance(5)
    assert (await stage.take()).run.started_at == first.run.started_at


async def test_runs_of_unknown_jobs_are_left_alone(stage: Stage) -> None:
    await stage.trigger("theirs", job_name="theirs")
    await stage.trigger("ours")
    assert await stage.claim(jobs=["job"]) == ["ours"]
    assert await stage.claim(jobs=[]) == []
    assert await stage.status("theirs") == "pending"
    assert await stage.claim(jobs=["theirs"]) == ["theirs"]


async def test_the_limit_is_kept_and_the_lowest_ranks_win_across_jobs(stage: Stage) -> None:
    for number in range(6):
        await stage.trigger(f"{number}", job_name="ab"[number % 2])
        stage.clock.advance(1)
    assert await stage.claim(limit=4, jobs=["b", "a"]) == ["0", "1", "2", "3"]
    assert await stage.claim(limit=4, jobs=["b", "a"]) == ["4", "5"]


async def test_a_limit_of_zero_only_promotes(stage: Stage) -> None:
    await stage.trigger("it", delay=1)
    stage.clock.advance(1)
    assert await stage.claim(limit=0) == []
    assert await stage.column("it", "ready") == 1
    assert await stage.claim() == ["it"]


async def test_many_claimers_at_once_share_out_the_runs(stage: Stage) -> None:
    await stage.store.enqueue([stage.new() for _ in range(60)])
    answers = await asyncio.gather(*(stage.claim(f"w{number}", limit=4) for number in range(20)))
    got = [id for answer in answers for id in answer]
    assert len(got) == len(set(got)) == 60


async def test_claimers_of_several_processes_share_out_the_runs(another: OpenAnother) -> None:
    stages = [await another() for _ in range(4)]
    await stages[0].store.enqueue([stages[0].new() for _ in range(60)])
    answers = await asyncio.gather(
        *(stage.claim(f"w{number}", limit=2) for _ in range(10) for number, stage in enumerate(stages))
    )
    got = [id for answer in answers for id in answer]
    assert len(got) == len(set(got)) == 60


CLAIMER = """
import asyncio, json, sys
from durably.environment import RealEnvironment
from durably.stores.values import ClaimRequest
from durably.stores.sqlite import SqliteStore

async def main(path, worker):
    store = SqliteStore(path, environment=RealEnvironment(), durability="process")
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    got = []
    while True:
        claimed = await store.claim(
            ClaimRequest(worker_id=worker, jobs=["job"], limit=3, lease_seconds=600, max_crashes=5)
        )
        if not claimed.claims:
            break
        got += [claim.run.id for claim in claimed.claims]
    print(json.dumps(got))
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


def start(worker: str, path: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMER, path, worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_real_processes_share_out_the_runs(another: OpenAnother) -> None:
    stage = await another()
    await stage.store.enqueue([stage.new() for _ in range(300)])
    processes = [start(f"w{number}", stage.store.database.path) for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    got = [json.loads(process.communicate()[0]) for process in processes]
    together: list[str] = [id for share in got for id in share]
    assert len(together) == len(set(together)) == 300
    assert [process.returncode for process in processes] == [0, 0, 0, 0]


async def test_it_says_when_the_next_run_falls_due(stage: Stage) -> None:
    assert (await stage.ask()).wake_in is None
    await stage.trigger("later", delay=90)
    await stage.trigger("sooner", job_name="of another worker", delay=40)
    stage.clock.advance(10)
    assert (await stage.ask()).wake_in == 30
    assert (await stage.ask(limit=0)).wake_in == 30


async def test_the_end_of_a_lease_is_an_instant_to_wake_at(stage: Stage) -> None:
    await stage.trigger("it")
    assert (await stage.ask("w1")).wake_in == LEASE
    stage.clock.advance(10)
    assert (await stage.ask("w2")).wake_in == LEASE - 10


async def test_a_crowd_that_falls_due_is_promoted_in_bounded_portions(stage: Stage) -> None:
    crowd = LARGEST_PROMOTION * 2 + 1
    await stage.store.enqueue([stage.new(delay=1) for _ in range(crowd)])
    stage.clock.advance(2)
    answers = [await stage.ask(limit=0) for _ in range(4)]
    assert [answer.wake_in for answer in answers] == [0, 0, None, None]
    assert await stage.sql("SELECT count(*) FROM durably_runs WHERE ready = 1") == [(crowd,)]


@pytest.mark.parametrize("limit", [0, 10])
async def test_a_claim_with_nothing_to_do_opens_no_transaction(stage: Stage, limit: int) -> None:
    await stage.trigger("delayed", delay=100)
    await stage.trigger("theirs", job_name="theirs")
    begun: list[str] = []
    await stage.at_connection(lambda connection: connection.set_trace_callback(begun.append))
    await stage.ask(limit=limit)
    await stage.at_connection(lambda connection: connection.set_trace_callback(None))
    assert begun
    assert not [statement for statement in begun if statement.startswith(("BEGIN", "UPDATE"))]


async def test_a_resumed_run_comes_with_its_steps_in_order_and_its_last_sequence(stage: Stage) -> None:
    from durably.models import RunError
    from durably.stores.values import Notes

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
