"""The two floors: the engine's tables and statements on the engine's files, without the engine."""

import contextlib
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import TypeAlias

import aiosqlite

from durably import Durability, Durably
from tests.benchmarks.bench import Bench, Measure
from tests.benchmarks.statements import (
    CLAIM_RUN,
    FINISH_RUN,
    INSERT_RUN,
    SAVE_STEP,
    Values,
    claim,
    new_run,
    outcome,
    running_run,
    step,
)

Work: TypeAlias = tuple[str, Sequence[Values]]
Commit: TypeAlias = Sequence[tuple[str, Values]]
Life: TypeAlias = Callable[[int, str], Sequence[Commit]]
"""What is committed for one run, by its number and its id."""
Preparation: TypeAlias = Callable[[sqlite3.Connection], Work]

ROWS_A_COMMIT = 100


def triggers(bench: Bench) -> dict[str, Measure]:
    """Commits of one new run each, per second."""
    return _both(bench, lambda _: (INSERT_RUN, [new_run() for _ in range(bench.scale.triggers)]))


def batches(bench: Bench) -> dict[str, Measure]:
    """New runs per second, in commits of 100."""
    count = 10 * bench.scale.triggers
    work: Preparation = lambda _: (INSERT_RUN, [new_run() for _ in range(count)])
    return _both(bench, work, rows_a_commit=ROWS_A_COMMIT)


def steps(bench: Bench, *, cpu: bool = False) -> dict[str, Measure]:
    """Commits of one step each, per second; with `cpu` the seconds of CPU that one of them takes."""

    def work(connection: sqlite3.Connection) -> Work:
        run_id = running_run(connection)
        return SAVE_STEP, [step(run_id, position) for position in range(bench.scale.steps)]

    return _both(bench, work, cpu=cpu)


def whole_runs(bench: Bench) -> dict[str, Measure]:
    """Seconds for the four commits of a run of one step: trigger, claim, step, outcome."""

    async def plain() -> float:
        path = await _prepared(bench)
        samples: list[float] = []
        with _plain(path, bench.durability) as connection:
            for _ in range(bench.scale.samples):
                run = new_run()
                begun = time.perf_counter()
                seq = connection.execute(INSERT_RUN, run).lastrowid or 0
                for statement, values in _rest_of_run(seq, str(run["id"])):
                    connection.execute(statement, values).fetchall()
                samples.append(time.perf_counter() - begun)
        return median(samples)

    async def threaded() -> float:
        path = await _prepared(bench)
        samples: list[float] = []
        async with _threaded(path, bench.durability) as connection:
            for _ in range(bench.scale.samples):
                run = new_run()
                begun = time.perf_counter()
                row = await connection.execute_insert(INSERT_RUN, run)
                for statement, values in _rest_of_run(row[0] if row else 0, str(run["id"])):
                    await connection.execute_fetchall(statement, values)
                samples.append(time.perf_counter() - begun)
        return median(samples)

    return {"L": plain, "C": threaded}


def lives(
    bench: Bench, life: Life, *, count: int, before: Life | None = None, seconds: bool = False
) -> dict[str, Measure]:
    """Runs per second that live like this; with `seconds` the time that one of them takes.

    Args:
        bench: The bench.
        life: What is committed for one run.
        count: How many runs, stored beforehand.
        before: What else is done to each beforehand.
        seconds: Whether the time is answered.
    """

    def prepared(connection: sqlite3.Connection) -> list[Commit]:
        commits: list[Commit] = []
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(count):
            run = new_run()
            seq, run_id = connection.execute(INSERT_RUN, run).lastrowid or 0, str(run["id"])
            for commit in () if before is None else before(seq, run_id):
                for statement, values in commit:
                    connection.execute(statement, values).fetchall()
            commits += life(seq, run_id)
        connection.execute("COMMIT")
        return commits

    def answer(spent: float) -> float:
        return spent / count if seconds else count / spent

    async def plain() -> float:
        with _plain(await _prepared(bench), bench.durability) as connection:
            commits = prepared(connection)
            begun = time.perf_counter()
            for commit in commits:
                for statement, values in _transaction(commit):
                    connection.execute(statement, values).fetchall()
            return answer(time.perf_counter() - begun)

    async def threaded() -> float:
        path = await _prepared(bench)
        with _plain(path, bench.durability) as connection:
            commits = prepared(connection)
        async with _threaded(path, bench.durability) as connection:
            begun = time.perf_counter()
            for commit in commits:
                for statement, values in _transaction(commit):
                    await connection.execute_fetchall(statement, values)
            return answer(time.perf_counter() - begun)

    return {"L": plain, "C": threaded}


