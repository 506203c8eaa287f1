"""Calling as people do who use no type checker."""

from collections.abc import Callable
from typing import Any, cast


def unchecked(function: object) -> Callable[..., Any]:
    """The same function, its signature unknown to type checkers."""
    return cast("Callable[..., Any]", function)
