"""The functions of the application: looked at where they are given, asked, and their answers taken.

What is wrong with one of them is the application's own mistake. It is told to whoever wrote it, and not to
the visitor at whose request it shows.
"""

from collections.abc import Awaitable, Callable, Iterator
from inspect import Parameter, Signature, iscoroutinefunction, signature
from typing import TypeVar, cast, get_type_hints

from starlette.exceptions import HTTPException

from durably import ConfigurationError
from durably_web.mistakes import shown

T = TypeVar("T")

REFUSALS = range(400, 500)


def check_hook(name: str, hook: object, *takes: str, is_plain: bool = False) -> None:
    """See that a function can be asked, before anybody asks it.

    Args:
        name: What the application gave it as.
        hook: The function; None is none.
        takes: What it is called with.
        is_plain: Whether it may not be async.

    Raises:
        ConfigurationError: It is no function, or cannot be called so.
    """
    if hook is None:
        return
    call = f"{name}({', '.join(takes)})"
    if not callable(hook):
        raise ConfigurationError(f"{name} must be a function, called as {call}; it is {shown(hook)}")
    if is_plain and iscoroutinefunction(hook):
        raise ConfigurationError(f"{name} must be a plain function, not an async one")
    try:
        known = signature(hook)
    except (TypeError, ValueError):
        # Some that are written in C do not tell.
        return
    injected = next(_injected(hook, known), None)
    if injected is not None:
        raise ConfigurationError(
            f"{name} is called as {call}, by nobody who injects: its parameter {injected!r} is a dependency of "
            "FastAPI's; give a function that reads what it needs from the request"
        )
    try:
        known.bind(*takes)
    except TypeError as error:
        raise ConfigurationError(
            f"{name} is called as {call}, and {shown(hook)} cannot be: {error}"
        ) from None


async def settle(answer: T | Awaitable[T]) -> T:
    """What a plain or an async function answers."""
    if isinstance(answer, Awaitable):
        return await cast("Awaitable[T]", answer)
    return answer


async def answer_of(hook: Callable[..., object], *arguments: object) -> object:
    """What a hook answers, which need not be what it should."""
    return await settle(hook(*arguments))


async def refused_by(hook: Callable[..., object] | None, *arguments: object) -> HTTPException | None:
    """How a hook refuses; None if it does not: it answers something true, or nothing at all, or there is none."""
    if hook is None:
        return None
    try:
        answer = await answer_of(hook, *arguments)
    except HTTPException as error:
        if error.status_code in REFUSALS:
            return error
        raise
    return None if answer is None or answer else HTTPException(403, "Forbidden")


def _injected(hook: Callable[..., object], known: Signature) -> Iterator[str]:
    """The parameters that FastAPI would fill."""
    try:
        hints: dict[str, object] = get_type_hints(hook, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    for parameter in known.parameters.values():
        annotated: tuple[object, ...] = getattr(hints.get(parameter.name), "__metadata__", ())
        if any(_is_of_fastapi(one) for one in (parameter.default, *annotated)):
            yield parameter.name


def _is_of_fastapi(value: object) -> bool:
    return value is not Parameter.empty and type(value).__module__ == "fastapi.params"
