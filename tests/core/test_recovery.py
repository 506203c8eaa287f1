"""Real processes, really killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durably import Durably, JobHandle, keeper
from tests.core.sample_jobs import Crunch, Ledger, Round, crunch, ledger, rounds

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(file_url: str) -> Iterator[Spawn]:
    """Starts workers in processes of their own; ends those that are left."""
    processes: list[subprocess.Popen[str]] = []

    def start(**options: float) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.core.sample_jobs",
                file_url,
                json.dumps(options),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
async def client(another: Callable[..., Durably]) -> Durably:
    """An instance that only triggers and looks."""
    durably = another(worker=False)
    await durably.init()
    return durably


@pytest.fixture
def handle(client: Durably) -> JobHandle[Ledger, int]:
    return client.register(ledger)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def shown(client: Durably, run_id: str, step_name: str) -> None:
    """Wait until the step is seen running."""
    async with asyncio.timeout(10):
        while not any(
            (step.name, step.status) == (step_name, "running") for step in await client.get_steps(run_id)
        ):
            await asyncio.sleep(0.01)


async def test_a_killed_workers_run_resumes_elsewhere_within_a_second(
    spawn: Spawn, client: Durably, handle: JobHandle[Ledger, int], tmp_path: Path
) -> None:
    # The lease has 30 s to go. A neighbour's load may spoil one try.
    for number in range(3):
        if await killed_and_resumed(spawn, client, handle, tmp_path / f"effects-{number}") < 1.0:
            return
    pytest.fail("three times it took longer")


async def killed_and_resumed(
    spawn: Spawn, client: Durably, handle: JobHandle[Ledger, int], effects: Path
) -> float:
    """The seconds from a worker's death in its run's third step to the next worker's word."""
    hold = effects.with_name(f"{effects.name}.hold")
    hold.touch()
    first, second = spawn(), spawn()
    run = await handle.trigger(Ledger(path=str(effects), stuck=3))
    await until(lambda: len(lines(effects)) == 4)
    await shown(client, run.id, "step-3")

    owner = int(lines(effects)[-1].split()[2])
    victim = first if first.pid == owner else second
    os.kill(owner, signal.SIGKILL)
    victim.wait()
    killed = time.monotonic()
    hold.unlink()
    await until(lambda: len(lines(effects)) > 4)
    took = time.monotonic() - killed

    done = await client.wait_for_run(run.id, timeout=10)
    assert done.output == 0 + 1 + 2 + 3 + 4
    executed = [int(line.split()[1]) for line in lines(effects)]
    assert executed == [0, 1, 2, 3, 3, 4]
    steps = await client.get_steps(run.id)
    assert [(step.name, step.attempt) for step in steps] == [
        ("step-0", 1), ("step-1", 1), ("step-2", 1), ("step-3", 2), ("step-4", 1),
    ]  # fmt: skip
    survivor = second if victim is first else first
    survivor.kill()
    survivor.wait()
    return took


async def test_a_worker_that_starts_takes_over_at_once_what_a_dead_one_left(
    spawn: Spawn,
    client: Durably,
    another: Callable[..., Durably],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "PRESENCE_INTERVAL", 3600)
    effects, hold = tmp_path / "effects", tmp_path / "effects.hold"
    hold.touch()
    victim = spawn()
    run = await client.register(ledger).trigger(Ledger(path=str(effects), stuck=1))
    await until(lambda: len(lines(effects)) == 2)
    victim.kill()
    victim.wait()
    hold.unlink()
    await another(jobs=[ledger]).init()
    done = await client.wait_for_run(run.id, timeout=10)
    assert (done.output, done.crashes) == (10, 0)


async def test_a_stopped_worker_hands_its_run_back_at_once_and_uncharged(
    spawn: Spawn, client: Durably, handle: JobHandle[Ledger, int], tmp_path: Path
) -> None:
    effects, hold = tmp_path / "effects", tmp_path / "effects.hold"
    hold.touch()
    worker = spawn()
    run = await handle.trigger(Ledger(path=str(effects), stuck=1))
    await until(lambda: len(lines(effects)) == 2)
    stopping = asyncio.get_running_loop().run_in_executor(None, _terminate, worker)
    # It drains; the run would never end by itself, so make the drain short by letting it end.
    hold.unlink()
    await stopping
    done = await client.wait_for_run(run.id, timeout=10)
    assert done.output == 10
    assert done.crashes == 0


