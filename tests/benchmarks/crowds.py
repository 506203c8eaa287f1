"""Databases that are full already: of runs that have ended, or that cannot start."""

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from durably import BatchItem, Durably, JobHandle
from tests.benchmarks.jobs import counting, unknown

AT_ONCE = 5_000
TENANTS = 1_000
BUSY = "busy"
FAR = 10 * 365 * 86_400.0

FINISH = """
UPDATE durably_runs SET
  status = CASE WHEN seq % 100 = 0 THEN 'failed' ELSE 'completed' END,
  ready = 0, lease_generation = 1, started_at = :now, completed_at = :now, steps_completed = 1, output = '1'
"""
ADD_STEPS = """
INSERT INTO durably_steps (run_seq, name, status, position, attempt, sequence, started_at, completed_at, result)
SELECT seq, 'step-0', 'completed', 1, 1, 2, :now, :now, '0' FROM durably_runs
"""
SUSPEND = """
UPDATE durably_runs SET
  status = 'waiting', ready = 0, lease_generation = 1, started_at = :now, timer_at = :until
"""
ADD_WAITS = """
INSERT INTO durably_steps (
  run_seq, name, status, position, attempt, sequence, started_at, kind, wake_at, signal_key
)
SELECT seq, 'wait', 'running', 1, 1, 1, :now, :kind, :until, CASE :kind WHEN 'signal' THEN 'order-' || seq END
FROM durably_runs
"""
HOLD_KEY = """
UPDATE durably_runs SET
  status = 'running', ready = 0, holds_key = 1, lease_owner = 'elsewhere', lease_generation = 1,
  lease_expires_at = :until, timer_at = :until, started_at = :now
WHERE concurrency_key = :key
"""


async def nobody(path: Path) -> None:
    """An empty database."""
    async with Durably(path, worker=False):
        pass


async def finished(path: Path, size: int) -> None:
    """Runs that have ended: one in a hundred failed, one in ten of another job, a label shared by a thousandth."""
    async with Durably(path, worker=False) as durably:
        for start in range(0, size, AT_ONCE):
            job = unknown if start // AT_ONCE % 10 == 9 else counting
            numbers = range(start, min(size, start + AT_ONCE))
            items = [BatchItem(1, {"labels": {"tenant": f"t{n % TENANTS}"}}) for n in numbers]
            await durably.register(job).batch_trigger(items)
    execute(path, (FINISH, {"now": time.time()}), (ADD_STEPS, {"now": time.time()}))


async def delayed(path: Path, size: int) -> None:
    """Runs of a known job that are due in ten years."""
    async with Durably(path, worker=False) as durably:
        handle = durably.register(counting)
        for start in range(0, size, AT_ONCE):
            await handle.batch_trigger([1] * min(AT_ONCE, size - start), delay=timedelta(seconds=FAR))


async def asleep(path: Path, size: int) -> None:
    """Suspended runs of a known job that sleep for ten years."""
    await _suspended(path, size, kind="sleep", until=time.time() + FAR)


async def awaiting_signals(path: Path, size: int) -> None:
    """Suspended runs of a known job that wait for a signal, each by a key of its own."""
    await _suspended(path, size, kind="signal", until=None)


async def _suspended(path: Path, size: int, *, kind: str, until: float | None) -> None:
    async with Durably(path, worker=False) as durably:
        await _fill(durably.register(counting), size)
    values = {"now": time.time(), "until": until, "kind": kind}
    execute(path, (SUSPEND, values), (ADD_WAITS, values))


async def of_unknown_job(path: Path, size: int) -> None:
    """Runs that are ready, but of a job that the worker does not know."""
    async with Durably(path, worker=False) as durably:
        await _fill(durably.register(unknown), size)


async def behind_busy_key(path: Path, size: int) -> None:
    """Runs of a known job, all queued behind one that is running elsewhere."""
    async with Durably(path, worker=False) as durably:
        await durably.register(counting).trigger(1, concurrency_key=BUSY)
    now = time.time()
    execute(path, (HOLD_KEY, {"now": now, "until": now + FAR, "key": BUSY}))
    async with Durably(path, worker=False) as durably:
        await _fill(durably.register(counting), size, key=BUSY)


async def _fill(handle: JobHandle[int, int], size: int, *, key: str | None = None) -> None:
    for start in range(0, size, AT_ONCE):
        inputs = [1] * min(AT_ONCE, size - start)
        if key is None:
            await handle.batch_trigger(inputs)
        else:
            await handle.batch_trigger(inputs, concurrency_key=key)


def execute(path: Path, *statements: tuple[str, dict[str, str | float | None]]) -> None:
    """Change a database behind the engine's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement, values in statements:
            connection.execute(statement, values)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
