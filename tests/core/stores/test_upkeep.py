"""What the writer's thread does between batches."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from durably import environment
from durably.environment import RealEnvironment
from durably.errors import StoreUnavailableError
from durably.filters import RunFilter
from durably.stores.sqlite.connection import connect
from durably.stores.sqlite.database import FOLLOWED_FOR
from durably.stores.sqlite.journal import EMPTY, Extent, measure
from durably.stores.sqlite.presence import try_lock
from durably.stores.sqlite.upkeep import CHECKPOINT_FRAMES, Upkeep
from tests.core.stores.stage import HandClock, Stage

PAGE = "x" * 4000


class Bench:
    """A database, and the upkeep that would be called between its batches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Path(f"{path}-wal")
        self.clock = HandClock()
        self.connection = connect(str(path), durability="process", busy_timeout=0)
        self.connection.execute("CREATE TABLE t (a)")
        self.told: list[object] = []
        self.is_followed = False
        self.upkeep = Upkeep(
            self.clock,
            self.connection,
            str(path),
            changed=lambda: self.told.append("changed"),
            is_followed=lambda: self.is_followed,
            replaced=self.told.append,
        )
        self.checkpoints: list[str] = []
        self.connection.set_trace_callback(
            lambda statement: self.checkpoints.append(statement) if "wal_checkpoint" in statement else None
        )

    def write(self, pages: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO t VALUES (?)", [(PAGE,)] * pages)
        self.connection.execute("COMMIT")

    def turn(self) -> int:
        """One call; answers the checkpoints it made."""
        self.checkpoints.clear()
        self.clock.advance(0.02)
        self.upkeep()
        return len(self.checkpoints)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "app.db")
    yield bench
    bench.connection.close()


def test_the_log_is_written_back_once_it_has_grown(bench: Bench) -> None:
    bench.write(CHECKPOINT_FRAMES // 2)
    assert bench.turn() == 0
    bench.write(CHECKPOINT_FRAMES // 2)
    assert bench.turn() == 1
    bench.clock.advance(1)
    assert bench.turn() == 0
    size = bench.log.stat().st_size
    for _ in range(10):
        bench.write(CHECKPOINT_FRAMES // 2)
        bench.clock.advance(1)
        bench.turn()
    # It began again at its front each time.
    assert bench.log.stat().st_size <= size * 1.6


def test_two_checkpoints_never_come_back_to_back(bench: Bench) -> None:
    bench.write(CHECKPOINT_FRAMES)
    assert bench.turn() == 1
    bench.write(CHECKPOINT_FRAMES)
    assert bench.turn() == 0
    bench.clock.advance(0.1)
    bench.write(1)
    assert bench.turn() == 1


def test_beside_another_process_that_makes_one_none_is_made(bench: Bench) -> None:
    bench.write(CHECKPOINT_FRAMES)
    folder = Path(f"{bench.path}-workers")
    folder.mkdir()
    with (folder / "checkpoint.lock").open("w") as mark:
        assert try_lock(mark.fileno())
        assert bench.turn() == 0
    bench.write(1)
    assert bench.turn() == 1


def test_without_a_folder_for_locks_the_log_is_written_back_all_the_same(bench: Bench) -> None:
    Path(f"{bench.path}-workers").write_text("in the way")
    bench.write(CHECKPOINT_FRAMES)
    assert bench.turn() == 1


def test_a_reader_that_keeps_the_log_does_not_make_us_try_at_every_turn(bench: Bench) -> None:
    reader = sqlite3.connect(bench.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM t").fetchall()
    bench.write(CHECKPOINT_FRAMES)
    assert bench.turn() == 1
    for _ in range(5):
        bench.write(10)
        bench.clock.advance(1)
        assert bench.turn() == 0
    bench.write(CHECKPOINT_FRAMES)
    bench.clock.advance(1)
    assert bench.turn() == 1
    reader.close()


def test_a_commit_of_another_connection_is_told_once(bench: Bench) -> None:
    bench.write(1)
    bench.turn()
    assert bench.told == []
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("INSERT INTO t VALUES (1)")
    bench.turn()
    bench.turn()
    assert bench.told == ["changed"]
    other.close()


def test_the_file_is_looked_at_once_a_second(bench: Bench) -> None:
    bench.path.rename(bench.path.with_suffix(".moved"))
    bench.turn()
    assert bench.told == []
    bench.clock.advance(1)
    bench.turn()
    [error] = bench.told
    assert isinstance(error, StoreUnavailableError)


def test_trouble_between_batches_is_left_for_the_next_verb(bench: Bench) -> None:
    bench.connection.close()
    bench.turn()
    assert bench.told == []


def test_the_extent_of_the_log_is_what_sqlite_says_it_is(bench: Bench) -> None:
    def sqlites_own() -> int:
        frames: int = bench.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        return frames

    for pages in (1, 700, 30, 0, 1200):
        bench.write(pages)
        measured = measure(bench.log)
        assert measured.frames == sqlites_own()


def test_no_log_and_an_empty_one_hold_nothing(tmp_path: Path) -> None:
    assert measure(tmp_path / "none-wal") == EMPTY
    (tmp_path / "empty-wal").touch()
    assert measure(tmp_path / "empty-wal") == EMPTY


def test_how_much_came_since_an_earlier_look() -> None:
    assert Extent(b"a", 30).beyond(Extent(b"a", 10)) == 20
    assert Extent(b"b", 30).beyond(Extent(b"a", 10)) == 30


def test_whoever_follows_is_waited_upon_soon(bench: Bench) -> None:
    assert not bench.upkeep()
    bench.is_followed = True
    assert bench.upkeep()


@pytest.mark.parametrize("path", [":memory:"])
async def test_a_look_for_news_counts_as_following_for_a_while(stage: Stage) -> None:
    database = stage.store.database
    assert not database.is_followed()
    for look in (
        stage.store.news([]),
        stage.store.follow("nobody", change=0, after=0, limit=1),
        stage.store.survey(RunFilter(), after=0, limit=1),
    ):
        stage.clock.advance(FOLLOWED_FOR)
        assert not database.is_followed()
        await look
        stage.clock.advance(FOLLOWED_FOR - 0.01)
        assert database.is_followed()


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_quiet_lane_looks_less_often_unless_somebody_counts_on_it(
    monkeypatch: pytest.MonkeyPatch, is_wanted: bool
) -> None:
    monkeypatch.setattr(environment, "QUIET_AFTER", 0.0)
    monkeypatch.setattr(environment, "QUIET_PACE", 1e6)
    calls: list[None] = []
    often = Event()

    def idle() -> bool:
        calls.append(None)
        if len(calls) == 3:
            often.set()
        return is_wanted

    lane = RealEnvironment().lane("test", list[int].clear, idle=idle, idle_every=0.001)
    if is_wanted:
        assert often.wait(30)
    # Also one that sleeps for long ends at once.
    lane.close().result(30)
    assert is_wanted or len(calls) <= 1
