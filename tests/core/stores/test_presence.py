"""Presence: a worker that is dead is known at once, and a living one is never buried (S27)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durably.environment import RealEnvironment
from durably.stores.sqlite import presence
from durably.stores.sqlite.presence import Presence
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import LEASE, Stage

WORKER = """
import asyncio, os, sys
from durably.environment import RealEnvironment
from durably.stores.values import ClaimRequest, NewWorker
from durably.stores.sqlite import SqliteStore

async def main(path, worker, host):
    store = SqliteStore(path, environment=RealEnvironment(), durability="process")
    await store.open()
    await store.add_worker(NewWorker(id=worker, host=host, pid=os.getpid(), slots=1, jobs=["job"]))
    claimed = await store.claim(
        ClaimRequest(worker_id=worker, jobs=["job"], limit=9, lease_seconds=1e9, max_crashes=5)
    )
    if "fork" in sys.argv and os.fork() == 0:
        os.write(1, f"{os.getpid()}\\n".encode())
        sys.stdin.readline()
        os._exit(0)
    os.write(1, (" ".join(claim.run.id for claim in claimed.claims) + "\\n").encode())
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:4]))
"""


class Spawn:
    """Starts workers in processes of their own."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, path: Path, worker: str, *more: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, str(path), worker, "here/boot-1", *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    spawn = Spawn()
    yield spawn
    for process in spawn.started:
        process.kill()
        process.communicate()


async def test_the_runs_of_a_killed_process_are_taken_over_long_before_its_lease_ends(
    another: OpenAnother, file: Path, spawn: Spawn
) -> None:
    stage = await another()
    await stage.trigger("it")
    process = spawn(file, "dead")
    assert line_of(process) == "it"
    alive = await stage.store.bury_dead(max_crashes=5)
    assert (list(alive.parked), alive.wake_in) == ([], None)
    assert await stage.status("it") == "running"

    process.send_signal(signal.SIGKILL)
    process.wait()
    buried = await stage.store.bury_dead(max_crashes=5)
    assert buried.wake_in == 0
    assert list(await stage.store.list_workers()) == []
    assert list(Path(f"{file}-workers").glob("dead*")) == []
    claim = await stage.take("w2")
    assert (claim.run.id, claim.run.crashes) == ("it", 1)
    assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None


async def test_a_burial_parks_a_run_that_keeps_killing(
    another: OpenAnother, file: Path, spawn: Spawn
) -> None:
    stage = await another()
    await stage.trigger("killer")
    process = spawn(file, "dead")
    line_of(process)
    process.kill()
    process.wait()
    buried = await stage.store.bury_dead(max_crashes=1)
    assert [run.id for run in buried.parked] == ["killer"]


async def test_of_two_that_bury_one_worker_only_one_charges_the_death(
    another: OpenAnother, file: Path, spawn: Spawn
) -> None:
    first, second = await another(), await another()
    await first.trigger("it")
    process = spawn(file, "dead")
    line_of(process)
    process.kill()
    process.wait()
    answers = [await first.store.bury_dead(max_crashes=5), await second.store.bury_dead(max_crashes=5)]
    assert [answer.wake_in for answer in answers] == [0, None]
    assert (await first.run("it")).crashes == 1


async def test_a_forked_child_does_not_keep_its_dead_parent_alive(
    another: OpenAnother, file: Path, spawn: Spawn
) -> None:
    stage = await another()
    await stage.trigger("it")
    process = spawn(file, "dead", "fork")
    lines = {line_of(process), line_of(process)}
    child = int((lines - {"it"}).pop())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    try:
        assert (await stage.store.bury_dead(max_crashes=5)).wake_in == 0
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_living_worker_is_never_buried(another: OpenAnother) -> None:
    """Whether it lives in this process or, as far as the other store knows, in another one."""
    mine, other = await another(), await another()
    await mine.introduce("w1")
    await mine.trigger("it")
    await mine.take("w1")
    for stage in (mine, other):
        assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None
    assert await mine.status("it") == "running"


