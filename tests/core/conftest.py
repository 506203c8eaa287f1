"""Instances on every kind of store."""

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typing_extensions import Unpack

from durably import Durably, DurablyOptions

Open = Callable[..., Durably]


@pytest.fixture(params=["sqlite-memory", "sqlite-file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the runs are kept."""
    return ":memory:" if request.param == "sqlite-memory" else f"sqlite:///{tmp_path}/app.db"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A file, for what several instances must share."""
    return f"sqlite:///{tmp_path}/app.db"


@pytest.fixture
async def durably(url: str) -> AsyncIterator[Durably]:
    """A migrated instance whose worker is not started; polls too rarely to hide a lost wake-up."""
    instance = Durably(url, polling_interval=60)
    await instance.migrate()
    yield instance
    await instance.stop(drain=0)
    await instance.close()


@pytest.fixture
async def another(file_url: str) -> AsyncIterator[Callable[..., Durably]]:
    """Makes further instances on one file, each to be entered by the test; closed at its end."""
    # They stand for processes; pytest forgets the filter after the test.
    warnings.filterwarnings("ignore", message=".* share one store in this process", category=RuntimeWarning)
    async with AsyncExitStack() as stack:

        def make(**options: Unpack[DurablyOptions]) -> Durably:
            options.setdefault("polling_interval", 60)
            instance = Durably(file_url, **options)

            async def close() -> None:
                await instance.stop(drain=0)
                await instance.close()

            stack.push_async_callback(close)
            return instance

        yield make
