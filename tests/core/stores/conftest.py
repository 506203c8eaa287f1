"""The contract of a store, on every kind of store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from durably.stores.sqlite import SqliteStore
from tests.core.stores.stage import HandClock, Stage

OpenAnother = Callable[[], Awaitable[Stage]]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["sqlite-memory", "sqlite-file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return ":memory:" if request.param == "sqlite-memory" else str(tmp_path / "app.db")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
async def stage(path: str, clock: HandClock) -> AsyncIterator[Stage]:
    """An empty store."""
    store = SqliteStore(path, environment=clock, durability="process")
    await store.open()
    await store.migrate()
    yield Stage(store, clock)
    await store.close()


@pytest.fixture
async def another(file: Path, clock: HandClock) -> AsyncIterator[OpenAnother]:
    """Opens stores on one file, as several processes would."""
    opened: list[SqliteStore] = []

    async def open_another() -> Stage:
        store = SqliteStore(file, environment=clock, durability="process", busy_timeout=2)
        opened.append(store)
        await store.open()
        await store.migrate()
        return Stage(store, clock)

    yield open_another
    for store in opened:
        await store.close()
