"""Outlines of stored values and of expected types: fields and kinds, never a value.

Both are written alike, so that they can be held against each other: `{rows: str}`, `{rows: int, label?: str}`.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeAlias, cast

from pydantic_core import from_json

Schema: TypeAlias = Mapping[str, Any]

LONGEST = 300
"""Characters of an outline."""
_DEEPEST = 5
_MOST = 12
_MORE = "…"
_NAMES: Mapping[str, str] = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "object": "dict",
    "array": "list",
}


def shape_of_text(text: str, *, first: Container[str] = ()) -> str:
    """The outline of a stored text.

    Args:
        text: JSON.
        first: Fields to begin with, at every level: those that an outline must not cut off.
    """
    try:
        value = from_json(text)
    except ValueError:
        return "no JSON"
    return _cut(_of_value(value, first, 0))


def shape_of_schema(schema: Schema, *, first: Container[str] = ()) -> str:
    """The outline of what a JSON schema describes; `?` marks fields that may be left out.

    Args:
        schema: As pydantic makes it.
        first: As above.
    """
    return _cut(_Expected(schema.get("$defs", {}), first).outline(schema, ()))


def _of_value(value: object, first: Container[str], depth: int) -> str:
    if isinstance(value, dict):
        if depth == _DEEPEST:
            return "{…}" if value else "{}"
        fields = {
            key: _of_value(part, first, depth + 1) for key, part in cast("dict[str, object]", value).items()
        }
        return _object(fields, first)
    if isinstance(value, list):
        if depth == _DEEPEST:
            return "[…]" if value else "[]"
        return f"[{_either(_of_value(part, first, depth + 1) for part in cast('list[object]', value))}]"
    return "None" if value is None else type(value).__name__


class _Expected:
    """The outlines of one schema and its definitions."""

    def __init__(self, definitions: Mapping[str, Schema], first: Container[str]) -> None:
        self._definitions = definitions
        self._first = first

    def outline(self, schema: Schema, above: tuple[str, ...]) -> str:
        """The outline of a part, that stands within these definitions."""
        match schema:
            case {"$ref": str(reference)}:
                outline = self._defined(reference.rpartition("/")[2], above)
            case {"const": constant}:
                outline = ascii(constant)
            case {"enum": constants}:
                outline = _either(map(ascii, constants))
            case {"anyOf": choices} | {"oneOf": choices}:
                outline = _either(self.outline(choice, above) for choice in choices)
            case {"properties": _}:
                outline = self._object(schema, above)
            case {"additionalProperties": values} if values and values is not True:
                outline = f"{{str: {self.outline(values, above)}}}"
            case {"prefixItems": places}:
                outline = f"[{', '.join(self.outline(place, above) for place in places)}]"
            case {"items": item} if item:
                outline = f"[{self.outline(item, above)}]"
            case {"type": str(name)}:
                outline = _NAMES[name] + (f" ({schema['format']})" if "format" in schema else "")
            case _:
                outline = "any"
        return outline

    def _defined(self, name: str, above: tuple[str, ...]) -> str:
        if name in above or len(above) == _DEEPEST:
            return name
        return self.outline(self._definitions[name], (*above, name))

    def _object(self, schema: Schema, above: tuple[str, ...]) -> str:
        properties: Mapping[str, Schema] = schema["properties"]
        fields = {name: self.outline(part, above) for name, part in properties.items()}
        return _object(fields, self._first, optional=fields.keys() - schema.get("required", ()))


def _object(fields: Mapping[str, str], first: Container[str], optional: Container[str] = ()) -> str:
    """An object's fields, the important ones first; names that look like data are left out."""
    named = sorted((name for name in fields if _is_name(name)), key=lambda name: name not in first)
    if fields and not named:
        return f"{{str: {_either(fields.values())}}}"
    parts = [f"{name}{'?' if name in optional else ''}: {fields[name]}" for name in named[:_MOST]]
    if len(parts) < len(fields):
        parts.append(_MORE)
    return f"{{{', '.join(parts)}}}"


def _either(outlines: Iterable[str]) -> str:
    different = list(dict.fromkeys(outlines))
    return " | ".join(different[:_MOST] + [_MORE] * (len(different) > _MOST))


def _is_name(key: str) -> bool:
    return key.isidentifier() and key.isascii()


def _cut(outline: str) -> str:
    return outline if len(outline) <= LONGEST else outline[: LONGEST - len(_MORE)] + _MORE
