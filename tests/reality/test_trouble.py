"""The database of a worker at work is in trouble: no run fails for it, and all go on once it is over."""

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from durably import (
    Durably,
    JobHandle,
    NotADatabaseError,
    RealEnvironment,
    Run,
    StepContext,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    define_job,
)
from durably.spi import SqliteStore
from durably.stores.sqlite import upkeep
from durably.stores.sqlite.session import Session
from tests.reality.disk import Disk, recorded
from tests.volume import volume

STEPS = 4
RUNS = 4
Trouble: TypeAlias = "Callable[[Scene], AbstractAsyncContextManager[None]]"


class Scene:
    """A worker on a database of its own, and what it has told."""

    def __init__(self, folder: Path, disk: Disk | None = None, *, lease: float = 2.0) -> None:
        self.database: Path = folder / "app.db"
        self.disk: Disk = disk or Disk(folder)
        self.runs: list[Run[int, list[str]]] = []
        self.bodies: Counter[tuple[int, int]] = Counter()
        self.errors: list[BaseException] = []
        self.failed: list[str] = []
        self.gate: asyncio.Event = asyncio.Event()
        self.at_work: asyncio.Event = asyncio.Event()
        environment = RealEnvironment()
        self._store = SqliteStore(self.database, environment=environment, busy_timeout=0.1)
        self.durably: Durably = Durably(
            self._store,
            environment=environment,
            stale_threshold=lease,
            heartbeat_interval=lease / 4,
            polling_interval=0.2,
        )
        self.durably.on("worker:error", lambda event: self.errors.append(event.error))
        self.durably.on("run:fail", lambda event: self.failed.append(event.run_id))
        job = define_job(name="work", input=int, output=list[str], run=self._work)
        self.handle: JobHandle[int, list[str]] = self.durably.register(job)

    async def hear(self, count: int) -> None:
        """Wait until the worker has told of so much trouble."""
        async with asyncio.timeout(20):
            while len(self.errors) < count:
                await asyncio.sleep(0.005)

    async def finish(self) -> None:
        """See that everything goes on as if nothing had been."""
        for run in self.runs:
            done = await self.durably.wait_for_run(run.id, timeout=30)
            assert done.output == [f"{run.input}.{number}" for number in range(STEPS)]
        assert self.failed == []

    async def pragma(self, text: str) -> None:
        """Set it on the connection that writes, on its own thread."""
        is_set = False

        def act(session: Session) -> bool:
            nonlocal is_set
            session.connection.execute(f"PRAGMA {text}")
            is_set = True
            return True

        # Within a transaction it could not be set: not where somebody else's writes are of the same batch.
        while not is_set:
            with suppress(StoreError):
                await self._store.database.write(lambda _: True, probe=act)

    async def _work(self, step: StepContext, input: int) -> list[str]:
        async def body(number: int) -> str:
            self.bodies[input, number] += 1
            if number == 1:
                if sum(1 for _, begun in self.bodies if begun == 1) == RUNS:
                    self.at_work.set()
                await self.gate.wait()
            return f"{input}.{number}"

        return [await step.run(f"step-{number}", body, number) for number in range(STEPS)]


@asynccontextmanager
async def at_work(folder: Path, *, lease: float = 2.0) -> AsyncGenerator[Scene]:
    """Every run is in the middle of its second step."""
    with recorded(folder) as disk:
        scene = Scene(folder, disk, lease=lease)
        async with scene.durably:
            scene.runs.extend(await scene.handle.batch_trigger(range(RUNS)))
            await scene.at_work.wait()
            yield scene
            scene.gate.set()


@asynccontextmanager
async def a_foreign_transaction(scene: Scene) -> AsyncGenerator[None]:
    """Another program writes, and takes its time."""
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def read_only(scene: Scene) -> AsyncGenerator[None]:
    """The engine may not write."""
    await scene.pragma("query_only = ON")
    yield
    await scene.pragma("query_only = OFF")


def failing(*, writing: int = sqlite3.SQLITE_OK, syncing: int = sqlite3.SQLITE_OK) -> Trouble:
    """The disk fails."""

    @asynccontextmanager
    async def trouble(scene: Scene) -> AsyncGenerator[None]:
        scene.disk.fail(writing=writing, syncing=syncing)
        yield
        scene.disk.fail()

    return trouble


