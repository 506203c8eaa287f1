"""Bugs that others had, replayed here. Each test names the report; docs/peers.md lists them all."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel
from typing_extensions import override

from durably import (
    ConflictError,
    Durably,
    RealEnvironment,
    Retry,
    RunCancelledError,
    StepContext,
    StoreError,
    StoreUnavailableError,
    define_job,
)
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from durably.stores.sqlite.presence import Presence
from durably.stores.values import Notes
from tests.core.stores.stage import LEASE, HandClock, Stage


class Task(BaseModel):
    number: int = 0


@pytest.fixture
async def stages(tmp_path: Path) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two processes' stores on one file, and one clock."""
    clock = HandClock()
    found: list[Stage] = []
    for _ in range(2):
        store = SqliteStore(tmp_path / "stage.db", environment=clock, durability="process")
        await store.open()
        await store.migrate()
        found.append(Stage(store, clock))
    yield found[0], found[1]
    for stage in found:
        await stage.store.close()


# Taking over what others left


@pytest.mark.parametrize("is_claimed_again", [False, True])
async def test_a_rescue_never_touches_a_run_that_ended_meanwhile(
    stages: tuple[Stage, Stage], is_claimed_again: bool
) -> None:
    """https://github.com/riverqueue/river/issues/1302: the rescuer wrote over what had completed."""
    stage, rescuer = stages
    await stage.trigger("it")
    claim = await stage.take("w1")
    stage.clock.advance(LEASE + 1)
    if is_claimed_again:
        claim = await rescuer.take("w2")
    assert await stage.finish(claim.lease) == "applied"
    before = await stage.run("it")
    assert await rescuer.claim("w3") == []
    await rescuer.store.bury_dead(max_crashes=5)
    await rescuer.store.sweep()
    stage.clock.advance(LEASE + 1)
    assert await rescuer.claim("w3") == []
    assert await stage.run("it") == before


async def test_of_two_recoverers_with_one_list_each_run_is_one_s(stages: tuple[Stage, Stage]) -> None:
    """https://github.com/dbos-inc/dbos-transact-py/issues/742: both executed what one had taken."""
    first, second = stages
    for number in range(40):
        await first.trigger(f"{number}")
    await first.ask("dead", limit=40)
    first.clock.advance(LEASE + 1)
    taken = await asyncio.gather(
        *(stage.claim(f"{stage is first}-{n}", limit=7) for n in range(5) for stage in stages)
    )
    claims = Counter(run_id for ids in taken for run_id in ids)
    assert claims == Counter({f"{number}": 1 for number in range(40)})
    assert {(await second.run(id)).lease_generation for id in claims} == {2}


class Flaky:
    """A store of which some verbs fail for a while, before or after they have had their effect."""

    def __init__(self, store: Store, *verbs: str) -> None:
        self._store = store
        self._verbs = verbs
        self.failures = 0
        self.is_down = True

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._store, name)
        if name not in self._verbs:
            return verb

        async def call(*args: object, **options: object) -> object:
            if self.is_down:
                self.failures += 1
                if self.failures % 2:
                    await verb(*args, **options)
                raise StoreUnavailableError("the connection was lost")
            return await verb(*args, **options)

        return call


async def test_a_database_that_fails_while_runs_are_taken_over_strands_none(tmp_path: Path) -> None:
    """https://github.com/dbos-inc/dbos-transact-py/issues/716: a restart in the midst of it lost some for good."""
    path = tmp_path / "app.db"
    clock = HandClock()
    left = SqliteStore(path, environment=clock)
    await left.open()
    await left.migrate()
    stage = Stage(left, clock)
    clock.wall = RealEnvironment().now() - LEASE - 1
    for number in range(20):
        await stage.trigger(f"{number}", job_name="work", input_json='{"number": 1}')
    await stage.ask("dead", limit=20, jobs=["work"])
    await left.close()

    environment = RealEnvironment()
    flaky = Flaky(SqliteStore(path, environment=environment), "claim", "bury_dead", "disown")

    async def work(step: StepContext, input: Task) -> int:
        return input.number

    durably = Durably(cast("Store", flaky), environment=environment, polling_interval=0.02)
    handle = durably.register(define_job(name="work", input=Task, output=int, run=work))
    async with durably, asyncio.timeout(20):
        while flaky.failures < 6:
            await asyncio.sleep(0.01)
        flaky.is_down = False
        while await durably.count_runs(status=["pending", "running"]):
            await asyncio.sleep(0.01)
        assert {run.status for run in await handle.get_runs()} == {"completed"}


