"""Our own stores keep the contract that is published for others."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durably.spi import SqliteStore, Store
from durably_testing import HandClock, StoreConformance
from durably_testing.conformance.stage import OpenStore


async def opened(path: Path | str, clock: HandClock) -> SqliteStore:
    store = SqliteStore(path, environment=clock, durability="process", busy_timeout=2)
    await store.open()
    await store.migrate()
    return store


class TestSqliteInMemory(StoreConformance):
    @pytest.fixture
    async def store(self, clock: HandClock) -> AsyncIterator[Store]:
        store = await opened(":memory:", clock)
        yield store
        await store.close()


class TestSqliteFile(StoreConformance):
    @pytest.fixture
    async def store(self, clock: HandClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = await opened(tmp_path / "app.db", clock)
        yield store
        await store.close()

    @pytest.fixture
    async def open_store(self, clock: HandClock, tmp_path: Path) -> AsyncIterator[OpenStore]:
        stores: list[SqliteStore] = []

        async def open_store() -> Store:
            stores.append(await opened(tmp_path / "app.db", clock))
            return stores[-1]

        yield open_store
        for store in stores:
            await store.close()


def test_the_published_contract_is_large_and_every_test_is_a_sentence() -> None:
    tests = [name for name in dir(StoreConformance) if name.startswith("test_")]
    assert len(tests) >= 200
    assert all(name.count("_") >= 3 for name in tests)
