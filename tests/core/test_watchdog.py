"""An event loop that is blocked: its leases, and what is said about it."""

import asyncio
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from durably import ConfigurationError, Durably, JobHandle, StepContext, job
from tests.core.sample_jobs import Ledger, ledger

LEASE = 0.6
SHORT = {"stale_threshold": LEASE, "heartbeat_interval": 0.2, "polling_interval": 0.05}


class Block(BaseModel):
    path: str
    seconds: float


def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("x")


@job(name="block")
async def block(step: StepContext, input: Block) -> str:
    """Blocks its loop the first time it is executed."""

    async def work() -> str:
        is_first = not Path(input.path).exists()
        note(input.path)
        if is_first:
            time.sleep(input.seconds)  # noqa: ASYNC251 - that is what is wrong with it
        return "first" if is_first else "second"

    return await step.run("work", work)


async def main(url: str, options: dict[str, float]) -> None:
    """A process whose loop gets blocked; says what it logs."""
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", force=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Durably(url, jobs=[block, ledger], **options):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        print("ready", flush=True)
        await stop.wait()


Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(file_url: str) -> Iterator[Spawn]:
    processes: list[subprocess.Popen[str]] = []

    def start(**options: float) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.test_watchdog", file_url, json.dumps({**SHORT, **options})],
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


async def said(process: "subprocess.Popen[str]") -> str:
    """All that it said, once it has ended."""
    process.terminate()
    text, _ = await asyncio.get_running_loop().run_in_executor(None, process.communicate)
    return text


@pytest.fixture
async def client(another: Callable[..., Durably]) -> Durably:
    durably = another(worker=False)
    await durably.init()
    return durably


@pytest.fixture
def handle(client: Durably) -> JobHandle[Block, str]:
    return client.register(block)


async def begun(path: Path) -> None:
    async with asyncio.timeout(10):
        while not path.exists():
            await asyncio.sleep(0.005)


async def test_a_loop_that_is_blocked_for_two_leases_keeps_its_run(
    spawn: Spawn, client: Durably, handle: JobHandle[Block, str], tmp_path: Path
) -> None:
    path = tmp_path / "effects"
    blocked = spawn()
    run = await handle.trigger(Block(path=str(path), seconds=2 * LEASE + 0.5))
    await begun(path)
    spawn()
    done = await client.wait_for_run(run.id, timeout=10)
    assert (done.output, done.lease_generation, done.crashes) == ("first", 1, 0)
    assert path.read_text() == "x"
    words = await said(blocked)
    assert re.search(
        r"WARNING the event loop has been blocked for 0\.\d s by step 'work' of run "
        rf"{run.id} \(block\), at .*test_watchdog\.py:\d+ in work; the worker keeps its runs for 5\.\d s more",
        words,
    ), words
    assert "time.sleep(input.seconds)" in words
    assert words.count("has been blocked") == 1
    assert "gives up" not in words


async def test_a_loop_that_is_blocked_for_longer_than_the_limit_gives_its_run_up_and_says_so_before(
    spawn: Spawn, client: Durably, handle: JobHandle[Block, str], tmp_path: Path
) -> None:
    path = tmp_path / "effects"
    blocked = spawn(stall_limit=2 * LEASE)
    run = await handle.trigger(Block(path=str(path), seconds=6))
    await begun(path)
    since = time.monotonic()
    spawn()
    done = await client.wait_for_run(run.id, timeout=10)
    took = time.monotonic() - since
    assert (done.output, done.lease_generation) == ("second", 2)
    # Renewed up to the limit, then left to the lease's end.
    assert 2 * LEASE < took < 5
    words = await said(blocked)
    keeps, gives_up = words.index("the worker keeps its runs"), words.index("the worker gives up its runs")
    assert keeps < gives_up
    assert f"ERROR the event loop has been blocked for 1.2 s by step 'work' of run {run.id}" in words
    # The sleeper woke up as a zombie, and wrote nothing over its successor.
    after = await client.get_run(run.id)
    assert after is not None
    assert (after.output, after.change) == ("second", done.change)