TROUBLES = {
    "locked": (a_foreign_transaction, StoreBusyError),
    "read-only": (read_only, StoreReadOnlyError),
    "full": (failing(writing=sqlite3.SQLITE_FULL), StoreFullError),
    "no writing": (failing(writing=sqlite3.SQLITE_IOERR_WRITE), StoreUnavailableError),
    "no syncing": (failing(syncing=sqlite3.SQLITE_IOERR_FSYNC), StoreUnavailableError),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_trouble_that_passes_costs_no_run(tmp_path: Path, name: str) -> None:
    trouble, kind = TROUBLES[name]
    async with at_work(tmp_path) as scene:
        async with trouble(scene):
            scene.gate.set()
            await scene.hear(8)
        await scene.finish()
    assert {type(error) for error in scene.errors} == {kind}


@pytest.mark.parametrize("name", [*TROUBLES][:: volume(quick=2, ci=1, nightly=1)])
async def test_trouble_that_outlasts_the_leases_charges_nobody(tmp_path: Path, name: str) -> None:
    """The runs are begun again where they were; and nobody knocks at the door without a pause."""
    trouble, _ = TROUBLES[name]
    async with at_work(tmp_path, lease=0.2) as scene:
        async with trouble(scene):
            scene.gate.set()
            await asyncio.sleep(0.7)
        await scene.finish()
        assert len(scene.errors) < 200
        assert {run.crashes for run in await scene.durably.get_runs()} == {0}
    assert max(scene.bodies.values()) <= 3


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_worker_whose_database_file_is_gone_gives_up_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(upkeep, "FILE_CHECK_EVERY", 0.1)
    caplog.set_level(logging.ERROR, "durably")
    async with at_work(tmp_path) as scene:
        if how == "replaced":
            scene.database.rename(tmp_path / "meant.db")
            scene.database.touch()
        else:
            scene.database.unlink()
        await scene.hear(3)
        scene.gate.set()
        with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
            await scene.durably.get_runs()
        # Nobody makes a new database in the place of the old one, and fills it.
        assert not scene.database.exists() or scene.database.stat().st_size == 0
    assert scene.failed == []
    [record] = caplog.records
    assert "restart this process" in record.getMessage()


@pytest.mark.parametrize("table", ["durably_steps", "durably_runs"])
async def test_a_worker_whose_database_is_damaged_gives_up_loudly_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str
) -> None:
    caplog.set_level(logging.ERROR, "durably")
    async with at_work(tmp_path) as scene:
        with closing(sqlite3.connect(scene.database, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            [[page]] = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
            [[size]] = other.execute("PRAGMA page_size").fetchall()
            sound = scene.database.read_bytes()
            with scene.database.open("r+b") as file:
                file.seek((page - 1) * size)
                file.write(b"\xff" * size)
            # Everybody's cache is stale now.
            other.execute("PRAGMA user_version = 7")
        scene.gate.set()
        await scene.hear(3)
        assert any(isinstance(error, NotADatabaseError) for error in scene.errors)
        with pytest.raises(NotADatabaseError, match="restore it from a backup"):
            await scene.durably.get_runs()
        await scene.durably.stop(drain=0)
    assert scene.failed == []
    [record] = caplog.records
    assert "damaged" in record.getMessage()

    for left in tmp_path.glob("app.db*"):
        if left.is_file():
            left.unlink()
    scene.database.write_bytes(sound)
    again = Scene(tmp_path)
    again.gate.set()
    again.runs.extend(scene.runs)
    async with again.durably:
        await again.finish()


def may_mount(folder: Path) -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
async def test_a_disk_without_room_costs_no_run(tmp_path: Path, how: str) -> None:
    """The kernel's own refusals, in a process of its own."""
    command = [sys.executable, "-m", "tests.reality.cramped", how, str(tmp_path)]
    if how == "tmpfs":
        command = ["unshare", "-rm", *command]
        if not may_mount(tmp_path):
            pytest.skip("no file system can be mounted here")
    path = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    said, _ = await process.communicate()
    seen = json.loads(said)
    assert seen["statuses"] == {"completed": 6}
    assert set(seen["errors"]) == {"StoreFullError" if how == "tmpfs" else "StoreUnavailableError"}
    assert seen["bodies"] == 1
