"""Between the texts of a form and the values of an input, both ways."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from durably_web.forms.fields import Field, Group, Part

Texts = Mapping[str, str]
"""What stands in each field, by its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a form says."""

    value: object
    """As JSON values, not yet checked against the job."""
    problems: Mapping[str, str]
    """What could not even be read, by the path of its field."""


class _Nothing:
    """No value was given."""


_NOTHING = _Nothing()


def fill(parts: Sequence[Part], value: object, *, has_value: bool) -> Texts:
    """The texts that show a value; without one: those of the defaults."""
    texts: dict[str, str] = {}
    for part in parts:
        if isinstance(part, Group):
            texts |= fill(part.members, value, has_value=has_value)
            continue
        found = _at(value, part.path) if has_value else _NOTHING
        if isinstance(found, _Nothing):
            found = part.default if part.has_default else _NOTHING
        texts[part.path] = _text(part, found)
    return texts


def read(parts: Sequence[Part], texts: Texts) -> Filled:
    """The value that the texts mean. A field that was not sent, or left empty, is left out where it may be."""
    problems: dict[str, str] = {}

    def read_field(field: Field) -> object:
        text = texts.get(field.path)
        try:
            return _NOTHING if text is None else _value(field, text)
        except ValueError as error:
            problems[field.path] = str(error)
            return _NOTHING

    if len(parts) == 1 and isinstance(parts[0], Field) and not parts[0].path:
        value = read_field(parts[0])
        return Filled(value=None if isinstance(value, _Nothing) else value, problems=problems)
    return Filled(value=_members(parts, read_field) if parts else None, problems=problems)


def _members(parts: Sequence[Part], read_field: Callable[[Field], object]) -> dict[str, object]:
    values: dict[str, object] = {}
    for part in parts:
        name = part.path.rpartition(".")[2]
        value = _members(part.members, read_field) if isinstance(part, Group) else read_field(part)
        if not isinstance(value, _Nothing):
            values[name] = value
    return values


def _value(field: Field, text: str) -> object:
    """What the text of one field means.

    Raises:
        ValueError: It cannot be read; says why.
    """
    text = text.replace("\r\n", "\n")
    if field.kind == "lines":
        return _lines(field, text)
    if not text.strip() and field.kind not in {"text", "textarea", "password"}:
        return _empty(field)
    if not text and not field.is_required:
        return _empty(field)
    return _scalar(field, text)


def _empty(field: Field) -> object:
    return None if field.is_nullable else _NOTHING


def _lines(field: Field, text: str) -> object:
    if not text.strip() and field.is_nullable:
        return None
    item = cast("Field", field.item)
    return [_scalar(item, line.strip()) for line in text.split("\n") if line.strip()]


def _scalar(field: Field, text: str) -> object:
    match field.kind:
        case "integer" | "number":
            return _number(text)
        case "decimal":
            # As text: a number of JSON need not keep all its digits.
            return text.strip()
        case "checkbox":
            return text in {"true", "on"}
        case "select" | "json":
            return _json(text)
        case "datetime-local":
            # The browser's field knows no zone; the form says that it means UTC.
            return text if text.endswith("Z") or "+" in text else f"{text}Z"
        case _:
            return text


def _number(text: str) -> object:
    # What is no number is left to pydantic, whose words are better.
    try:
        return int(text)
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            return text
        return number if number - number == 0 else text


def _json(text: str) -> object:
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        raise ValueError("This is no JSON") from None


def _text(field: Field, value: object) -> str:
    """How a value stands in a field."""
    if isinstance(value, _Nothing) or (value is None and (field.is_nullable or field.kind != "json")):
        return ""
    match field.kind:
        case "checkbox" | "select":
            return json.dumps(value)
        case "lines" if isinstance(value, list):
            return "\n".join(map(_plain, cast("list[object]", value)))
        case "json":
            return json.dumps(value, indent=2, ensure_ascii=False)
        case "datetime-local":
            return _without_zone(str(value))
        case _:
            return _plain(value)


def _without_zone(text: str) -> str:
    for zone in ("Z", "+00:00"):
        text = text.removesuffix(zone)
    return text


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _at(value: object, path: str) -> object:
    for name in path.split(".") if path else ():
        if not isinstance(value, dict) or name not in value:
            return _NOTHING
        value = cast("dict[str, object]", value)[name]
    return value