async def test_a_paused_process_is_not_a_blocked_loop_and_loses_its_run(
    spawn: Spawn, client: Durably, tmp_path: Path
) -> None:
    effects, hold = tmp_path / "effects", tmp_path / "effects.hold"
    hold.touch()
    paused = spawn()
    run = await client.register(ledger).trigger(Ledger(path=str(effects), stuck=1))
    async with asyncio.timeout(10):
        while not effects.exists() or len(effects.read_text().splitlines()) < 2:
            await asyncio.sleep(0.01)
    paused.send_signal(signal.SIGSTOP)
    hold.unlink()
    spawn()
    done = await client.wait_for_run(run.id, timeout=10)
    assert done.lease_generation == 2
    paused.send_signal(signal.SIGCONT)
    await asyncio.sleep(3 * LEASE)
    assert "blocked" not in await said(paused)


@pytest.fixture
async def short(another: Callable[..., Durably]) -> Durably:
    durably = another(stale_threshold=0.3, heartbeat_interval=0.1)
    await durably.init()
    return durably


async def test_code_that_is_no_steps_is_named_as_what_it_is(
    short: Durably, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()

    @short.job
    async def waits(step: StepContext, input: Block) -> None:
        await step.run("wait", gate.wait)
        time.sleep(0.3)  # noqa: ASYNC251

    run = await waits.trigger(Block(path="", seconds=0))
    async with asyncio.timeout(5):
        while (now := await short.get_run(run.id)) is None or now.status != "running":
            await asyncio.sleep(0.005)
    time.sleep(0.3)  # noqa: ASYNC251
    await asyncio.sleep(0.2)
    gate.set()
    await short.wait_for_run(run.id, timeout=5)
    by_test, by_job = (record.getMessage() for record in caplog.records)
    assert f"by code that is no run's, at {__file__}" in by_test
    assert f"(runs at work: {run.id})" in by_test
    assert f"by run {run.id} (waits), between its steps, at {__file__}" in by_job


async def test_a_blocked_loop_without_runs_is_nobodys_business(
    short: Durably, caplog: pytest.LogCaptureFixture
) -> None:
    time.sleep(0.5)  # noqa: ASYNC251
    await asyncio.sleep(0)
    assert not caplog.records
    assert await short.process_one() is False


async def test_deadlines_move_while_the_loop_is_blocked(short: Durably) -> None:
    seen: list[float] = []

    @short.job
    async def blocks(step: StepContext, input: Block) -> None:
        worker = short._worker  # pyright: ignore[reportPrivateUsage]
        assert worker is not None
        [execution] = worker._executions  # pyright: ignore[reportPrivateUsage]

        async def work() -> None:
            for _ in range(8):
                seen.append(execution.deadline)
                time.sleep(0.1)  # noqa: ASYNC251
                execution.require_live()

        await step.run("work", work)

    await blocks.trigger_and_wait(Block(path="", seconds=0), timeout=5)
    assert len(set(seen)) >= 3
    assert seen == sorted(seen)


@pytest.mark.parametrize("limit", [0, -1, 29.9, float("nan")])
def test_a_limit_below_a_lease_is_refused(limit: float) -> None:
    with pytest.raises(ConfigurationError, match="stall_limit"):
        Durably(":memory:", stall_limit=limit)


async def test_the_watchdog_ends_with_its_worker(another: Callable[..., Durably]) -> None:
    before = set(threading.enumerate())
    durably = another(stale_threshold=0.3, heartbeat_interval=0.1)
    await durably.init()
    [watchdog] = (one for one in set(threading.enumerate()) - before if one.name == "durably-watchdog")
    await durably.stop()
    async with asyncio.timeout(2):
        while watchdog.is_alive():
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
