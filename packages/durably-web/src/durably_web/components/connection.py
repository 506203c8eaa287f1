"""Whether a page follows what happens, as a component."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from typing_extensions import override

from durably_web.components.base import Component
from durably_web.visits import Visit


@dataclass(frozen=True)
class ConnectionIndicator(Component):
    """Whether the page follows what happens."""

    _: KW_ONLY
    live: bool = False

    name: ClassVar[str] = "conn_indicator"
    is_inline: ClassVar[bool] = True

    @override
    async def load(self, visit: Visit) -> None:
        return None
