"""MIG: the schema and its version."""

import asyncio
import sqlite3
from pathlib import Path

from durably import Durably
from durably.stores.sqlite.schema import newest

TABLES = {
    "durably_clock",
    "durably_logs",
    "durably_run_labels",
    "durably_runs",
    "durably_schema_versions",
    "durably_steps",
    "durably_workers",
}


async def test_a_migrated_database_has_its_tables_and_knows_its_version(tmp_path: Path) -> None:
    """MIG-1, MIG-2, MIG-3."""
    file = tmp_path / "app.db"
    durably = Durably(file)
    await durably.migrate()
    await durably.close()
    with sqlite3.connect(file) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        version = connection.execute("SELECT max(version) FROM durably_schema_versions").fetchone()
        columns = {row[1] for row in connection.execute("PRAGMA table_info(durably_runs)")}
    connection.close()
    assert names >= TABLES
    assert all(name.startswith("durably_") for name in names)
    assert version == (newest(),)
    assert columns >= {"lease_owner", "lease_expires_at", "lease_generation", "steps_completed"}


async def test_migrating_thrice_and_stopping_meanwhile_is_safe(url: str) -> None:
    """MIG-4."""
    durably = Durably(url)
    migrating = [asyncio.create_task(durably.migrate()) for _ in range(3)]
    await asyncio.sleep(0)
    await durably.stop()
    await asyncio.gather(*migrating)
    await durably.migrate()
    assert await durably.get_runs() == []
    await durably.close()
