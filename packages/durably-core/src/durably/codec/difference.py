"""Is the value that comes back the one that went in? By exact type and ==, part by part."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from operator import eq
from types import NoneType
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

Difference: TypeAlias = tuple[str, str]
"""Where two values part (the path below them), and how."""

SCALARS: frozenset[type] = frozenset({NoneType, bool, int, float, str, bytes})
_SEQUENCES: tuple[type, ...] = (list, tuple, deque)
_SETS: tuple[type, ...] = (set, frozenset)
NOT_FINITE = "NaN and infinity have no JSON form"
_KEY_LENGTH = 40


def find_difference(value: object, back: object, *, tuples: bool) -> Difference | None:
    """The first place where `back` is not `value`, by exact type and ==; models are compared by their fields.

    With `tuples`, a list in the place of a tuple counts as the same.
    """
    kind, kind_back = type(value), type(back)
    if kind is not kind_back:
        # An int where a float is declared: checkers allow it, and the number is the same (or unequal, below).
        as_float = kind is int and kind_back is float
        if not as_float and not (tuples and kind is tuple and kind_back is list):
            return "", NOT_FINITE if not_finite(value) else f"{kind_of(value)} comes back as {kind_of(back)}"
    if kind in SCALARS:
        same = value == back
    elif kind is dict:  # the most frequent first
        return _in_mapping(cast("dict[object, object]", value), cast("dict[object, object]", back), tuples)
    elif isinstance(value, _SEQUENCES):
        return _in_sequence(cast("Sequence[object]", value), cast("Sequence[object]", back), tuples)
    elif isinstance(value, _SETS) and value == back:
        pairs = {item: item for item in cast("AbstractSet[object]", back)}
        items = list(cast("AbstractSet[object]", value))
        return _in_sequence(items, [pairs[item] for item in items], tuples)
    elif (fields_ := _fields_of(value)) is not None:
        return _in_mapping(fields_, _fields_of(back) or {}, tuples)
    elif isinstance(value, datetime) and isinstance(back, datetime):
        # Not by ==, which is never true for the hour that a zone's clock repeats: by wall clock and offset.
        wall, wall_back = value.replace(tzinfo=None), back.replace(tzinfo=None)
        same = wall == wall_back and value.utcoffset() == back.utcoffset()
    else:
        same = bool(value == back)
    return None if same else ("", f"{kind_of(value)} comes back changed (masked, rounded or cut)")


def _in_sequence(value: Sequence[object], back: Sequence[object], tuples: bool) -> Difference | None:
    if len(value) != len(back):
        return "", f"of {len(value)} items {len(back)} come back"
    kinds = list(map(type, value))
    # Scalars at the speed of C: a list of 100,000 numbers must not hold up the event loop.
    if SCALARS.issuperset(kinds) and kinds == list(map(type, back)) and all(map(eq, value, back)):
        return None
    names: Sequence[str] = getattr(value, "_fields", ())  # a NamedTuple's
    for index, (item, other) in enumerate(zip(value, back, strict=True)):
        if found := find_difference(item, other, tuples=tuples):
            return path_step(names[index] if names else index) + found[0], found[1]
    return None


def _in_mapping(value: Mapping[Any, object], back: Mapping[Any, object], tuples: bool) -> Difference | None:
    if value.keys() != back.keys():
        lost = [key for key in value if key not in back]
        added = [key for key in back if key not in value]
        reason = f"its key, {kind_of(lost[0])}, does not come back" if lost else "it comes back added"
        return path_step((lost or added)[0]), reason
    if {*map(type, value), *map(type, back)} != {str}:
        pairs = {key: key for key in back}
        for key in value:
            if type(key) is not type(pairs[key]):
                return path_step(key), f"its key, {kind_of(key)}, comes back as {kind_of(pairs[key])}"
    for key, item in value.items():
        other = back[key]
        if type(item) in SCALARS and type(item) is type(other) and item == other:
            continue
        if found := find_difference(item, other, tuples=tuples):
            return path_step(key) + found[0], found[1]
    return None


def _fields_of(value: object) -> Mapping[Any, object] | None:
    """What a dict, a model (with its extras and private attributes) or a dataclass holds, by key."""
    if isinstance(value, dict):
        return cast("dict[object, object]", value)
    if isinstance(value, BaseModel):
        held = value.__dict__  # cached properties live there too
        own = {name: held[name] for name in type(value).__pydantic_fields__ if name in held}
        return own | (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    return None


def parts_of(value: object) -> Iterator[tuple[str, object]]:
    """Every direct part of a value, with its step of the path; a dict's keys are parts too."""
    if isinstance(value, _SEQUENCES + _SETS):
        for index, item in enumerate(cast("Iterable[object]", value)):
            yield path_step(index), item
    for key, item in (_fields_of(value) or {}).items():
        yield path_step(key), key
        yield path_step(key), item


def path_step(key: object) -> str:
    """One step of a path: `.name`, `[3]`, `['a key']`; a key that is no scalar shows as its type."""
    if isinstance(key, str) and key.isidentifier() and key.isascii():
        return f".{key[:_KEY_LENGTH]}"
    return f"[{ascii(key)[:_KEY_LENGTH]}]" if type(key) in SCALARS else f"[{kind_of(key)}]"


def not_finite(value: object) -> bool:
    """Whether it is a float that JSON has no number for."""
    return isinstance(value, float) and not math.isfinite(value)


def kind_of(value: object) -> str:
    """How a message calls the type of a value."""
    return type_name(type(value))


def type_name(type_: object) -> str:
    """How a message calls a type or a type form."""
    return type_.__name__ if isinstance(type_, type) else str(type_).replace("typing.", "")
