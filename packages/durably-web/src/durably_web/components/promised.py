"""What a component is until it is awaited."""

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

from typing_extensions import override

from durably import ConfigurationError

T = TypeVar("T")


class Promised(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that says so, if it is put into a page instead of what it answers.

    Args:
        name: The component.
        make: What is awaited.
    """

    def __init__(self, name: str, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._name = name
        self._make = make
        self._made: Coroutine[Any, Any, T] | None = None

    @override
    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    @override
    def send(self, value: Any, /) -> Any:
        return self._coroutine.send(value)

    @override
    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        return self._coroutine.throw(typ if isinstance(typ, BaseException) else typ())

    @override
    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    @property
    def _coroutine(self) -> Coroutine[Any, Any, T]:
        # Not before: one that nobody awaits would be told of by Python as well, and less clearly.
        if self._made is None:
            self._made = self._make()
        return self._made

    def __html__(self) -> str:
        """As a template asks for it."""
        raise ConfigurationError(
            f"{self._name} is rendered by being awaited: await web.ui.{self._name}(request, …); what fetches itself, "
            f"and need not be awaited, is web.ui.lazy.{self._name}(…)"
        )

    @override
    def __str__(self) -> str:
        return self.__html__()
