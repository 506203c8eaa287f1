"""What the author of an application got wrong, in words that say what to do."""

from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches
from types import UnionType

from durably import ConfigurationError, JobHandle, Run

MOST_SHOWN = 80


def shown(value: object) -> str:
    """A value as it is told in an error, with what may have been meant."""
    text = repr(value)
    text = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
    match value:
        case JobHandle():
            return f"{text} (its name is {value.name!r})"
        case Run():
            return f"{text} (its id is {value.id!r})"
        case date():
            return f"{text} (its isoformat() is {value.isoformat()!r})"
        case _:
            return text


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, if something is near."""
    near = get_close_matches(name.replace("_", "-"), known, n=1) or get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def expect(name: str, value: object, kind: type | UnionType, wanted: str) -> None:
    """See that something is of the kind that it must be.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {wanted}; not {shown(value)}")


def wrong_answer(name: str, answer: object, wanted: str) -> ConfigurationError:
    """The error of a function that answered what it may not."""
    return ConfigurationError(f"{name} must answer {wanted}; it answered {shown(answer)}")
