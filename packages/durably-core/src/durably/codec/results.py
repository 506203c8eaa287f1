"""Which codec fits what a function returns: read from its annotation, at every step."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from inspect import unwrap
from types import FunctionType, NoneType
from typing import cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from durably.codec.values import UNTYPED, Codec, codec_for
from durably.errors import ConfigurationError

if sys.version_info >= (3, 14):  # pragma: no cover - measured on 3.11
    from annotationlib import Format, get_annotations

_AWAITABLES: frozenset[object] = frozenset({Awaitable, Coroutine, asyncio.Future, asyncio.Task})

# Weak: a job defines its inner functions anew at every execution.
_resolved: WeakKeyDictionary[FunctionType, Codec[object]] = WeakKeyDictionary()


def codec_of_result(function: Callable[..., object]) -> Codec[object]:
    """The codec for what a function returns, or gives once awaited; UNTYPED without an annotation.

    Raises:
        ConfigurationError: The annotation has no JSON form, or cannot be resolved at run time.
    """
    target = _function_of(function)
    if target is None or isinstance(target, type):
        return UNTYPED if target is None else codec_for(target)
    try:
        returns = target.__annotations__.get("return", object)
    except (
        NameError
    ):  # Python 3.14 evaluates annotations late, and a parameter's may be the type checker's only
        returns = ""
    if returns is object:
        return UNTYPED
    if returns is None or (isinstance(returns, type) and returns not in _AWAITABLES):
        return codec_for(returns or NoneType)
    codec = _resolved.get(target)
    if codec is None:
        codec = _resolved[target] = codec_for(_result_type(target))
    return codec


def _function_of(target: object) -> FunctionType | type | None:
    while not isinstance(target, (FunctionType, type)):
        if isinstance(target, partial):
            target = cast("partial[object]", target).func
        elif inner := getattr(target, "__func__", None) or getattr(target, "__wrapped__", None):
            target = inner
        else:
            target = type(target).__dict__.get("__call__")
            if not isinstance(target, FunctionType):
                return None
    return target


def _result_type(function: FunctionType) -> object:
    def result_only() -> None: ...

    try:
        if sys.version_info >= (3, 14):  # pragma: no cover - measured on 3.11
            returns = get_annotations(function, format=Format.FORWARDREF)["return"]
        else:
            returns = function.__annotations__["return"]
        # Parameters may be annotated with what is imported for the type checker only: resolve the result alone.
        result_only.__annotations__ = {"return": returns}
        own = {parameter.__name__: parameter for parameter in getattr(function, "__type_params__", ())}
        result = get_type_hints(result_only, unwrap(function).__globals__, own, include_extras=True)["return"]
    except Exception as error:
        message = (
            f"the return annotation of {function.__qualname__} cannot be resolved ({error}); pass result=Type"
        )
        raise ConfigurationError(message) from error
    if (get_origin(result) or result) in _AWAITABLES:
        return get_args(result)[-1] if get_args(result) else object
    return cast("object", result)
