"""Trying again while the database is in trouble."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from durably.environment import Environment
from durably.errors import StoreBusyError, StoreError, StoreFullError, StoreUnavailableError

T = TypeVar("T")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0

PASSING: tuple[type[StoreError], ...] = (StoreBusyError, StoreFullError, StoreUnavailableError)
"""Trouble that may pass by itself."""


def pause_after(failures: int, environment: Environment) -> float:
    """How long to wait after so many failures in a row: doubling, capped, jittered by a half."""
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16))
    return longest * (0.5 + environment.random() / 2)


async def insist(
    call: Callable[[], Awaitable[T]],
    *,
    until: Callable[[], float],
    environment: Environment,
    report: Callable[[StoreError], None],
) -> T:
    """Call until it succeeds, or until the monotonic instant that `until` answers.

    Only for calls that may be repeated after an error of unknown outcome, as every store verb.

    Raises:
        StoreError: The trouble does not pass by itself, or not in time.
    """
    failures = 0
    while True:
        try:
            return await call()
        except PASSING as error:
            failures += 1
            report(error)
            pause = pause_after(failures, environment)
            if environment.monotonic() + pause >= until():
                raise
        await environment.sleep(pause)
