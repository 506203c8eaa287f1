"""Telling what differed where the same code should have done the same again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import cast

ADVICE = (
    "Code between steps is executed again after every crash: take the time, ids and randomness from step.now, "
    "step.uuid and step.random, or from a step"
)


def parting_of(first: Sequence[str], second: Sequence[str]) -> str | None:
    """The first lines in which two traces differ; None: they do not."""
    for one, other in zip_longest(first, second, fillvalue="(nothing more)"):
        if one != other:
            return f"\n  first: {_squeezed(one)}\n  then:  {_squeezed(other)}"
    return None


def difference_of(first_json: str, second_json: str) -> str:
    """The first place in which two JSON texts differ, with both values."""
    path, first, second = _differing("$", json.loads(first_json), json.loads(second_json))
    return f"at {path}: first {_shown(first)}, then {_shown(second)}"


def _differing(path: str, first: object, second: object) -> tuple[str, object, object]:
    for place, left, right in _parts(first, second):
        if left != right:
            return _differing(f"{path}{place}", left, right)
    return path, first, second


def _parts(first: object, second: object) -> Iterator[tuple[str, object, object]]:
    """The parts of two values that stand in the same place, of two objects or two lists."""
    if isinstance(first, dict) and isinstance(second, dict):
        one, other = cast("Mapping[str, object]", first), cast("Mapping[str, object]", second)
        for key in dict.fromkeys((*one, *other)):
            yield f".{key}", one.get(key, _NOTHING), other.get(key, _NOTHING)
    elif isinstance(first, list) and isinstance(second, list):
        items = zip_longest(cast("list[object]", first), cast("list[object]", second), fillvalue=_NOTHING)
        for number, (left, right) in enumerate(items):
            yield f"[{number}]", left, right


class _Nothing:
    """What stands where there is no value."""


_NOTHING = _Nothing()


def _shown(value: object) -> str:
    text = "nothing" if value is _NOTHING else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _squeezed(line: str) -> str:
    return " ".join(line.split())