def reading(bench: Bench, path: Path, statement: str, values: Values | None = None) -> dict[str, Measure]:
    """Seconds for one read of everything that a statement finds."""

    async def plain() -> float:
        samples: list[float] = []
        with _plain(path, bench.durability) as connection:
            for _ in range(bench.scale.samples):
                begun = time.perf_counter()
                connection.execute(statement, values or {}).fetchall()
                samples.append(time.perf_counter() - begun)
        return median(samples)

    async def threaded() -> float:
        samples: list[float] = []
        async with _threaded(path, bench.durability) as connection:
            for _ in range(bench.scale.samples):
                begun = time.perf_counter()
                await connection.execute_fetchall(statement, values or {})
                samples.append(time.perf_counter() - begun)
        return median(samples)

    return {"L": plain, "C": threaded}


def _both(
    bench: Bench, prepare: Preparation, *, rows_a_commit: int = 1, cpu: bool = False
) -> dict[str, Measure]:
    clock = time.process_time if cpu else time.perf_counter

    def rate(count: int, spent: float) -> float:
        return spent / count if cpu else count / spent

    async def plain() -> float:
        with _plain(await _prepared(bench), bench.durability) as connection:
            statement, rows = prepare(connection)
            begun = clock()
            if rows_a_commit == 1:
                for values in rows:
                    connection.execute(statement, values)
            else:
                for start in range(0, len(rows), rows_a_commit):
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(statement, rows[start : start + rows_a_commit])
                    connection.execute("COMMIT")
            return rate(len(rows), clock() - begun)

    async def threaded() -> float:
        path = await _prepared(bench)
        with _plain(path, bench.durability) as connection:
            statement, rows = prepare(connection)
        async with _threaded(path, bench.durability) as connection:
            begun = clock()
            if rows_a_commit == 1:
                for values in rows:
                    # One closure: execute and fetch, and back.
                    await connection.execute_fetchall(statement, values)
            else:
                for start in range(0, len(rows), rows_a_commit):
                    await connection.execute_fetchall("BEGIN IMMEDIATE")
                    await connection.executemany(statement, rows[start : start + rows_a_commit])
                    await connection.execute_fetchall("COMMIT")
            return rate(len(rows), clock() - begun)

    return {"L": plain, "C": threaded}


def _rest_of_run(seq: int, run_id: str) -> list[tuple[str, Values]]:
    return [(CLAIM_RUN, claim(seq)), (SAVE_STEP, step(run_id, 1)), (FINISH_RUN, outcome(run_id))]


def _transaction(commit: Commit) -> Commit:
    return commit if len(commit) == 1 else [("BEGIN IMMEDIATE", {}), *commit, ("COMMIT", {})]


async def _prepared(bench: Bench) -> Path:
    path = bench.database()
    durably = Durably(path, worker=False)
    await durably.migrate()
    await durably.close()
    return path


def _settings(durability: Durability) -> list[str]:
    synchronous = "FULL" if durability == "disk" else "NORMAL"
    return ["journal_mode = WAL", f"synchronous = {synchronous}", "foreign_keys = ON"]


@contextmanager
def _plain(path: Path, durability: Durability) -> Generator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    with contextlib.closing(connection):
        for setting in _settings(durability):
            connection.execute(f"PRAGMA {setting}").fetchall()
        yield connection


@asynccontextmanager
async def _threaded(path: Path, durability: Durability) -> AsyncGenerator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, isolation_level=None, cached_statements=256) as connection:
        for setting in _settings(durability):
            await connection.execute_fetchall(f"PRAGMA {setting}")
        yield connection
