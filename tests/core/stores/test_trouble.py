"""A database in trouble: every kind has its own error, and the store is usable again afterwards."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from durably.errors import (
    NotADatabaseError,
    NotRunningError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from durably.stores.sqlite import SqliteStore, database
from durably.stores.sqlite.connection import explain
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import HandClock, Stage


async def test_a_locked_database_is_waited_for_and_then_called_busy(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock, busy_timeout=0.05)
    await store.open()
    await store.migrate()
    stage = Stage(store, clock)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match=str(file)):
        await stage.trigger("refused")
    # Reading goes on meanwhile, and so does a claim that finds nothing.
    assert await stage.ids() == []
    assert await stage.claim() == []
    other.execute("COMMIT")
    await stage.trigger("stored")
    assert await stage.ids() == ["stored"]
    other.close()
    await store.close()


async def test_everybody_in_a_batch_learns_that_the_database_is_busy(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock, busy_timeout=0.05)
    await store.open()
    await store.migrate()
    stage = Stage(store, clock)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(stage.trigger() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, StoreBusyError) for answer in answers)
    assert len({id(answer) for answer in answers}) == 20
    other.close()
    await stage.trigger()
    await store.close()


async def test_a_busy_database_at_the_door_is_tried_again(file: Path, clock: HandClock) -> None:
    """Turning WAL on does not wait for a lock by itself."""
    sqlite3.connect(file).close()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE mine (a)")
    other.execute("BEGIN EXCLUSIVE")
    impatient = SqliteStore(file, environment=clock, busy_timeout=0)
    with pytest.raises(StoreBusyError):
        await impatient.open()

    class Patient(HandClock):
        async def sleep(self, seconds: float, /) -> None:
            self.advance(seconds)
            if other.in_transaction:
                other.execute("COMMIT")

    store = SqliteStore(file, environment=Patient(), busy_timeout=0.1)
    await store.open()
    await store.close()
    other.close()


async def test_a_full_disk_fails_the_write_and_nothing_else(stage: Stage) -> None:
    await stage.trigger("before")
    [[pages]] = await stage.sql("PRAGMA page_count")
    await stage.sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError):
        await stage.trigger("refused", input_json='"' + "x" * 100_000 + '"')
    assert await stage.ids() == ["before"]
    await stage.sql("PRAGMA max_page_count = 1000000")
    await stage.trigger("after", input_json='"' + "x" * 100_000 + '"')
    assert await stage.claim() == ["before", "after"]


async def test_a_write_that_is_interrupted_leaves_no_transaction_open(
    stage: Stage,
) -> None:
    await stage.at_connection(lambda connection: connection.set_progress_handler(lambda: 1, 1))
    with pytest.raises(StoreUnavailableError):
        await stage.trigger()
    await stage.at_connection(lambda connection: connection.set_progress_handler(None, 1))
    assert not await stage.is_in_transaction()
    await stage.trigger()


async def test_a_database_that_may_not_be_written(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock)
    await store.open()
    await store.migrate()
    stage = Stage(store, clock)
    await stage.at_connection(lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(StoreReadOnlyError, match="permissions"):
        await stage.trigger()
    await stage.at_connection(lambda connection: connection.execute("PRAGMA query_only = OFF"))
    await stage.trigger()
    await store.close()


async def test_a_file_that_is_no_database(file: Path, clock: HandClock) -> None:
    file.write_text("Dear diary, " * 1000)
    store = SqliteStore(file, environment=clock)
    with pytest.raises(NotADatabaseError, match=str(file)):
        await store.open()
    assert file.read_text().startswith("Dear diary")
    await store.close()


async def test_a_folder_that_does_not_exist(tmp_path: Path, clock: HandClock) -> None:
    store = SqliteStore(tmp_path / "no" / "app.db", environment=clock)
    with pytest.raises(StoreUnavailableError, match="folder"):
        await store.open()


async def test_a_store_that_is_not_open(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock)
    with pytest.raises(NotRunningError, match="not open"):
        await store.get_run("it")
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(NotRunningError):
        await store.migrate()


async def test_a_store_can_be_opened_again(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock)
    stage = Stage(store, clock)
    for number in range(3):
        await asyncio.gather(store.open(), store.open())
        await store.migrate()
        await stage.trigger(f"{number}")
        await asyncio.gather(store.close(), store.close())
    await store.open()
    assert len(await stage.ids()) == 3
    await store.close()


def test_a_store_belongs_to_the_loop_that_opened_it(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock)

    async def begin() -> None:
        await store.open()
        await store.migrate()

    async def use() -> None:
        with pytest.raises(NotRunningError, match="loop"):
            await store.get_run("it")
        # But it can be closed from anywhere, so that the process can end tidily.
        await store.close()

    asyncio.run(begin())
    asyncio.run(use())


async def test_a_store_belongs_to_the_process_that_opened_it(
    another: OpenAnother,
) -> None:
    stage = await another()
    stage.clock.process = os.getpid() + 1
    with pytest.raises(NotRunningError, match="forked"):
        await stage.trigger()
    stage.clock.process = None
    await stage.trigger()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_database_whose_file_is_gone_stops_serving(
    another: OpenAnother, file: Path, how: str
) -> None:
    stage = await another()
    await stage.trigger("lost")
    file.rename(file.with_suffix(".old"))
    if how == "replaced":
        file.touch()
    stage.clock.advance(1)

    async def trigger_for_ever() -> None:
        # The file is looked at between batches, so the batches are what can be awaited here.
        while True:
            await stage.trigger()

    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        await trigger_for_ever()
    with pytest.raises(StoreUnavailableError):
        await stage.store.get_run("lost")
    await stage.store.close()


async def test_what_a_caller_gives_up_on_happens_all_the_same(stage: Stage) -> None:
    """And never leaves a transaction open, wherever the caller was cancelled."""
    for turns in range(12):
        task = asyncio.ensure_future(stage.trigger(f"{turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stage.trigger(f"after-{turns}")
        assert not await stage.is_in_transaction()
    stored = set(await stage.ids())
    assert {f"after-{turns}" for turns in range(12)} <= stored
    # From the second turn of the loop on it was on its way.
    assert {f"{turns}" for turns in range(1, 12)} <= stored


async def test_a_caller_may_give_up_on_opening_and_on_closing(file: Path, clock: HandClock) -> None:
    for turns in range(6):
        store = SqliteStore(file, environment=clock)
        opening = asyncio.ensure_future(store.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await store.open()
        closing = asyncio.ensure_future(store.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await store.close()


async def test_what_was_opened_for_a_caller_who_left_is_closed(
    file: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()
    opened: list[sqlite3.Connection] = []

    def connect_slowly(*args: Any, **options: Any) -> sqlite3.Connection:
        begun.set()
        assert gate.wait(10)
        opened.append(sqlite3.connect(*args, **options))
        return opened[-1]

    discard, discarded = database._discard, threading.Event()  # pyright: ignore[reportPrivateUsage]

    def discard_and_tell(future: "Future[database._Opened]") -> None:  # pyright: ignore[reportPrivateUsage]
        discard(future)
        discarded.set()

    monkeypatch.setattr(database, "_discard", discard_and_tell)
    store = SqliteStore(file, environment=clock, connector=connect_slowly)
    opening = asyncio.ensure_future(store.open())
    assert await asyncio.get_running_loop().run_in_executor(None, begun.wait, 10)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    gate.set()
    # Not used before: to use a connection while another thread closes it can crash the interpreter.
    assert await asyncio.get_running_loop().run_in_executor(None, discarded.wait, 10)
    with pytest.raises(sqlite3.ProgrammingError):
        opened[0].execute("SELECT 1")
    with pytest.raises(NotRunningError):
        await store.get_run("it")


def test_a_loop_that_is_closed_under_it_does_not_disturb_the_threads(
    file: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(file, environment=clock)
    gate = threading.Event()

    async def begin() -> None:
        await store.open()
        await store.migrate()
        waiting = store.database.write(lambda _: gate.wait(10))
        unanswered = asyncio.ensure_future(Stage(store, clock).trigger("it"))
        await asyncio.sleep(0)
        del waiting, unanswered

    async def end() -> None:
        await store.close()
        await store.open()
        assert (await store.get_run("it")) is not None
        await store.close()

    asyncio.run(begin())
    gate.set()
    asyncio.run(end())
    assert not caplog.records


FORGETFUL = """
import asyncio, sys
from durably.environment import RealEnvironment
from durably.stores.values import NewRun, NewWorker
from durably.stores.sqlite import SqliteStore

async def main(path):
    store = SqliteStore(path, environment=RealEnvironment())
    await store.open()
    await store.migrate()
    await store.add_worker(NewWorker(id="w", host="h", pid=1, slots=1, jobs=[]))
    await store.enqueue([NewRun(id="it", job_name="job", input_json="{}")])
    if sys.argv[2] == "leak":
        global kept
        kept = store

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("how", ["leak", "drop"])
async def test_a_process_that_forgets_to_close_still_ends(another: OpenAnother, file: Path, how: str) -> None:
    in_a_thread = asyncio.get_running_loop().run_in_executor
    command = [sys.executable, "-c", FORGETFUL, str(file), how]
    ended = await in_a_thread(
        None, lambda: subprocess.run(command, capture_output=True, timeout=20, check=False)
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert await (await another()).ids() == ["it"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("no such table: durably_runs"), StoreError),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), StoreError),
        (ValueError("a bug"), ValueError),
    ],
)
def test_errors_without_a_code(error: Exception, kind: type[Exception]) -> None:
    assert isinstance(explain(error, "app.db"), kind)
