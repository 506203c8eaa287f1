"""Noticing that one process works on one store twice, which is nearly always a mistake."""

import os
import warnings
from collections import defaultdict
from collections.abc import Hashable
from typing import cast
from weakref import WeakSet

_settled: defaultdict[Hashable, WeakSet[object]] = defaultdict(WeakSet)
_warned: set[Hashable] = set()


def place_of(store: object, *, process_id: int) -> Hashable:
    """What two instances on the same store have in common. A database in memory is its owner's own.

    With the process, because a forked child inherits this module as it is, but no worker.
    """
    if not isinstance(store, str | os.PathLike):
        return process_id, id(store)
    place = os.fspath(cast("os.PathLike[str]", store))
    path = place.removeprefix("sqlite://")
    if path != place:
        path = path.removeprefix("/")
    return process_id, object() if path in {"", ":memory:"} else os.path.realpath(path)


def settle_at(place: Hashable, worker: object) -> None:
    """Note that somebody works there, and warn, once, if somebody else does already."""
    others = _settled[place] - {worker}
    if others and place not in _warned:
        _warned.add(place)
        warnings.warn(
            f"{len(others) + 1} started Durably instances share one store in this process: each has its own "
            "slots and threads, and hears only its own events. Share one instance (is its module imported "
            "twice, or an instance made per request?), or give the others worker=False",
            RuntimeWarning,
            stacklevel=3,
        )
    _settled[place].add(worker)


def leave(place: Hashable, worker: object) -> None:
    """Note that somebody works there no more."""
    _settled[place].discard(worker)
    if not _settled[place]:
        del _settled[place]
        _warned.discard(place)
