"""Exceptions as text: what is kept of a failure."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import cast

from durably.errors import MapFailed, StepFailed
from durably.models import RunError

LONGEST_MESSAGE = 16_384
LONGEST_TRACEBACK = 65_536

_OUR_FOLDER = str(Path(__file__).parent)


def describe(error: BaseException) -> RunError:
    """The failure as it is stored: type, message and traceback, never local variables.

    A `StepFailed` is described by its original exception, or by what was recorded of it: so a run
    that meets its failure again on a replay ends with the same words.
    """
    steps = tuple(dict.fromkeys(failure.step_name for failure in _step_failures(error, set())))
    if isinstance(error, StepFailed) and error.__cause__ is not None:
        error = error.__cause__
    elif isinstance(error, StepFailed) and not isinstance(error, MapFailed):
        return RunError(type=error.error_type, message=error.message, traceback=error.traceback, steps=steps)
    return RunError(
        type=type_name(error),
        message=plain_text(_message(error)[:LONGEST_MESSAGE]),
        traceback=plain_text(_traceback(error)),
        steps=steps,
    )


def type_name(error: BaseException) -> str:
    """The exception's class, qualified by its module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def plain_text(text: str) -> str:
    r"""Text that every database takes: lone surrogates, which have no UTF-8, are written as `\udc80`."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unprintable:  # noqa: BLE001 - any code may stand in a __str__
        return f"(its message cannot be printed: {type_name(unprintable)})"


def _traceback(error: BaseException) -> str:
    """The traceback from the user's first frame on; the end is what is kept of a very long one."""
    try:
        lines = traceback.format_exception(type(error), error, _skip_ours(error.__traceback__))
    except Exception:  # noqa: BLE001 - as above
        # An exception whose __str__ raises must not hide where it came from.
        lines = [*traceback.format_tb(error.__traceback__), type_name(error)]
    text = "".join(lines)
    return text if len(text) <= LONGEST_TRACEBACK else "…" + text[-LONGEST_TRACEBACK:]


def _skip_ours(frames: TracebackType | None) -> TracebackType | None:
    first = frames
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OUR_FOLDER):
        first = first.tb_next
    return first or frames


def _step_failures(error: BaseException | None, seen: set[int]) -> Iterator[StepFailed]:
    """Every step failure that this exception is, contains, or was raised from."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    if isinstance(error, MapFailed):
        for failure in error.failures:
            yield from _step_failures(failure, seen)
        return
    if isinstance(error, StepFailed):
        yield error
        return
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _step_failures(part, seen)
    yield from _step_failures(error.__cause__, seen)
    if not error.__suppress_context__:
        yield from _step_failures(error.__context__, seen)
