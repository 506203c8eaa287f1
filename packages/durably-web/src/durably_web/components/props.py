"""Components from what somebody gives them: the author of a page in Python, anybody in a URL."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from functools import cache
from inspect import Signature, signature
from typing import Any, Final, TypeVar, cast, get_args

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request

from durably import ConfigurationError
from durably_web.components.base import Component, props_of
from durably_web.mistakes import nearest, shown

C = TypeVar("C", bound=Component)

COMMON: Final = frozenset(field.name for field in fields(Component))
GREATEST: Final = 2**53
"""Of a number in a URL: no count and no position is greater, and a database knows no much greater ones."""


def from_python(component: Callable[..., C], args: Sequence[object], props: Mapping[str, object]) -> C:
    """The component that the author of a page asks for.

    Raises:
        ConfigurationError: A prop is unknown, missing, or cannot be used.
    """
    kind = _kind(component)
    known = _signature(kind)
    try:
        given = known.bind(*args, **props).arguments
    except TypeError as error:
        raise ConfigurationError(f"{kind.name}: {_misfit(known, args, props) or error}") from None
    try:
        made: C = _adapter(kind).validate_python(given)
    except PydanticValidationError as error:
        raise ConfigurationError(_refusal(kind, given, error.errors(include_url=False))) from None
    else:
        return made


def from_query(component: type[C], query: Sequence[tuple[str, str]]) -> C:
    """The component that a fragment's URL asks for.

    Raises:
        HTTPException: 400, a prop is unknown or cannot be used.
    """
    props = {prop.name: prop for prop in props_of(component)}
    values: dict[str, object] = {}
    for key, text in query:
        if key not in props:
            raise HTTPException(400, f"{component.name} has no prop {key[:50]!r}")
        if text:
            values[key] = _read(props[key], text)
            if isinstance(values[key], int) and abs(cast("int", values[key])) > GREATEST:
                raise HTTPException(400, f"{component.name}: cannot use {key}")
    try:
        made: C = _adapter(component).validate_python(values)
    except PydanticValidationError as error:
        places = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise HTTPException(400, f"{component.name}: cannot use {places}") from None
    else:
        return made


def name_of(component: Callable[..., Component]) -> str:
    """As it is called in a page."""
    return _kind(component).name


def _kind(component: Callable[..., C]) -> type[C]:
    # Type checkers see it as what is called, so that they know its props.
    return cast("type[C]", component)


@cache
def _adapter(component: type[Component]) -> TypeAdapter[Any]:
    # To build one takes half a millisecond, to use it some microseconds.
    return TypeAdapter(component)


@cache
def _signature(component: type[Component]) -> Signature:
    return signature(component)


def _misfit(known: Signature, args: Sequence[object], props: Mapping[str, object]) -> str:
    """Why these are not its props, where Python does not say what to do."""
    if args and isinstance(args[0], Request):
        return "a placeholder takes no request, since it fetches itself"
    unknown = next((name for name in props if name not in known.parameters), None)
    if unknown is None:
        return ""
    # Its own ones before those that all have.
    names = sorted(known.parameters, key=lambda name: name in COMMON)
    return f"no prop {unknown!r}{nearest(unknown, names)}; there are: {', '.join(names)}"


def _refusal(component: type[Component], given: Mapping[str, object], errors: Sequence[ErrorDetails]) -> str:
    prop = str(errors[0]["loc"][0])
    about = [one for one in errors if one["loc"][0] == prop]
    it = "it" if about[0]["input"] == given[prop] else f"{shown(about[0]['input'])} in it"
    said = dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in about)
    wanted = (
        ", or ".join(said)
        .replace("Input should be", f"{it} must be", 1)
        .replace("Input should be", "it must be")
    )
    may_be_none = any(type(None) in get_args(one.type) for one in props_of(component) if one.name == prop)
    none = ", or None" if may_be_none else ""
    return f"{component.name}: {prop} cannot be {shown(given[prop])}; {wanted}{none}"


def _read(prop: Field[Any], text: str) -> object:
    if prop.type in {str, str | None}:
        return text
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        # A literal's plain word.
        return text
