"""Group commit: writes that wait together share one transaction, and fail alone."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable

import pytest

from durably.errors import StoreFullError, StoreUnavailableError
from durably.stores.sqlite.session import Session
from durably.stores.sqlite.writer import Operation, carry_out
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import Stage


class Book:
    """A session on a database of its own, without any thread."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("CREATE TABLE t (a INTEGER UNIQUE)")
        self.connection.execute("CREATE TABLE durably_clock (id, change, instant)")
        self.connection.execute("INSERT INTO durably_clock VALUES (1, 0, 0.0)")
        self.session = Session(self.connection, lambda: 5.0)
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)

    def operation(
        self,
        work: Callable[[Session], object],
        *,
        reads: bool = False,
        probe: Callable[[Session], object] | None = None,
    ) -> Operation[object]:
        return Operation(asyncio.get_running_loop().create_future(), work, reads, probe)

    def insert(self, value: int) -> Operation[object]:
        def work(session: Session) -> object:
            session.run(f"INSERT INTO t VALUES ({value})")
            return value

        return self.operation(work)

    def rows(self) -> list[int]:
        return [row[0] for row in self.connection.execute("SELECT a FROM t ORDER BY a")]

    def carry_out(self, *batch: Operation[object]) -> None:
        self.statements.clear()
        carry_out(self.session, batch, "app.db")
        assert not self.connection.in_transaction

    def count(self, word: str) -> int:
        return sum(statement.startswith(word) for statement in self.statements)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite would say")
    error.sqlite_errorcode = code
    return error


@pytest.fixture
async def book() -> AsyncIterator[Book]:
    book = Book()
    yield book
    book.connection.close()


async def test_a_batch_is_one_transaction(book: Book) -> None:
    batch = [book.insert(number) for number in range(5)]
    book.carry_out(*batch)
    assert [operation.result for operation in batch] == [0, 1, 2, 3, 4]
    assert (book.count("BEGIN IMMEDIATE"), book.count("COMMIT")) == (1, 1)
    assert book.rows() == [0, 1, 2, 3, 4]


async def test_a_bad_write_fails_alone(book: Book) -> None:
    batch = [book.insert(1), book.insert(1), book.insert(2)]
    book.carry_out(*batch)
    assert [type(operation.error) for operation in batch[::2]] == [type(None)] * 2
    assert batch[1].error is not None
    assert book.rows() == [1, 2]


async def test_an_error_that_is_no_database_error_reaches_its_caller_as_it_is(book: Book) -> None:
    def work(session: Session) -> object:
        raise LookupError

    batch = [book.insert(1), book.operation(work)]
    book.carry_out(*batch)
    assert isinstance(batch[1].error, LookupError)
    assert book.rows() == [1]


async def test_trouble_with_the_database_is_not_tried_once_for_each(book: Book) -> None:
    tries: list[int] = []

    def work(session: Session) -> object:
        tries.append(1)
        raise sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)

    batch = [book.insert(1), *(book.operation(work) for _ in range(10)), book.insert(2)]
    book.carry_out(*batch)
    assert len(tries) == 2
    assert batch[0].error is None
    assert all(isinstance(operation.error, StoreUnavailableError) for operation in batch[1:])
    assert book.rows() == [1]


async def test_beside_a_write_that_finds_no_room_a_smaller_one_may(book: Book) -> None:
    def work(session: Session) -> object:
        raise sqlite_error(sqlite3.SQLITE_FULL)

    batch = [book.insert(1), book.operation(work), book.insert(2)]
    book.carry_out(*batch)
    assert isinstance(batch[1].error, StoreFullError)
    assert book.rows() == [1, 2]


async def test_reads_alone_open_no_transaction(book: Book) -> None:
    book.carry_out(
        *(book.operation(lambda session: session.one("SELECT 1")[0], reads=True) for _ in range(3))
    )
    assert (book.count("BEGIN"), book.count("SELECT")) == (0, 3)


