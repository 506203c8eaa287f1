"""Stored JSON as something to look at.

The text is read again with its numbers as they stand: a browser, and a float, would change long ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from durably_web import wording

Json: TypeAlias = "dict[str, Json] | list[Json] | str | bool | None"
Kind: TypeAlias = Literal["object", "array", "string", "number", "word"]

DEEPEST: Final = 32
"""Levels that are drawn; what lies below is one line of text."""
MOST_ITEMS: Final = 500
"""Items of one object or list that are drawn."""
LONGEST_STRING: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value in the tree."""

    kind: Kind
    text: str = ""
    """Of a leaf: as JSON. Of a branch: how many it has."""
    children: "tuple[tuple[str | None, Node], ...]" = ()
    """With their keys; those of a list have none."""
    omitted: int = 0


class _Number(str):
    """A number as it stands in the text."""

    __slots__ = ()


def tree(text: str) -> Node:
    """The values of a stored text.

    Raises:
        ValueError: It is no JSON.
    """
    return _node(_read(text), 0)


def pretty(text: str) -> str:
    """The text in lines, with its numbers unchanged; as it is if it is no JSON."""
    try:
        return "".join(_lines(_read(text), ""))
    except (ValueError, RecursionError):
        return text


def _read(text: str) -> Json:
    return cast("Json", json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number))


def _lines(value: Json, indent: str) -> list[str]:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [[inner, _quoted(key), ": ", *_lines(item, inner)] for key, item in value.items()]
    elif isinstance(value, list) and value:
        items = [[inner, *_lines(item, inner)] for item in value]
    else:
        return [_leaf(value)[1]]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    lines = [opening, "\n"]
    for number, item in enumerate(items):
        lines += item
        lines.append(",\n" if number < len(items) - 1 else "\n")
    return [*lines, indent, closing]


def _node(value: Json, depth: int) -> Node:
    if depth < DEEPEST and isinstance(value, dict):
        return _object(value, depth)
    if depth < DEEPEST and isinstance(value, list):
        return _array(value, depth)
    kind, text = _leaf(value)
    return Node(kind=kind, text=text[:LONGEST_STRING], omitted=max(0, len(text) - LONGEST_STRING))


def _object(value: Mapping[str, Json], depth: int) -> Node:
    shown = list(value.items())[:MOST_ITEMS]
    return Node(
        kind="object",
        text=wording.many(len(value), "key"),
        children=tuple((_quoted(key), _node(item, depth + 1)) for key, item in shown),
        omitted=len(value) - len(shown),
    )


def _array(value: Sequence[Json], depth: int) -> Node:
    shown = value[:MOST_ITEMS]
    return Node(
        kind="array",
        text=wording.many(len(value), "item"),
        children=tuple((None, _node(item, depth + 1)) for item in shown),
        omitted=len(value) - len(shown),
    )


def _leaf(value: Json) -> tuple[Kind, str]:
    if isinstance(value, _Number):
        return "number", str(value)
    if isinstance(value, str):
        return "string", _quoted(value)
    if value is None or isinstance(value, bool):
        return "word", json.dumps(value)
    if not value:
        return "word", "{}" if isinstance(value, dict) else "[]"
    # Too deep to draw: in one line.
    return "word", "".join(part.strip("\n") for part in _lines(value, "") if not part.isspace())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
