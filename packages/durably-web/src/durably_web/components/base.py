"""What all components have: props, a template, an element on the page that listens and fetches itself."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator
from typing_extensions import override

from durably_web import bells
from durably_web.bells import Bell, RunPart, Topic
from durably_web.visits import Visit

ATTRIBUTE: Final = re.compile(r"[A-Za-z_:@][\w.:-]*")
OURS: Final = frozenset({"class", "id"})
PAGE_ONLY: Final = frozenset({"class_", "attrs"})
"""Props of the element on the page: a fragment need not know them."""


def _attributes(attrs: Mapping[str, str]) -> Mapping[str, str]:
    for name in attrs:
        if name in OURS:
            raise ValueError(f"{name!r} has a prop of its own: {'class_' if name == 'class' else name}")
        if not ATTRIBUTE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an attribute")
    return attrs


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
    attrs: Annotated[Mapping[str, str], AfterValidator(_attributes)] = field(default_factory=dict[str, str])
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

    def on(self, visit: Visit) -> Self:
        """As it is on this page, whose URL may have something to say."""
        return self

    @property
    def about_job(self) -> str | None:
        """The job that it is about."""
        return None

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
        for prop in props_of(type(self)):
            value: object = getattr(self, prop.name)
            if value != _default(prop):
                # What may be anything is told from a text that looks like it.
                is_text = isinstance(value, str) and getattr(prop.type, "__origin__", None) is not object
                yield prop.name, str(value) if is_text else json.dumps(value)


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


def props_of(component: type[Component]) -> Sequence[Field[Any]]:
    """Its props, but for those of the element on the page alone."""
    return [prop for prop in fields(component) if prop.name not in PAGE_ONLY]


def _default(prop: Field[Any]) -> object:
    return prop.default_factory() if prop.default_factory is not MISSING else prop.default
