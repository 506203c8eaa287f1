"""Our own stores keep the contract that is published for others."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durably.spi import SqliteStore, Store
from durably_testing import HandClock, OpenStore, StoreConformance
from durably_testing.conformance.stage import Stage
from tests.testing.mutants import MUTANTS


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


@pytest.mark.parametrize(
    ("bug", "test"),
    [
        ("claimed-twice", "test_many_claimers_at_once_share_out_the_runs"),
        ("crashes-not-counted", "test_a_run_that_kills_its_worker_five_times_in_a_row_is_parked"),
        ("key-released-at-a-wait", "test_a_waiting_run_keeps_its_key"),
        ("generation-reused", "test_the_generation_rises_at_every_claim_for_the_whole_life"),
    ],
)
async def test_a_store_with_a_bug_does_not_pass(bug: str, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    store = await opened(":memory:", clock)
    MUTANTS[bug].apply(monkeypatch)
    with pytest.raises(AssertionError):
        await getattr(StoreConformance(), test)(Stage(store, clock))
    await store.close()
