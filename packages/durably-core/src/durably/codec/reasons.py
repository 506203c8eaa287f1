"""Why a value does not fit: pydantic's errors as places and reasons, never as values."""

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, from_json, to_json

from durably.codec.difference import NOT_FINITE, Difference, kind_of, not_finite, parts_of, path_step

_TOO_DEEP = "it is nested too deeply"
_LISTED = 10
_NO_JSON: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "it holds half of a surrogate pair, which is no character"),
    (bytes, "its bytes are not UTF-8; encode them as text, e.g. base64"),
    (int, "it has too many digits"),
    (float, NOT_FINITE),
    ((list, tuple, dict), _TOO_DEEP),
)
_SHAPES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    NoneType: "null",
}


def why(error: Exception, value: object) -> Difference:
    """Where and why `value` cannot go to text and back, after an attempt ended in `error`."""
    try:
        if isinstance(error, PydanticSerializationError):
            return _culprit(value)
        if isinstance(error, ValidationError):
            return _unreadable(error, value)
    except RecursionError as deeper:
        error = deeper
    return "", _TOO_DEEP if isinstance(error, RecursionError) else f"its own code raised {kind_of(error)}"


def _culprit(value: object, above: tuple[int, ...] = ()) -> Difference:
    """The smallest part that has no JSON form by itself, where pydantic says only that there is one."""
    if id(value) in above:
        return "", "it contains itself"
    for step, part in parts_of(value):
        if not_finite(part) or not _is_json(part):
            path, reason = _culprit(part, (*above, id(value)))
            return step + path, reason
    reasons = (reason for kinds, reason in _NO_JSON if isinstance(value, kinds))
    return "", next(reasons, f"{kind_of(value)} has no JSON form")


def _is_json(part: object) -> bool:
    try:
        from_json(to_json(part))
    except (PydanticSerializationError, ValueError, RecursionError):
        return False
    return True


def _unreadable(error: ValidationError, value: object) -> Difference:
    """Where and why the text of `value` does not read back as its type."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":  # deeper, or longer numbers, than the reader takes
        return _culprit(value)
    if first["type"] == "missing":
        path, _ = _follow(value, first["loc"][:-1])
        return path + path_step(first["loc"][-1]), "it is left out of the JSON, and does not come back"
    path, part = _follow(value, first["loc"])
    if not_finite(part):
        return path, NOT_FINITE
    return path, f"{kind_of(part)} does not come back: {_reason(first, stored=True)}"


def _follow(value: object, loc: Sequence[int | str]) -> tuple[str, object]:
    """The part that `loc` leads to, and its path; pydantic puts names of a union's members between."""
    path = ""
    for key in loc:
        if isinstance(value, dict):
            value = _as_read(cast("dict[object, object]", value))
        parts = dict(parts_of(value))
        if path_step(key) in parts:
            path, value = path + path_step(key), parts[path_step(key)]
    return path, value


def _as_read(value: dict[object, object]) -> dict[object, object]:
    """The same items under the keys that the text has for them: a date's is a string there."""
    try:
        keys: list[object] = list(from_json(to_json(dict.fromkeys(value))))
    except PydanticSerializationError:
        return value
    return dict(zip(keys, value.values(), strict=False))


def explain(error: ValidationError, *, stored: bool) -> tuple[Mapping[str, str], str]:
    """The reasons by place, dotted ("" is the value itself), and a line that gives all of them."""
    errors = error.errors()
    places = [".".join(map(str, one["loc"])) for one in errors]
    reasons = [_reason(one, stored=stored) for one in errors]
    by_place: dict[str, str] = {}
    for place, reason in zip(places, reasons, strict=True):
        by_place[place] = f"{by_place[place]}; {reason}" if place in by_place else reason
    lines = [f"{place or 'the value'}: {reason}" for place, reason in zip(places, reasons, strict=True)]
    more = f"; and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return by_place, "; ".join(lines[:_LISTED]) + more


def _reason(error: ErrorDetails, *, stored: bool) -> str:
    message, given, context = error["msg"], cast("object", error["input"]), error.get("ctx", {})
    if error["type"] in {"value_error", "assertion_error"} or "url" not in error:
        # The words of the job's author, kept unless they quote the input.
        quotable = [
            str(part) for _, part in [("", given), *parts_of(given)] if isinstance(part, (str, int, float))
        ]
        if stored or any(len(text) > 2 and text in message for text in quotable):
            message = "refused by its validator"
    elif "tag" in context:
        message = f"the tag {context['discriminator']} should be one of {context['expected_tags']}"
    elif "error" in context:  # pydantic's details, which may quote the input
        message = message.replace(str(context["error"]), "").rstrip(",: ")
    if stored and error["type"] not in {"missing", "json_invalid"}:
        message += f" (found {_SHAPES.get(type(given), kind_of(given))})"
    return message
