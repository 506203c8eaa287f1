"""A server in a process of its own is told to stop while streams are open."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from durably import Durably
from tests.web.jobs import import_pages
from tests.web.patience import PATIENCE
from tests.web.serving import listening

APP = """
import os

from durably import Durably
from durably_web import AuthConfig, allow_local, create_durably_handler

durably = Durably(os.environ["DATABASE"], worker=False)
app = create_durably_handler(durably, auth=AuthConfig(authenticate=allow_local), on_request=durably.init)
"""


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    """Uvicorn as people start it; its address, once it answers."""
    (folder / "served.py").write_text(APP, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "served:app", "--port", port, "--log-level", "warning",
        env={**os.environ, "PYTHONPATH": path, "DATABASE": f"sqlite:///{folder}/app.db"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(PATIENCE), httpx2.AsyncClient() as client:
            while True:
                try:
                    assert (await client.get(f"{url}/runs")).text == "[]"
                    break
                except httpx2.ConnectError:
                    await asyncio.sleep(0.05)
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_server_that_is_told_to_stop_ends_its_streams_and_itself(tmp_path: Path) -> None:
    async with (
        server(tmp_path) as (url, process),
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