async def test_a_worker_that_is_off_the_list_still_has_its_runs_taken_over(
    stages: tuple[Stage, Stage],
) -> None:
    """https://github.com/procrastinate-org/procrastinate/issues/1518: stalled jobs of pruned workers were hidden."""
    stage, other = stages
    await stage.trigger("it")
    await stage.introduce("gone")
    await stage.take("gone")
    await stage.sql("DELETE FROM durably_workers")
    stage.clock.advance(LEASE + 1)
    assert await other.claim("w2") == ["it"]


async def test_a_new_worker_of_an_old_name_does_not_inherit_its_leases(stages: tuple[Stage, Stage]) -> None:
    """https://github.com/oban-bg/oban/issues/862: a restarted node of the same name hid its orphans."""
    stage, other = stages
    await stage.trigger("it")
    await stage.introduce("w1")
    old = await stage.take("w1")
    await other.introduce("w1")
    assert await other.claim("w1") == []
    stage.clock.advance(LEASE + 1)
    new = await other.take("w1")
    assert new.lease.generation == old.lease.generation + 1
    assert await stage.save(old.lease) == "lost"
    assert await other.save(new.lease) == "applied"


JANITOR = """
import os, sys
from pathlib import Path
from durably.stores.sqlite.presence import Presence

presence = Presence(Path(sys.argv[1]))
if sys.argv[2] == "worker":
    print(presence.take("w1"), flush=True)
else:
    print(presence.is_dead(sys.argv[2]), flush=True)
sys.stdin.readline()
"""


