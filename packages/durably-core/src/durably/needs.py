"""What a function wants to be given, by the types of its parameters."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import get_type_hints

from durably.codec.difference import type_name
from durably.errors import ConfigurationError

BY_NAME = frozenset({Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY})


def needs_of(function: Callable[..., object], what: str, *, own: int = 0) -> Mapping[str, object]:
    """The types that a function needs, by parameter.

    Args:
        function: A job's function, or a resource's.
        what: What a message calls it, e.g. `job 'import-csv'`.
        own: How many of its first parameters are no needs.

    Raises:
        ConfigurationError: A parameter has no annotation, has a default, or cannot be given by name.
    """
    wanted = list(inspect.signature(function).parameters.values())[own:]
    if not wanted:
        return {}
    hints = hints_of(function, what)
    return {parameter.name: _type_of(parameter, hints, what) for parameter in wanted}


def hints_of(function: Callable[..., object], what: str, *, advice: str = "") -> Mapping[str, object]:
    """A function's annotations, resolved.

    Args:
        function: Whose.
        what: As in `needs_of`.
        advice: What else the one who wrote it may do, should that fail.

    Raises:
        ConfigurationError: They cannot be resolved.
    """
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ConfigurationError(
            f"the annotations of {what} cannot be resolved ({error}); define its types at module level{advice}"
        ) from None


def missing_from(needs: Mapping[str, object], given: Iterable[object], what: str) -> str | None:
    """What to tell of the first need that nothing meets; None if all are met."""
    there = set(given)
    for name, type_ in needs.items():
        if type_ not in there:
            return f"{what} needs a {type_name(type_)} for its parameter {name!r}"
    return None


def _type_of(parameter: Parameter, hints: Mapping[str, object], what: str) -> object:
    name = parameter.name
    if name not in hints or parameter.kind not in BY_NAME:
        raise ConfigurationError(
            f"parameter {name!r} of {what} stands for a resource, which is found by its type "
            f"and given by its name; write it as {name}: SomeType"
        )
    if parameter.default is not Parameter.empty:
        raise ConfigurationError(
            f"parameter {name!r} of {what} stands for a resource, which is always given; leave its default out"
        )
    return hints[name]
