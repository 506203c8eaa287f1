"""The boundary between a process and its store: where a history has its points.

Every word that a simulated worker says to its store passes here, and may be struck by a fault before
it is said or after it was carried out. The real store is behind it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from typing_extensions import override

from durably.spi import (
    Claimed,
    Completed,
    Enqueued,
    Failed,
    Settled,
    SqliteStore,
    StepRecord,
    Store,
    Wait,
)
from durably_testing.interposition import Interposed, Verb
from durably_testing.processes import Process

READS = frozenset({
    "open", "migrate", "close", "check", "unfinished_children", "orphans", "get_run", "list_runs", "list_changes",
    "count_runs", "count_by_status", "list_steps", "list_logs", "list_workers", "list_links", "last_logs", "search_runs", "news", "follow", "survey", "facts",
})  # fmt: skip
"""Verbs that change nothing, and those around the store's life: no points."""


@dataclass(slots=True)
class Word:
    """A word that a worker said to its store: a point of the history."""

    number: int
    process: str
    verb: str
    about: str
    """What the worker was doing, for a reader."""
    has_moved: bool = False
    """Whether it changed anything; an idle look for work does not."""


class Listener(Protocol):
    """Who hears every word, before and after."""

    async def before(self, process: Process, verb: str, args: Sequence[Any]) -> Word | None:
        """A process is about to say this; None: it is of no account."""
        ...

    async def after(self, process: Process, word: Word, args: Sequence[Any], answer: object) -> None:
        """The store has carried it out, and its answer is about to arrive."""
        ...

    def watches(self, process: Process, changed: Callable[[], None]) -> None:
        """The process wants to be told when another one has written something."""
        ...


def guarded(store: SqliteStore, process: Process, listener: Listener) -> Store:
    """The store as a simulated process sees it."""
    return cast("Store", _Boundary(store, process, listener))


class _Boundary(Interposed):
    def __init__(self, store: SqliteStore, process: Process, listener: Listener) -> None:
        super().__init__(store)
        self._process = process
        self._listener = listener

    def watch(self, changed: Callable[[], None], /) -> None:
        self._listener.watches(self._process, changed)

    @override
    def around(self, name: str, verb: Verb, /) -> Verb:
        if name in READS:
            return verb
        process, listener = self._process, self._listener

        async def say(*args: object, **options: object) -> object:
            word = await listener.before(process, name, args)
            answer = await verb(*args, **options)
            if word is not None:
                await listener.after(process, word, args, answer)
            return answer

        return say


async def never() -> None:
    """What a dead process waits for."""
    await asyncio.get_running_loop().create_future()


def about(verb: str, args: Sequence[Any]) -> str:
    """What a worker does when it says this, in a reader's words."""
    match args:
        case [_, StepRecord() as step, *_] if verb == "save_step":
            deed = f"the checkpoint of step {step.name!r}"
        case [_, StepRecord() as step, *_] if verb == "save_attempt":
            deed = f"the record of the failed attempt {step.attempt} at step {step.name!r}"
        case [_, waits, *_] if verb == "settle":
            deed = f"the look at {_names(waits)}"
        case [_, waits, *_] if verb == "suspend":
            deed = f"the suspension on {_names(waits)}"
        case [_, Completed() | Failed() as outcome, *_]:
            deed = f"the end of the run as {type(outcome).__name__.lower()}"
        case _:
            deed = _WORDS.get(verb, f"the verb {verb}")
    return deed


def has_moved(verb: str, args: Sequence[Any], answer: object) -> bool:
    """Whether a word changed anything that matters to the runs."""
    match answer:
        case Claimed():
            return bool(
                answer.claims or answer.parked or (verb == "bury_dead" and answer.wake_in is not None)
            )
        case Settled():
            return answer.answer == "applied"
        case Enqueued():
            return answer.conflict is None
        case int():
            return answer > 0
        case _:
            pass
    if verb in {"renew", "release", "disown"}:
        return bool(args and args[-1])
    return verb not in {"add_worker", "remove_worker", "sweep", "forget_signals"}


_WORDS = {
    "claim": "a claim",
    "finish": "the end of an attempt",
    "sweep": "a sweep",
    "hold": "the holding of runs whose threads still work",
    "forget_signals": "the forgetting of old signals",
    "note": "the writing of logs and progress",
    "renew": "a heartbeat",
    "release": "the handing back of runs",
    "disown": "the handing back of lost claims",
    "bury_dead": "the look for dead workers",
    "add_worker": "the worker's introduction",
    "remove_worker": "the worker's farewell",
    "enqueue": "a trigger",
    "cancel": "a cancellation",
    "send_signal": "a signal",
}


def _names(waits: Sequence[Wait]) -> str:
    return " and ".join(f"wait {wait.step.name!r}" for wait in waits) or "no waits"
