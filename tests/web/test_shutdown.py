"""A server in a process of its own is told to stop while streams are open."""

import signal
import time
from pathlib import Path

import httpx2

from durably import Durably
from tests.web.jobs import import_pages
from tests.web.patience import PATIENCE
from tests.web.serving import listening, starting

APP = """
import os

from durably import Durably
from durably_web import AuthConfig, allow_local, create_durably_handler

durably = Durably(os.environ["DATABASE"], worker=False)
app = create_durably_handler(durably, auth=AuthConfig(authenticate=allow_local), on_request=durably.init)
"""


async def test_a_server_that_is_told_to_stop_ends_its_streams_and_itself(tmp_path: Path) -> None:
    async with (
        starting(tmp_path, APP) as (url, process),
        Durably(f"sqlite:///{tmp_path}/app.db", worker=False) as durably,
        httpx2.AsyncClient(timeout=PATIENCE) as client,
    ):
        run = await durably.register(import_pages).trigger({"pages": 1})
        async with (
            listening(client, f"{url}/subscribe?runId={run.id}") as one,
            listening(client, f"{url}/runs/subscribe") as many,
        ):
            for ears in (one, many):
                assert await ears.next() is not None
            told_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await one.rest() == await many.rest() == []
            await process.wait()
            took = time.monotonic() - told_at
    assert took < 2, f"it took {took:.1f} s"
    # Uvicorn hands the signal on once it is done.
    assert process.returncode in {0, -signal.SIGTERM}
