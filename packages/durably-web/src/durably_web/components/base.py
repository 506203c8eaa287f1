"""What all components have: props, a template, an element on the page that listens and fetches itself."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from starlette.exceptions import HTTPException
from typing_extensions import override

from durably_web import bells
from durably_web.bells import Bell, RunPart, Topic
from durably_web.visits import Visit

C = TypeVar("C", bound="Component")

PAGE_ONLY = frozenset({"class_", "attrs"})
"""Props of the element on the page: a fragment need not know them."""


@dataclass(frozen=True)
class Component(ABC):
    """A part of a page. Its fields are its props."""

    _: KW_ONLY
    class_: str = ""
    """More classes for its element."""
    id: str | None = None
    """An id for its element. Give one if the same thing is shown twice on a page."""
    live: bool = True
    """Whether it follows what happens."""
    unstyled: bool = False
    """Whether it comes without our classes."""
    attrs: Mapping[str, str] = field(default_factory=dict[str, str])
    """More attributes for its element."""

    name: ClassVar[str]
    swap: ClassVar[str] = "innerHTML"
    is_inline: ClassVar[bool] = False
    """Whether it may stand within a line."""
    is_held: ClassVar[bool] = False
    """Whether it is left alone while somebody works with what is in it."""

    @abstractmethod
    async def load(self, visit: Visit) -> object:
        """What its template shows, as `c`.

        Raises:
            HTTPException: It is not there for this visitor.
        """

    @property
    def template(self) -> str:
        """The template's name; a host's file of this name is taken instead."""
        return f"durably/components/{self.name}.html"

    def topics(self) -> Sequence[Topic]:
        """What must be watched for it."""
        return ()

    def bells(self) -> Sequence[Bell]:
        """At which it fetches itself again."""
        return ()

    def about(self) -> Mapping[str, str | None]:
        """What its element tells of itself, as attributes."""
        return {}

    def query(self) -> Iterator[tuple[str, str]]:
        """Its props as a query, those that are not the default."""
        for prop in _props(type(self)):
            value: object = getattr(self, prop.name)
            if value != _default(prop):
                yield prop.name, value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class RunComponent(Component):
    """A part of a page about one run."""

    run_id: str

    rings: ClassVar[Sequence[RunPart]] = ("status",)
    """Of the run's parts, those whose change makes it fetch."""

    @override
    def topics(self) -> Sequence[Topic]:
        return (bells.topic_of(self.run_id),)

    @override
    def bells(self) -> Sequence[Bell]:
        return [bells.of_run(self.run_id, part) for part in self.rings]

    @override
    def about(self) -> Mapping[str, str | None]:
        return {"data-dw-run": self.run_id}


def from_query(component: type[C], query: Sequence[tuple[str, str]]) -> C:
    """The component that a fragment's URL asks for.

    Raises:
        HTTPException: 400, a prop is unknown or cannot be used.
    """
    props = {prop.name: prop for prop in _props(component)}
    values: dict[str, object] = {}
    for key, text in query:
        if key not in props:
            raise HTTPException(400, f"{component.name} has no prop {key[:50]!r}")
        if text:
            values[key] = _read(props[key], text)
    try:
        made: C = _adapter(component).validate_python(values)
    except PydanticValidationError as error:
        places = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise HTTPException(400, f"{component.name}: cannot use {places}") from None
    else:
        return made


@cache
def _adapter(component: type[Component]) -> TypeAdapter[Any]:
    # To build one takes half a millisecond, to use it some microseconds.
    return TypeAdapter(component)


def _read(prop: Field[Any], text: str) -> object:
    if prop.type in {str, str | None}:
        return text
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        # A literal's plain word.
        return text


def _props(component: type[Component]) -> Sequence[Field[Any]]:
    return [prop for prop in fields(component) if prop.name not in PAGE_ONLY]


def _default(prop: Field[Any]) -> object:
    return prop.default_factory() if prop.default_factory is not MISSING else prop.default