def _terminate(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.wait(timeout=20)


async def test_a_job_that_keeps_killing_its_worker_is_parked_with_its_step_named(
    spawn: Spawn, client: Durably, handle: JobHandle[Ledger, int], tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    run = await handle.trigger(Ledger(path=str(effects), deadly=2))
    for _ in range(5):
        process = spawn()
        await asyncio.get_running_loop().run_in_executor(None, process.wait)
    spawn()
    await until(lambda: len(lines(effects)) == 7)
    async with asyncio.timeout(10):
        while (parked := await client.get_run(run.id)) is None or not parked.is_terminal:
            await asyncio.sleep(0.01)
    assert parked.status == "failed"
    assert parked.error is not None
    assert "step-2" in parked.error.message
    assert [int(line.split()[1]) for line in lines(effects)] == [0, 1, 2, 2, 2, 2, 2]
    # The failure is followed at once, by a run that the same worker executes.
    [follower] = [one for one in await client.get_runs() if one.parent_id == run.id]
    mourned = await client.wait_for_run(follower.id, timeout=10)
    assert (mourned.job_name, mourned.output) == ("mourn", "WorkerCrashed")


async def test_a_paused_worker_that_wakes_after_its_lease_starts_and_writes_nothing(
    spawn: Spawn, client: Durably, handle: JobHandle[Ledger, int], tmp_path: Path
) -> None:
    effects, hold = tmp_path / "effects", tmp_path / "effects.hold"
    hold.touch()
    short = {"stale_threshold": 1, "heartbeat_interval": 0.3}
    zombie = spawn(**short)
    run = await handle.trigger(Ledger(path=str(effects), stuck=1))
    await until(lambda: len(lines(effects)) == 2)
    zombie.send_signal(signal.SIGSTOP)
    hold.unlink()
    successor = spawn(**short)
    done = await client.wait_for_run(run.id, timeout=15)
    zombie.send_signal(signal.SIGCONT)
    # Once it is back it beats again, and by then it has had its chance to do harm.
    async with asyncio.timeout(10):
        while len([one for one in await client.get_workers() if one.state == "active"]) < 2:
            await asyncio.sleep(0.01)
    after = await client.get_run(run.id)
    assert after is not None
    assert (after.status, after.output, after.change) == ("completed", 10, done.change)
    assert [tuple(map(int, line.split()[1:])) for line in lines(effects)] == [
        (0, zombie.pid), (1, zombie.pid),
        (1, successor.pid), (2, successor.pid), (3, successor.pid), (4, successor.pid),
    ]  # fmt: skip
    assert after.crashes == 0


async def test_a_run_behind_a_killed_holder_of_its_key_does_not_overtake_it(
    spawn: Spawn, client: Durably, handle: JobHandle[Ledger, int], tmp_path: Path
) -> None:
    effects, hold = tmp_path / "effects", tmp_path / "effects.hold"
    hold.touch()
    first = spawn()
    holder = await handle.trigger(Ledger(path=str(effects), stuck=1), concurrency_key="k")
    await until(lambda: len(lines(effects)) == 2)
    follower = await handle.trigger(Ledger(path=str(effects)), concurrency_key="k", priority=1000)
    first.kill()
    first.wait()
    hold.unlink()
    spawn()
    await client.wait_for_run(follower.id, timeout=10)
    owners = [line.split()[0] for line in lines(effects)]
    assert owners == [holder.id] * 6 + [follower.id] * 5


async def test_a_chain_goes_on_elsewhere_whenever_its_worker_is_killed(
    spawn: Spawn, client: Durably, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    workers = {worker.pid: worker for worker in (spawn(), spawn(), spawn())}
    run = await client.register(rounds).trigger(Round(path=str(effects), rounds=150))

    async def kill_the_owner_at(reached: int) -> None:
        await until(lambda: len(lines(effects)) >= reached)
        victim = workers[int(lines(effects)[-1].split()[2])]
        victim.kill()
        victim.wait()

    await kill_the_owner_at(10)
    await kill_the_owner_at(60)
    done = await client.wait_for_run(run.id, timeout=20)
    assert (done.output, done.link, done.crashes) == (149, 150, 0)
    assert [link.number for link in await client.get_links(run.id)] == list(range(50, 150))
    executed = [int(line.split()[1]) for line in lines(effects)]
    assert executed == sorted(executed)
    assert set(executed) == set(range(150))
    assert len(executed) <= 152, "one death repeats one body at most"


async def test_a_step_that_kills_its_worker_each_time_but_comes_further_gets_done(
    spawn: Spawn, client: Durably, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    run = await client.register(crunch).trigger(Crunch(path=str(effects), items=15, deadly=2))
    for reached in range(2, 16, 2):
        process = spawn()
        async with asyncio.timeout(20):
            while [step.cursor for step in await client.get_steps(run.id)] != [reached]:
                await asyncio.sleep(0.005)
        effects.with_name(f"effects.{reached}").touch()
        await asyncio.get_running_loop().run_in_executor(None, process.wait)
    spawn()
    done = await client.wait_for_run(run.id, timeout=10)
    assert (done.output, done.status) == (14, "completed")
    assert [int(line.split()[1]) for line in lines(effects)] == list(range(15))


async def test_a_process_with_an_unclosed_instance_still_exits(file_url: str) -> None:
    program = f"""
import asyncio
from durably import Durably
from tests.core.sample_jobs import ledger

async def main():
    global durably
    durably = Durably({file_url!r}, jobs=[ledger])
    await durably.init()
    await asyncio.sleep(0.05)

asyncio.run(main())
"""
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0, stderr.decode()
    assert b"Traceback" not in stderr
    assert time.monotonic() - begun < 5