async def test_a_read_behind_a_write_sees_it(book: Book) -> None:
    read = book.operation(lambda session: session.one("SELECT count(*) FROM t")[0], reads=True)
    book.carry_out(book.insert(1), read)
    assert read.result == 1


async def test_a_probe_that_knows_the_answer_spares_the_transaction(book: Book) -> None:
    knows = book.operation(lambda session: "work", probe=lambda session: "probe")
    book.carry_out(knows)
    assert knows.result == "probe"
    assert book.count("BEGIN") == 0
    unsure = book.operation(lambda session: "work", probe=lambda session: None)
    book.carry_out(knows, unsure)
    assert unsure.result == "work"
    assert book.count("BEGIN") == 1


async def test_a_probe_that_fails_is_an_answer_too(book: Book) -> None:
    def probe(session: Session) -> object:
        raise LookupError

    failing = book.operation(lambda session: "work", probe=probe)
    book.carry_out(failing)
    assert isinstance(failing.error, LookupError)


async def test_beside_a_write_nothing_is_probed(book: Book) -> None:
    """The write may be just what the probe would have missed."""
    claim = book.operation(lambda session: "work", probe=lambda session: "probe")
    book.carry_out(book.insert(1), claim)
    assert claim.result == "work"


async def test_what_is_put_off_until_the_commit_happens_after_it_or_never(book: Book) -> None:
    done: list[str] = []

    def good(session: Session) -> object:
        session.after_commit(lambda: done.append("good" if not book.connection.in_transaction else "early"))
        return None

    def bad(session: Session) -> object:
        session.after_commit(lambda: done.append("bad"))
        raise LookupError

    book.carry_out(book.operation(good), book.operation(bad))
    assert done == ["good"]


async def test_the_counters_are_read_and_written_once_in_a_transaction(book: Book) -> None:
    def work(session: Session) -> object:
        return session.next_change(), session.instant()

    batch = [book.operation(work) for _ in range(3)]
    book.carry_out(*batch)
    assert [operation.result for operation in batch] == [(1, 5.0), (2, 5.0), (3, 5.0)]
    assert (book.count("SELECT"), book.count("UPDATE")) == (1, 1)


async def test_counters_that_were_rolled_back_are_read_anew(book: Book) -> None:
    def bad(session: Session) -> object:
        session.next_change()
        raise LookupError

    good = book.operation(lambda session: session.next_change())
    book.carry_out(book.operation(bad), good)
    assert good.result == 1


async def test_a_thread_that_is_torn_out_leaves_no_transaction(book: Book) -> None:
    def work(session: Session) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(book.session, [book.insert(1), book.operation(work)], "app.db")
    assert not book.connection.in_transaction
    assert book.rows() == []


async def test_writers_that_wait_together_share_commits(stage: Stage) -> None:
    statements: list[str] = []
    await stage.at_connection(lambda connection: connection.set_trace_callback(statements.append))
    await asyncio.gather(*(stage.trigger() for _ in range(200)))
    await stage.at_connection(lambda connection: connection.set_trace_callback(None))
    assert 0 < statements.count("COMMIT") < 50
    assert len(await stage.ids()) == 200


async def test_a_bad_write_among_good_ones_fails_alone_in_the_store(stage: Stage) -> None:
    calls = [stage.trigger(f"{number}", job_name="\udc80" if number == 7 else "job") for number in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, Exception)] == [7]
    assert len(await stage.ids()) == 19


async def test_a_commit_of_another_process_is_told_and_our_own_is_not(another: OpenAnother) -> None:
    ours, theirs = await another(), await another()
    told = asyncio.Event()
    ours.store.watch(told.set)
    for _ in range(20):
        await ours.trigger()
        await ours.ids()
    assert not told.is_set()
    await theirs.trigger()
    await asyncio.wait_for(told.wait(), 5)
