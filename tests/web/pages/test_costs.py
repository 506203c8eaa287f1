"""What a page asks of the database: through indexes, as often for many runs as for few, and no more than fits.

No wall clock: the statements of each page are heard, their plans read, and bytes counted.
"""

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from typing_extensions import override

from durably import Durably, RealEnvironment
from durably.spi import SqliteStore
from durably_web import DurablyWeb
from tests.web.pages.conftest import asking, by_header
from tests.web.pages.jobs import JOBS

LARGE_TABLES = ("run", "step", "log", "label", "attempt", "durably_runs", "durably_steps", "durably_logs")
SCAN = re.compile(rf"SCAN (?:{'|'.join(LARGE_TABLES)})\b")
LONG = 5_000
MOST_BYTES = 2_000_000

NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) "
ADD_RUNS = (
    NUMBERS + "INSERT INTO durably_runs (id, job_name, status, change, priority, rank, ready, created_at, "
    "updated_at, started_at, completed_at, steps_completed, labels, input, error) "
    "SELECT printf('%s-%06d', :kind, i), CASE i % 2 WHEN 0 THEN 'import-csv' ELSE 'flaky' END, "
    "CASE i % 3 WHEN 0 THEN 'failed' ELSE 'completed' END, i, 0, i, 0, :now - i, :now, :now - 1, :now, 1, "
    """'{"org": "acme", "env": "prod"}', '{}', """
    """CASE i % 3 WHEN 0 THEN '{"type": "ValueError", "message": "no", "traceback": "…", "steps": []}' END FROM n"""
)
ADD_LABELS = (
    "INSERT OR IGNORE INTO durably_run_labels (key, value, run_seq) SELECT label.key, label.value, run.seq "
    "FROM durably_runs AS run CROSS JOIN json_each(run.labels) AS label"
)
ADD_STEPS = (
    NUMBERS + "INSERT INTO durably_steps (run_seq, name, status, position, attempt, sequence, started_at, "
    "completed_at, result) "
    # Names that are not alike: numbers would be folded into one row.
    "SELECT 1, 'a rather long name of a step ' || char(97 + i / 676, 97 + i / 26 % 26, 97 + i % 26), 'completed', i, 1, i, :now + i, "
    ":now + i + 0.5, '1' FROM n"
)
ADD_LINES = (
    NUMBERS + "INSERT INTO durably_logs (run_seq, sequence, level, step_name, created_at, message, fields) "
    "SELECT 1, :count + i, 'info', 'step', :now, printf('%.100c', 'x'), '{}' FROM n"
)

PAGES = (
    "/",
    "/jobs",
    "/jobs/import-csv",
    "/workers",
    "/runs",
    "/runs?status=failed",
    "/runs?status=failed&status=completed",
    "/runs?job=import-csv",
    "/runs?job=import-csv&status=failed",
    "/runs?q=org=acme",
    "/runs?q=org=acme+env=prod",
    "/runs?q=org=acme&status=failed&job=flaky",
    "/runs?q=csv",
    "/runs?before=3",
    "/runs?after=3",
    "/runs?status=failed&before=3",
    "/runs?q=org=acme&before=3",
    "/runs/few-000001",
)


class Later(RealEnvironment):
    """A clock that can be put forward, so that what was counted has to be counted again."""

    skipped = 0.0

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


class World:
    """A dashboard, and what it asks of the database."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self._path = path
        self._environment = Later()
        store = SqliteStore(path, environment=self._environment, connector=self._connect)
        self.durably = Durably(store, environment=self._environment, polling_interval=60, jobs=JOBS)
        web = DurablyWeb(self.durably, authenticate=by_header)
        self._client = asking(Starlette(routes=[Mount("/durably", web)]))

    def add(self, statement: str, **values: object) -> None:
        """Put rows into the tables."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute(statement, {"now": RealEnvironment().now(), **values})

    def plan(self, statement: str) -> list[str]:
        """How SQLite goes about it."""
        with closing(sqlite3.connect(self._path)) as connection:
            return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]

    async def ask(self, url: str) -> httpx2.Response:
        """A page, for which everything is counted anew; hears its statements."""
        self._environment.skipped += 60
        self.heard.clear()
        page = await self._client.get(f"/durably{url}")
        assert page.status_code == 200, page.text
        return page

    def _connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(*args, **kwargs)
        connection.set_trace_callback(self._hear)
        return connection

    def _hear(self, statement: str) -> None:
        if statement.startswith(("SELECT", "WITH")):
            self.heard.append(statement)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "app.db")
    await world.durably.migrate()
    world.add(ADD_RUNS, count=20, kind="few")
    world.add(ADD_LABELS)
    yield world
    await world.durably.stop(drain=0)
    await world.durably.close()


async def test_no_page_walks_through_a_table(world: World) -> None:
    for url in PAGES:
        await world.ask(url)
        assert world.heard
        for statement in world.heard:
            steps = world.plan(statement)
            walked = [number for number, step in enumerate(steps) if SCAN.match(step)]
            # The plain list is the table itself, from its end on, as far as the page goes.
            is_list = "LIMIT 51" in statement and "TEMP B-TREE" not in " ".join(
                steps[: walked[0] + 2] if walked else []
            )
            assert not walked or is_list, (url, statement, steps)


async def test_no_page_asks_more_often_because_there_is_more(world: World) -> None:
    few = {url: await count(world, url) for url in PAGES}
    world.add(ADD_RUNS, count=300, kind="more")
    world.add(ADD_LABELS)
    assert {url: await count(world, url) for url in PAGES} == few


async def count(world: World, url: str) -> int:
    await world.ask(url)
    return len(world.heard)


def name(number: int) -> str:
    return "".join(chr(97 + digit) for digit in (number // 676, number // 26 % 26, number % 26))


async def test_the_page_of_a_long_run_stays_small(world: World) -> None:
    world.add(ADD_STEPS, count=LONG)
    world.add(ADD_LINES, count=LONG)
    page = await world.ask("/runs/few-000001")
    assert f"of a step {name(LONG)}" in page.text
    assert len(page.content) < MOST_BYTES / 4
    # What is behind the fold costs as many statements as if it were not there.
    assert len(world.heard) == await count(world, "/runs/few-000002")
