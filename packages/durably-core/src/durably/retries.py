"""Whether to try again, and when: pure."""

import builtins
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import TypeAlias, cast

from durably.errors import (
    ConfigurationError,
    Fatal,
    MapFailed,
    NotStorableError,
    PayloadTooLargeError,
    RetryAfter,
    StepError,
    StepFailed,
    StoredValueError,
)
from durably.models import Seconds

MOST_ATTEMPTS = 10_000

Retryable: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which failures are worth another attempt: by type, or by what a function says of them."""

FINAL: tuple[type[Exception], ...] = (
    Fatal,
    ConfigurationError,
    NotStorableError,
    PayloadTooLargeError,
    StepError,
    StoredValueError,
)
"""Never tried again: it said so, the effect is done already, or the code would fail in the same way."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try, and how long to wait in between.

    Before attempt n + 1 it waits `delay * factor ** (n - 1)` seconds, at most `max_delay`; with
    `jitter` between half of that and all of it. `RetryAfter` sets the wait, `Fatal` ends it all.

    What counts is failures: an attempt that was cut off by a crash, or by its worker's stop, is
    begun again and not charged.

    Args:
        attempts: How often at most, the first time included; 1 to 10,000.
        delay: The first wait; seconds or a timedelta, 0 for none.
        factor: By how much each wait is longer than the one before; at least 1.
        max_delay: The longest wait; at least `delay`.
        jitter: Whether to make waits differ at random, so that many runs do not come back at once.
        on: The exceptions worth another attempt: a type, several, or a function that says so.

    Raises:
        ConfigurationError: One of them cannot be used; says what is allowed.
    """

    attempts: int
    _: KW_ONLY
    delay: Seconds = 1.0
    factor: float = 2.0
    max_delay: Seconds = 60.0
    jitter: bool = True
    on: Retryable = Exception

    def __post_init__(self) -> None:
        if not _is_whole(self.attempts) or not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ConfigurationError(
                f"attempts must be a whole number from 1 to {MOST_ATTEMPTS}, not {self.attempts!r}"
            )
        delay, longest = _wait(self.delay, "delay"), _wait(self.max_delay, "max_delay")
        if delay > longest:
            raise ConfigurationError(
                f"delay ({delay:g} s) must not be above max_delay ({longest:g} s); give a longer max_delay"
            )
        if not _is_number(self.factor) or not 1 <= self.factor < math.inf:
            raise ConfigurationError(f"factor must be a number from 1 on, not {self.factor!r}")
        if not _is_retryable(self.on):
            raise ConfigurationError(
                "on must be an exception type, a tuple of them, or a function that takes the exception "
                f"and answers whether to try again, not {self.on!r}"
            )


def as_retry(value: object) -> Retry | None:
    """A `Retry`, or a bare number of attempts.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is None or isinstance(value, Retry):
        return value
    if not _is_whole(value):
        raise ConfigurationError(f"retry must be a Retry or a whole number of attempts, not {value!r}")
    return Retry(cast("int", value))


def delay_after(retry: Retry, failures: int, *, chance: float) -> float:
    """Seconds to wait after so many failures.

    Args:
        retry: The rule.
        failures: From 1.
        chance: A random number in [0, 1), for the jitter.
    """
    delay, longest = _wait(retry.delay, "delay"), _wait(retry.max_delay, "max_delay")
    try:
        wait = min(longest, delay * retry.factor ** (failures - 1))
    except OverflowError:
        wait = longest
    return wait * (0.5 + chance / 2) if retry.jitter else wait


def wait_before_next(retry: Retry | None, error: Exception, failures: int, *, chance: float) -> float | None:
    """Seconds until the next attempt; None: there is none.

    Of a failure that has several (a group, a step that failed) each must be worth another attempt.

    Args:
        retry: The rule, if there is one.
        error: The latest failure.
        failures: How many there were, this one included.
        chance: A random number in [0, 1), for the jitter.
    """
    if retry is None or failures >= retry.attempts:
        return None
    failed = list(_parts(error))
    if not all(_is_worth_it(one, retry.on) for one in failed):
        return None
    asked = [one.seconds for one in failed if isinstance(one, RetryAfter)]
    return max(asked) if asked else delay_after(retry, failures, chance=chance)


def _parts(error: BaseException) -> Iterator[BaseException]:
    """What failed: the members of a group, the original exception of a step where it is at hand."""
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _parts(part)
    elif isinstance(error, MapFailed):
        for failure in error.failures:
            yield from _parts(failure)
    elif isinstance(error, StepFailed) and error.__cause__ is not None:
        yield from _parts(error.__cause__)
    else:
        yield error


def _is_worth_it(error: BaseException, on: Retryable) -> bool:
    # Of a replayed failure only the name of its type is left.
    kind = _class_named(error.error_type) if isinstance(error, StepFailed) else type(error)
    if not isinstance(error, Exception) or (kind is not None and issubclass(kind, FINAL)):
        return False
    if isinstance(error, RetryAfter):
        return True
    if isinstance(on, type | tuple):
        # In doubt: yes. Attempts are bounded.
        return kind is None or issubclass(kind, on) or isinstance(error, on)
    return bool(on(error))


def _class_named(name: str) -> type[BaseException] | None:
    """The exception type of this qualified name, if its module is loaded."""
    parts = name.split(".")
    for size in range(len(parts)):
        found: object = sys.modules.get(".".join(parts[:size])) if size else builtins
        for part in parts[size:]:
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_retryable(on: object) -> bool:
    if isinstance(on, tuple):
        kinds = cast("tuple[object, ...]", on)
        return bool(kinds) and all(_is_exception(kind) for kind in kinds)
    return _is_exception(on) if isinstance(on, type) else callable(on)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _wait(value: Seconds, what: str) -> float:
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_number(number) or not 0 <= number < math.inf:
        raise ConfigurationError(
            f"{what} must be a number of seconds or a timedelta, not negative, not {value!r}"
        )
    return float(number)
