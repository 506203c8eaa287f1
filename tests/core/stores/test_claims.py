"""Claiming: who gets which run, and when."""

import json
import subprocess
import sys

import pytest

from durably.stores.sqlite.claims import LARGEST_PROMOTION
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import Stage

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


async def test_a_limit_of_zero_only_promotes(stage: Stage) -> None:
    await stage.trigger("it", delay=1)
    stage.clock.advance(1)
    assert await stage.claim(limit=0) == []
    assert await stage.column("it", "ready") == 1
    assert await stage.claim() == ["it"]


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
