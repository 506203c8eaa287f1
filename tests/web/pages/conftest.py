"""A dashboard over jobs of many kinds, and somebody who asks for its pages."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp

from durably import Durably
from durably_web import DurablyWeb
from tests.web.browser import browsing
from tests.web.pages.jobs import JOBS


async def by_header(request: Request) -> str | None:
    """Whoever says who they are."""
    return request.headers.get("user")


@pytest.fixture
async def durably(tmp_path: Path) -> AsyncIterator[Durably]:
    """A migrated instance whose worker is not started; polls too rarely to hide a lost wake-up."""
    instance = Durably(f"sqlite:///{tmp_path}/app.db", polling_interval=60, jobs=JOBS)
    await instance.migrate()
    yield instance
    await instance.stop(drain=0)
    await instance.close()


SECRET_KEY = "a key that only these tests know about"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of this machine, closed at the end."""
    async with browsing() as browser:
        yield browser


@pytest.fixture
def web(durably: Durably) -> DurablyWeb[str]:
    """A dashboard for whoever says who they are."""
    return DurablyWeb(durably, authenticate=by_header, secret_key=SECRET_KEY)


@pytest.fixture
async def client(web: DurablyWeb[str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser at the dashboard, which is mounted at /durably."""
    async with asking(Starlette(routes=[Mount("/durably", web)])) as client:
        yield client


def asking(app: ASGIApp, **headers: str) -> httpx2.AsyncClient:
    """Somebody's browser, as far as it asks."""
    transport = httpx2.ASGITransport(app=app)
    return httpx2.AsyncClient(
        transport=transport,
        base_url="http://app.example",
        headers={"user": "ada", "sec-fetch-site": "same-origin", **headers},
    )
