"""Carrying out verbs in batches: all writes that wait share one transaction and one sync.

`carry_out` knows nothing of threads: it takes a session and a batch, and leaves in each operation
its own answer. A `Desk` puts it on a lane and takes the answers back to the loop.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from durably.environment import Environment, Lane
from durably.errors import (
    NotADatabaseError,
    StoreBusyError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from durably.stores.sqlite.connection import explain
from durably.stores.sqlite.session import Session

T = TypeVar("T")

# Trouble that meets every write alike. A full disk is not among it: a smaller write may still find room.
_ENDLESS = (StoreBusyError, StoreUnavailableError, StoreReadOnlyError, NotADatabaseError)


@dataclass(slots=True, eq=False)
class Operation(Generic[T]):
    """A verb on its way through the database, and whoever waits for its answer."""

    future: "asyncio.Future[T] | Future[T]"
    """Of the loop, or of a caller that does not wait for the loop."""
    work: Callable[[Session], T]
    reads: bool = False
    """The work needs no transaction."""
    probe: Callable[[Session], T | None] | None = None
    """A read which spares the transaction: its answer is the verb's, None means that there is work to do."""
    result: Any = None
    error: Exception | None = None

    def answer(self) -> None:
        """Wake whoever waits. A caller that was cancelled meanwhile is passed over."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def carry_out(session: Session, batch: Sequence[Operation[Any]], path: str) -> None:
    """Do a batch of operations in order; one transaction if any of them has to write.

    When one of them fails unexpectedly, everything is rolled back and done once more, one by one,
    so that a bad write fails alone. (A savepoint for each would cost every good batch as much as
    the writes themselves.)
    """
    if all(operation.reads or operation.probe for operation in batch):
        batch = _without_transaction(session, batch, path)
    if batch:
        _in_one_transaction(session, batch, path)


def _without_transaction(
    session: Session, batch: Sequence[Operation[Any]], path: str
) -> Sequence[Operation[Any]]:
    """Answer what needs no transaction; returns the rest."""
    session.tell_time()
    rest: list[Operation[Any]] = []
    for operation in batch:
        try:
            if operation.probe is None:
                operation.result = operation.work(session)
            else:
                operation.result = operation.probe(session)
                if operation.result is None:
                    rest.append(operation)
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller gets it
            operation.error = explain(error, path)
    return rest


def _in_one_transaction(session: Session, batch: Sequence[Operation[Any]], path: str) -> None:
    try:
        session.begin()
        for operation in batch:
            operation.result = operation.work(session)
        session.commit()
    except Exception as error:  # noqa: BLE001 - as above
        failure = error
    else:
        return
    finally:
        # Also when the thread is torn out of here by something that is no Exception.
        session.rollback()
    if len(batch) == 1:
        batch[0].error = explain(failure, path)
        return
    for position, operation in enumerate(batch):
        _in_one_transaction(session, [operation], path)
        if isinstance(operation.error, _ENDLESS):
            # The database is in trouble, not this write: the others need not knock as well.
            for other in batch[position + 1 :]:
                other.error = explain(failure, path)
            return


class Desk:
    """A connection of its own on a lane of its own, and the way back to the loop."""

    def __init__(
        self,
        environment: Environment,
        name: str,
        session: Session,
        path: str,
        *,
        damaged: Callable[[NotADatabaseError], None],
        idle: Callable[[], bool] | None = None,
    ) -> None:
        self.session = session
        self.broken: StoreError | None = None
        """Set once the database is beyond help; every later operation fails with it."""
        self._damaged = damaged
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._lane: Lane[Operation[Any]] = environment.lane(name, self._handle, idle=idle)

    def submit(
        self,
        work: Callable[[Session], T],
        *,
        reads: bool = False,
        probe: Callable[[Session], T | None] | None = None,
    ) -> "asyncio.Future[T]":
        """Queue an operation. It happens even if nobody waits for the future any more."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._lane.submit(Operation(future, work, reads, probe))
        return future

    def submit_aside(self, work: Callable[[Session], T]) -> "Future[T]":
        """Queue an operation from any thread; its future is done on the lane's own thread."""
        future: Future[T] = Future()
        self._lane.submit(Operation(future, work))
        return future

    def tell(self, listener: Callable[[], None]) -> None:
        """Call it on the loop; not at all once the loop is closed."""
        # A program may close its loop and leave us open: nobody is there to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(listener)

    def close(self, *, finally_do: Callable[[], None] = lambda: None) -> "Future[None]":
        """Do what is queued, then close the connection; done once that is done."""
        closed: Future[None] = Future()

        def close(_: "Future[None]") -> None:
            self.session.connection.close()
            finally_do()
            closed.set_result(None)

        self._lane.close().add_done_callback(close)
        return closed

    def _handle(self, batch: list[Operation[Any]]) -> None:
        if self.broken is None:
            carry_out(self.session, batch, self._path)
            for operation in batch:
                if isinstance(operation.error, NotADatabaseError):
                    self._damaged(operation.error)
                    break
        else:
            for operation in batch:
                operation.error = type(self.broken)(str(self.broken))

        def answer() -> None:
            for operation in batch:
                operation.answer()

        for operation in batch:
            if isinstance(operation.future, Future):
                operation.answer()
        self.tell(answer)
