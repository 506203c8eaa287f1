"""What must be the same on every replay: the present, ids, random numbers."""

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from datetime import datetime
from hashlib import sha256
from typing import cast
from uuid import UUID, uuid5

from durably.codec import Codec, codec_for
from durably.naming import StepNames, call_site

INSTANT: Codec[object] = codec_for(cast("object", datetime))
DERIVED = UUID("9d2b6c52-2f0e-5a55-8f3c-6f6f4b1a7e10")
"""The namespace of what is made of a run, its link and a name."""


def uuid_of(origin: str, place: str) -> UUID:
    """The id that belongs to this place."""
    return uuid5(DERIVED, f"{origin}/{place}")


def random_of(origin: str, place: str) -> float:
    """The number in [0, 1) that belongs to this place, with 53 bits."""
    digest = sha256(f"{DERIVED}/{origin}/{place}".encode()).digest()
    return (int.from_bytes(digest[:7], "big") >> 3) / (1 << 53)


class StepValues(StepNames):
    """Values for a job's own code, between its steps."""

    def now(self, name: str, /) -> Coroutine[object, object, datetime]:
        """The present, in UTC; on every replay the same instant again.

        Args:
            name: Unique in the run, like a step's.
        """

        async def read() -> datetime:
            return self._now()

        return cast(
            "Coroutine[object, object, datetime]",
            self._run(self._place(name), read, INSTANT, call_site()),
        )

    def uuid(self, name: str, /) -> UUID:
        """An id made of the run's id and this name: the same on every replay. Writes nothing.

        Args:
            name: Unique in the run, like a step's.
        """
        place = self._place(name)
        self._enter(place, call_site())
        return uuid_of(self._origin, place)

    def random(self, name: str, /) -> float:
        """A number in [0, 1) made of the run's id and this name: the same on every replay. Writes nothing.

        For a whole sequence: `random.Random(step.random("seed"))`. Not for secrets.

        Args:
            name: Unique in the run, like a step's.
        """
        place = self._place(name)
        self._enter(place, call_site())
        return random_of(self._origin, place)

    @property
    @abstractmethod
    def _origin(self) -> str:
        """What is the same on every replay, and another one in another run or link."""

    @abstractmethod
    def _now(self) -> datetime: ...

    @abstractmethod
    async def _run(
        self, place: str, body: Callable[[], object], codec: Codec[object], call_site: str
    ) -> object: ...
