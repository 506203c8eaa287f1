"""Migrations, and databases that are something else than expected."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from durably.errors import SchemaMissingError, SchemaTooNewError, SqliteTooOldError
from durably.filters import RunFilter
from durably.models import Durability
from durably.stores.sqlite import SqliteStore, schema
from durably.stores.sqlite.connection import check_version, synchronous
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import HandClock, Stage

STARTER = """
import asyncio, sys
from durably.environment import RealEnvironment
from durably.stores.sqlite import SqliteStore

async def main(path):
    store = SqliteStore(path, environment=RealEnvironment())
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    await store.migrate()
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_migrating_again_changes_nothing(stage: Stage) -> None:
    await stage.trigger("it")
    await stage.store.migrate()
    assert await stage.ids() == ["it"]
    assert await stage.sql("SELECT version FROM durably_schema_versions") == [
        (number,) for number, _ in schema.migrations()
    ]


async def test_many_starters_migrate_once(file: Path, clock: HandClock) -> None:
    stores = [SqliteStore(file, environment=clock) for _ in range(5)]

    async def begin(store: SqliteStore) -> None:
        await store.open()
        await store.migrate()

    await asyncio.gather(*(begin(store) for store in stores))
    for store in stores:
        assert list(await store.list_runs(RunFilter(), limit=1, offset=0, before=None)) == []
        await store.close()


def test_many_processes_that_start_at_once_migrate_once(file: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, errors
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT count(*) FROM durably_schema_versions").fetchone() == (
        len(schema.migrations()),
    )
    connection.close()


async def test_without_its_tables_every_verb_says_what_to_do(file: Path, clock: HandClock) -> None:
    store = SqliteStore(file, environment=clock)
    await store.open()
    with pytest.raises(SchemaMissingError, match="migrate"):
        await store.get_run("it")
    with pytest.raises(SchemaMissingError, match=str(file)):
        await Stage(store, clock).trigger()
    with pytest.raises(SchemaMissingError):
        await store.sweep()
    await store.migrate()
    await Stage(store, clock).trigger()
    await store.close()


async def test_a_newer_schema_is_refused_at_the_door(another: OpenAnother, file: Path) -> None:
    stage = await another()
    await stage.sql("INSERT INTO durably_schema_versions VALUES (99, 0)")
    late = SqliteStore(file, environment=stage.clock)
    with pytest.raises(SchemaTooNewError) as refusal:
        await late.open()
    assert (refusal.value.found, refusal.value.known) == (99, schema.newest())
    with pytest.raises(SchemaTooNewError):
        await stage.store.migrate()
    # What was open before goes on: migrations only add.
    await stage.trigger()


def test_an_old_sqlite_is_refused() -> None:
    with pytest.raises(SqliteTooOldError, match=r"3\.36\.0 .* 3\.37"):
        check_version((3, 36, 0))


async def test_the_users_own_tables_and_numbers_are_left_alone(file: Path, clock: HandClock) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(
        "PRAGMA user_version = 7; PRAGMA application_id = 9; CREATE TABLE mine (a); INSERT INTO mine VALUES (1);"
    )
    connection.close()
    file.chmod(0o644)
    store = SqliteStore(file, environment=clock)
    await store.open()
    await store.migrate()
    await store.close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    assert connection.execute("PRAGMA application_id").fetchone() == (9,)
    assert connection.execute("SELECT a FROM mine").fetchall() == [(1,)]
    names = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    ]
    assert all(name == "mine" or name.startswith("durably_") for name in names)
    connection.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


async def test_a_new_file_is_its_owners_alone(another: OpenAnother, file: Path) -> None:
    stage = await another()
    await stage.trigger()
    for path in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("durability", "number"), [("disk", 2), ("process", 1)])
async def test_durability_decides_when_the_disk_is_waited_for(
    file: Path, clock: HandClock, durability: Durability, number: int
) -> None:
    store = SqliteStore(file, environment=clock, durability=durability)
    await store.open()
    stage = Stage(store, clock)
    assert await stage.sql("PRAGMA synchronous") == [(number,)]
    assert await stage.sql("PRAGMA journal_mode") == [("wal",)]
    assert await stage.sql("PRAGMA foreign_keys") == [(1,)]
    assert await stage.sql("PRAGMA mmap_size") == [(0,)]
    await store.close()


@pytest.mark.parametrize(
    ("durability", "journal", "mode"),
    [("disk", "wal", "FULL"), ("disk", "delete", "EXTRA"), ("process", "wal", "NORMAL")],
)
def test_without_a_log_the_disk_is_waited_for_longer(durability: Durability, journal: str, mode: str) -> None:
    assert synchronous(durability, journal) == mode


async def test_no_row_outlives_its_run(stage: Stage) -> None:
    from durably.stores.values import Notes

    await stage.trigger("it", labels={"a": "b"})
    lease = (await stage.take()).lease
    await stage.save(lease, notes=Notes(logs=[stage.line()]))
    await stage.finish(lease)
    await stage.store.delete("it", token="t")
    for table in ("durably_runs", "durably_steps", "durably_logs", "durably_run_labels"):
        assert await stage.sql(f"SELECT count(*) FROM {table}") == [(0,)]