def test_a_janitor_that_dies_at_its_work_leaves_it_to_the_next(tmp_path: Path) -> None:
    """https://github.com/procrastinate-org/procrastinate/issues/1408: the recovery of stalled jobs stalled itself."""

    def start(what: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", JANITOR, str(tmp_path), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    mine = Presence(tmp_path)
    with start("worker") as worker:
        lock = said(worker)
        assert not mine.is_dead(lock)
        worker.kill()
    with start(lock) as janitor:
        assert said(janitor) == "True"
        # It holds the dead worker's lock until it has buried it: nobody else does the same work.
        assert not mine.is_dead(lock)
        janitor.send_signal(signal.SIGKILL)
    assert mine.is_dead(lock)
    mine.close()


async def test_a_stale_owner_frees_a_key_at_most_once(stages: tuple[Stage, Stage]) -> None:
    """https://github.com/rails/solid_queue/issues/761: a limit of one ran eleven at a time."""
    stage, other = stages
    await stage.trigger_keyed("first", "second", "third")
    stale = await stage.take("w1")
    stage.clock.advance(LEASE + 1)
    owner = await other.take("w2")
    assert owner.run.id == "first"
    for _ in range(3):
        await stage.store.release([stale.lease])
        assert await stage.finish(stale.lease) == "lost"
        assert await stage.claim("w3") == []
    assert await other.finish(owner.lease) == "applied"
    assert await other.finish(owner.lease) == "applied"
    assert await stage.claim("w3") == ["second"]
    assert await other.claim("w2") == []


@pytest.mark.parametrize("sweeps_first", [True, False])
async def test_it_does_not_matter_whether_a_booting_worker_sweeps_or_claims_first(
    stages: tuple[Stage, Stage], sweeps_first: bool
) -> None:
    """https://github.com/rails/solid_queue/issues/735: the order of the boot decided who got stuck."""
    stage, booting = stages
    await stage.trigger_keyed("first", "second")
    await stage.take("dead")
    stage.clock.advance(LEASE + 1)
    if sweeps_first:
        await booting.store.sweep()
        await booting.store.bury_dead(max_crashes=5)
    [claim] = (await booting.ask("w2")).claims
    await booting.store.sweep()
    assert claim.run.id == "first"
    assert await booting.claim("w3") == []
    await booting.finish(claim.lease)
    assert await booting.claim("w3") == ["second"]


# Cancelling, deleting, purging


async def test_a_step_that_ends_after_its_run_was_deleted_leaves_no_row(
    another: Callable[..., Durably], tmp_path: Path
) -> None:
    """https://github.com/dbos-inc/dbos-transact-ts/issues/1370: its checkpoint landed after the deletion."""
    durably = another()
    begun, gate = threading.Event(), threading.Event()

    def body() -> str:
        begun.set()
        gate.wait(10)
        return "late"

    @durably.job
    async def slow(step: StepContext, input: Task) -> None:
        step.log.info("a line")
        await step.run("slow", body)

    await durably.init()
    run = await slow.trigger(Task())
    assert await asyncio.to_thread(begun.wait, 10)
    await durably.cancel(run.id)
    await durably.delete_run(run.id)
    gate.set()
    await durably.stop()
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        for table in ("runs", "steps", "logs", "run_labels"):
            assert connection.execute(f"SELECT count(*) FROM durably_{table}").fetchall() == [(0,)]


async def test_a_cancel_between_a_steps_body_and_its_checkpoint_wins(
    another: Callable[..., Durably],
) -> None:
    """https://github.com/coji/durably/issues/121: the checkpoint was written into the cancelled run."""
    durably, client = another(), another(worker=False)

    @durably.job
    async def late(step: StepContext, input: Task) -> str:
        async def body() -> str:
            # By another process, so that nobody here hears of it before the checkpoint is written.
            await client.cancel(step.run_id)
            return "done"

        await step.run("body", body)
        return "not reached"

    await client.init()
    await durably.init()
    run = await late.trigger(Task())
    with pytest.raises(RunCancelledError):
        await durably.wait_for_run(run.id, timeout=10)
    await durably.stop()
    assert [step.status for step in await client.get_steps(run.id) if step.status == "completed"] == []
    assert (await client.count_runs(status="cancelled"), await client.count_runs()) == (1, 1)


@pytest.mark.parametrize("cancels_first", [True, False])
async def test_a_cancel_and_a_completion_in_one_turn_of_the_loop_agree(
    durably: Durably, cancels_first: bool
) -> None:
    """https://github.com/temporalio/sdk-python/issues/352: the cancellation was swallowed."""
    begun, gate = asyncio.Event(), asyncio.Event()

    @durably.job
    async def wait(step: StepContext, input: Task) -> str:
        begun.set()
        await gate.wait()
        return "done"

    await durably.start()
    for turns in range(8):
        begun.clear()
        gate.clear()
        run = await wait.trigger(Task())
        await begun.wait()
        if not cancels_first:
            gate.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelling = asyncio.ensure_future(durably.cancel(run.id))
        gate.set()
        try:
            await cancelling
        except ConflictError:
            expected = "completed"
        else:
            expected = "cancelled"
        for _ in range(20):
            await asyncio.sleep(0)
        after = await durably.get_run(run.id)
        assert after is not None
        assert after.status == expected, turns


async def test_a_purge_that_is_cut_off_leaves_no_checkpoint_for_the_next_of_that_id(
    stages: tuple[Stage, Stage],
) -> None:
    """https://github.com/dbos-inc/dbos-transact-py/issues/769: a reused id answered with a dead run's results."""
    stage, _ = stages
    for instructions in (5, 50, 100, 200, 500, 10_000):
        await stage.trigger("it")
        claim = await stage.take()
        assert claim.steps == ()
        await stage.save(claim.lease, notes=Notes(logs=[stage.line()]))
        await stage.finish(claim.lease)
        stage.clock.advance(100)

        def cut(connection: sqlite3.Connection, instructions: int = instructions) -> None:
            connection.set_progress_handler(lambda: 1, instructions)

        await stage.at_connection(cut)
        with suppress(StoreError):
            await stage.store.purge(older_than=1, limit=10)
        await stage.at_connection(lambda connection: connection.set_progress_handler(None, 1))
        left = await stage.ids()
        rows = await stage.sql(
            "SELECT (SELECT count(*) FROM durably_steps), (SELECT count(*) FROM durably_logs)"
        )
        assert rows == [(len(left), len(left))]
        await stage.store.purge(older_than=1, limit=10)


# Deaths and deploys


async def test_a_run_that_kills_its_workers_can_be_cancelled(stages: tuple[Stage, Stage]) -> None:
    """https://github.com/vectorize-io/hindsight/issues/2675: ground again 54 times, and nothing ended it."""
    stage, other = stages
    await stage.trigger("it")
    for worker in ("w1", "w2", "w3"):
        await stage.take(worker)
        stage.clock.advance(LEASE + 1)
    assert (await other.store.cancel("it", token="enough")).applied
    stage.clock.advance(LEASE + 1)
    assert await other.claim("w4") == []
    assert await stage.status("it") == "cancelled"


async def test_a_dozen_deploys_during_one_step_burn_neither_attempts_nor_crashes(
    another: Callable[..., Durably],
) -> None:
    """https://github.com/vercel/workflow/issues/3992: three rolling deploys retired a healthy step."""
    bodies = 0
    gate = asyncio.Event()

    async def deploy(step: StepContext, input: Task) -> int:
        async def body() -> int:
            nonlocal bodies
            bodies += 1
            await gate.wait()
            return step.attempt

        return await step.run("long", body, retry=2)

    definition = define_job(name="deploy", input=Task, output=int, run=deploy, retry=Retry(2))
    client = another(worker=False)
    await client.init()
    run = await client.register(definition).trigger(Task())
    for number in range(12):
        worker = another(jobs=[definition])
        await worker.init()
        async with asyncio.timeout(10):
            while bodies <= number:
                await asyncio.sleep(0.001)
        await worker.stop(drain=0)
        await worker.close()
    gate.set()
    await another(jobs=[definition]).init()
    done = await client.wait_for_run(run.id, timeout=10)
    assert (done.status, done.crashes, done.attempt) == ("completed", 0, 1)
    [step] = await client.get_steps(run.id)
    assert step.attempts == ()


# Values, callers, databases


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("\x00", "completed"),
        ("a\x00b", "completed"),
        ("\ud800", "failed"),
        (b"\xff", "failed"),
        (float("nan"), "failed"),
        (object(), "failed"),
        ({1: "one"}, "failed"),
    ],
)
@pytest.mark.parametrize("where", ["output", "result", "error", "log"])
async def test_a_value_that_no_database_takes_ends_its_run_with_a_clear_word(
    durably: Durably, where: str, value: object, status: str
) -> None:
    """https://github.com/kestra-io/kestra/issues/10326: a NUL in an output, and the execution hung for ever."""

    @durably.job
    async def odd(step: StepContext, input: Task) -> Any:
        match where:
            case "output":
                return value
            case "result":
                await step.run("odd", lambda: value)
            case "error":
                raise ValueError(value)
            case _:
                step.log.info(str(value), value=value)
        return None

    run = await odd.trigger(Task())
    await durably.process_until_idle()
    after = await durably.get_run(run.id)
    assert after is not None
    expected = {"error": "failed", "log": "completed"}.get(where, status)
    assert after.status == expected
    if after.status == "failed":
        assert after.error is not None
        assert after.error.message


