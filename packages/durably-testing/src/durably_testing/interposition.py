"""Standing between an engine and its store: every verb passes, and may be kept from it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Literal, TypeAlias

from durably import StoreBusyError, StoreError, StoreFullError, StoreUnavailableError
from durably.spi import Store

Verb: TypeAlias = Callable[..., Awaitable[object]]

VERBS: frozenset[str] = frozenset(
    name for name in dir(Store) if iscoroutinefunction(getattr(Store, name, None))
)

Trouble: TypeAlias = Literal["error", "busy", "io", "full"]

_TROUBLES: dict[Trouble, tuple[type[StoreError], str]] = {
    "error": (StoreUnavailableError, "the store could not be reached"),
    "busy": (StoreBusyError, "another connection keeps the database locked"),
    "io": (StoreUnavailableError, "reading or writing failed; check the disk"),
    "full": (StoreFullError, "no room left on the disk"),
}


def trouble(kind: Trouble, /) -> StoreError:
    """What a store raises when it is in this trouble."""
    error, words = _TROUBLES[kind]
    return error(f"{words} (simulated)")


class Interposed(ABC):
    """A store whose verbs are said through `around`; whatever else it has is its own.

    Args:
        store: The store behind.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @abstractmethod
    def around(self, name: str, verb: Verb, /) -> Verb:
        """What is called in place of this verb."""

    def __getattr__(self, name: str) -> object:
        found: Verb = getattr(self._store, name)
        if name not in VERBS:
            return found
        verb = self.around(name, found)
        # Found once: a worker says the same words again and again.
        setattr(self, name, verb)
        return verb
