"""Instances to be shown."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durably import Durably


@pytest.fixture
async def durably(tmp_path: Path) -> AsyncIterator[Durably]:
    """A migrated instance whose worker is not started; polls too rarely to hide a lost wake-up."""
    instance = Durably(f"sqlite:///{tmp_path}/app.db", polling_interval=60)
    await instance.migrate()
    yield instance
    await instance.stop(drain=0)
    await instance.close()