async def test_whoever_is_cancelled_at_whatever_call_leaves_the_instance_usable(
    another: Callable[..., Durably],
) -> None:
    """https://github.com/omnilib/aiosqlite/issues/259: a cancelled caller left a transaction open, and everybody locked out."""
    durably = another()

    @durably.job
    async def work(step: StepContext, input: Task) -> int:
        await step.run("one", lambda: 1)
        return input.number

    await durably.init()
    first = await work.trigger_and_wait(Task(), timeout=10)
    calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: work.trigger(Task()),
        lambda: work.trigger_and_wait(Task()),
        lambda: work.batch_trigger([Task(), Task()]),
        work.get_runs,
        lambda: durably.get_run(first.id),
        lambda: durably.get_steps(first.id),
        lambda: durably.get_logs(first.id),
        durably.get_workers,
        lambda: durably.get_changes(after=0),
        durably.count_runs,
        lambda: durably.explain(first.id),
        lambda: durably.retrigger(first.id),
        lambda: durably.wait_for_run(first.id),
        durably.cancel_runs,
        durably.retry_runs,
        lambda: durably.signal("go", key="nobody"),
        lambda: durably.purge_runs(older_than=3600),
        durably.migrate,
        durably.start,
    ]
    for call in calls:
        for turns in range(6):
            task = asyncio.ensure_future(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert (await work.trigger_and_wait(Task(number=7), timeout=10)).output == 7
    async with asyncio.timeout(10):
        while await durably.count_runs(status=["pending", "running"]):
            await asyncio.sleep(0.001)


class Hurried(RealEnvironment):
    """Time passes as fast as the program can sleep."""

    def __init__(self) -> None:
        self.slept = 0.0

    @override
    def now(self) -> float:
        return super().now() + self.slept

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self.slept

    @override
    async def sleep(self, seconds: float, /) -> None:
        until = self.slept + seconds
        await asyncio.sleep(0.0001)
        self.slept = max(self.slept, until)


async def test_ten_minutes_without_a_database_cost_a_bounded_number_of_knocks(tmp_path: Path) -> None:
    """https://github.com/plastic-labs/honcho/issues/962: the loop spun; https://github.com/digitallyinduced/ihp/issues/2453: it ended."""
    environment = Hurried()
    store = Flaky(
        SqliteStore(tmp_path / "app.db", environment=environment),
        "claim", "bury_dead", "disown", "renew", "sweep", "save_step", "finish", "orphans", "forget_signals", "note",
    )  # fmt: skip
    store.is_down = False
    durably = Durably(cast("Store", store), environment=environment, polling_interval=60)
    begun, gate = asyncio.Event(), asyncio.Event()

    @durably.job
    async def work(step: StepContext, input: Task) -> int:
        async def body() -> int:
            begun.set()
            await gate.wait()
            return input.number

        return await step.run("one", body)

    async with durably, asyncio.timeout(50):
        run = await work.trigger(Task(number=7))
        await begun.wait()
        store.is_down = True
        gate.set()
        started = environment.slept
        while environment.slept - started < 600:
            await asyncio.sleep(0.001)
        store.is_down = False
        # Six loops, each of them every five seconds in the worst case, and half of the knocks had their effect.
        assert 50 < store.failures < 6 * 600 / 2.5 + 100
        assert (await durably.wait_for_run(run.id)).output == 7


WRITERS = """
import asyncio, sys
from durably import Durably
from tests.core.test_peers import plain

async def main():
    durably = Durably(sys.argv[1], worker=False)
    await durably.migrate()
    handle = durably.register(plain)
    await asyncio.gather(*(handle.trigger(n) for n in range(30) for _ in range(5)))
    await durably.close()

asyncio.run(main())
"""


async def _plain(step: StepContext, input: int) -> int:
    return input


plain = define_job(name="plain", input=int, output=int, run=_plain)


async def test_thirty_writers_in_each_of_two_processes_never_meet_a_locked_database(
    another: Callable[..., Durably], file_url: str
) -> None:
    """https://github.com/t8y2/dbx/issues/6990: transactions that began by reading could not wait for the lock."""
    durably = another()
    handle = durably.register(plain)
    troubles: list[object] = []
    durably.on("worker:error", troubles.append)
    await durably.init()
    path = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITERS, file_url, env={**os.environ, "PYTHONPATH": path}
    )
    await asyncio.gather(*(handle.trigger_and_wait(n, timeout=30) for n in range(30) for _ in range(5)))
    assert await process.wait() == 0
    async with asyncio.timeout(30):
        while await durably.count_runs(status="completed") < 300:
            await asyncio.sleep(0.01)
    assert troubles == []