async def test_a_worker_that_leaves_takes_its_lock_with_it(another: OpenAnother, file: Path) -> None:
    stage = await another()
    await stage.introduce("w1")
    assert [lock.name for lock in Path(f"{file}-workers").iterdir()] == ["w1.lock"]
    await stage.introduce("w1")
    await stage.store.remove_worker("w1")
    assert list(Path(f"{file}-workers").iterdir()) == []


async def test_a_store_that_closes_frees_its_locks(another: OpenAnother) -> None:
    gone, stage = await another(), await another()
    await gone.introduce("w1")
    await gone.trigger("it")
    await gone.take("w1")
    await gone.store.close()
    # The file went with the lock, so nobody is judged: the lease decides.
    assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None
    stage.clock.advance(LEASE)
    assert await stage.claim("w2") == ["it"]


async def test_a_draining_worker_stays_until_its_process_ends(another: OpenAnother) -> None:
    gone, stage = await another(), await another()
    await gone.introduce("w1")
    await gone.trigger("it")
    lease = (await gone.take("w1")).lease
    await gone.store.hold([lease], seconds=1000)
    await gone.store.remove_worker("w1")
    await gone.store.close()
    assert (await stage.store.bury_dead(max_crashes=1)).wake_in is None
    # The end of the process, as far as the lock goes.
    gone.store.database.presence.forget_in_child()
    answer = await stage.store.bury_dead(max_crashes=1)
    assert (list(answer.parked), answer.wake_in) == ([], 0)
    assert (await stage.run("it")).crashes == 0
    assert await stage.claim("w2") == ["it"]


@pytest.mark.parametrize("host", ["", "elsewhere/boot-1", "here/boot-0"])
async def test_a_worker_of_another_host_or_boot_is_not_judged(
    another: OpenAnother, file: Path, host: str
) -> None:
    stage, other = await another(), await another()
    await other.introduce("w1", host=host)
    await other.trigger("it")
    await other.take("w1")
    other.store.database.presence.forget_in_child()
    assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None
    assert await stage.status("it") == "running"


async def test_a_host_that_cannot_be_told_judges_nobody(another: OpenAnother) -> None:
    stage = await another()
    await stage.introduce("w1")
    stage.store.database.presence.forget_in_child()
    stage.store.database.host = ""
    assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None


async def test_a_worker_whose_file_is_gone_is_not_judged(another: OpenAnother, file: Path) -> None:
    stage, other = await another(), await another()
    await other.introduce("w1")
    Path(f"{file}-workers", "w1.lock").unlink()
    assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None
    assert len(await stage.store.list_workers()) == 1


async def test_where_every_lock_is_granted_presence_is_off(
    another: OpenAnother, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await another()

    def granted(handle: int) -> bool:
        del handle
        return True

    monkeypatch.setattr(presence, "try_lock", granted)
    await stage.introduce("w1")
    assert await stage.sql("SELECT presence FROM durably_workers") == [(None,)]
    assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None


async def test_where_no_lock_is_granted_presence_is_off(
    another: OpenAnother, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await another()

    def refused(handle: int) -> bool:
        del handle
        return False

    monkeypatch.setattr(presence, "try_lock", refused)
    await stage.introduce("w1")
    assert await stage.sql("SELECT presence FROM durably_workers") == [(None,)]


def test_where_the_folder_cannot_be_made_presence_is_off(tmp_path: Path) -> None:
    assert Presence(tmp_path / "no" / "such" / "folder").take("w1") is None


async def test_there_is_no_presence_in_memory(stage: Stage) -> None:
    if stage.store.database.path == ":memory:":
        await stage.introduce("w1")
        assert await stage.sql("SELECT presence FROM durably_workers") == [(None,)]
        assert (await stage.store.bury_dead(max_crashes=5)).wake_in is None


def test_a_worker_cannot_choose_a_file_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    locks = Presence(folder)
    path = locks.take("../../etc/x")
    assert path is not None
    assert Path(path).parent == folder
    locks.close()


def test_the_real_environment_tells_host_and_boot() -> None:
    if Path("/proc/sys/kernel/random/boot_id").exists():
        assert "/" in RealEnvironment().host()
