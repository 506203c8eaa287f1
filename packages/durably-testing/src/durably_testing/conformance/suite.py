"""The whole of the contract, as one class."""

import pytest

from durably.spi import Store
from durably_testing.conformance.attempts import AttemptsContract
from durably_testing.conformance.checkpoints import CheckpointsContract
from durably_testing.conformance.claims import ClaimsContract
from durably_testing.conformance.coalescing import CoalescingContract
from durably_testing.conformance.crashes import CrashesContract
from durably_testing.conformance.cursors import CursorsContract
from durably_testing.conformance.follow_ups import FollowUpsContract
from durably_testing.conformance.guards import GuardsContract
from durably_testing.conformance.keys import KeysContract
from durably_testing.conformance.leases import LeasesContract
from durably_testing.conformance.links import LinksContract
from durably_testing.conformance.reads import ReadsContract
from durably_testing.conformance.searching import SearchingContract
from durably_testing.conformance.sharing import SharingContract
from durably_testing.conformance.stage import HandClock, OpenAnother, OpenStore, Stage
from durably_testing.conformance.transitions import TransitionsContract
from durably_testing.conformance.triggering import TriggeringContract
from durably_testing.conformance.waits import WaitsContract
from durably_testing.conformance.watching import WatchingContract


@pytest.mark.asyncio
class StoreConformance(
    AttemptsContract,
    CheckpointsContract,
    ClaimsContract,
    CoalescingContract,
    CrashesContract,
    CursorsContract,
    FollowUpsContract,
    GuardsContract,
    KeysContract,
    LeasesContract,
    LinksContract,
    ReadsContract,
    SearchingContract,
    SharingContract,
    TransitionsContract,
    TriggeringContract,
    WaitsContract,
    WatchingContract,
):
    """Every verb of `durably.spi.Store`, on a run in every state, once and again.

    For authors of stores: a subclass with a fixture makes them tests of that store.

        class TestMyStore(StoreConformance):
            @pytest_asyncio.fixture
            async def store(self, clock: HandClock) -> AsyncIterator[Store]:
                store = MyStore(url, environment=clock)
                await store.open()
                await store.migrate()
                yield store
                await store.close()

    The store is empty, and takes its time from the `clock`. One that has a clock of its own, as a
    database server has, overrides the fixture `clock` by a `HandClock` whose `advance` moves that too.
    A fixture `open_store`, which opens stores on one database, adds what several processes do.
    """

    @pytest.fixture
    def clock(self) -> HandClock:
        """What time it is."""
        return HandClock()

    @pytest.fixture
    async def store(self, clock: HandClock) -> Store:
        """The store that is tested, open, migrated and empty."""
        del clock
        raise NotImplementedError("a subclass of StoreConformance has a fixture `store` of its own")

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Opens further stores on one database, migrated, and closes them after the test; if that can be."""
        pytest.skip("there is one store on this database")

    @pytest.fixture
    def stage(self, store: Store, clock: HandClock) -> Stage:
        """Short words for what workers and people do to the store."""
        return Stage(store, clock)

    @pytest.fixture
    def another(self, open_store: OpenStore, clock: HandClock) -> OpenAnother:
        """The same for as many stores as a test opens."""

        async def open_another() -> Stage:
            return Stage(await open_store(), clock)

        return open_another
