"""The end of a run's log, and what comes to it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Final, Literal, TypeAlias

from typing_extensions import override

from durably import LogEntry, Run
from durably_web.bells import RunPart
from durably_web.components.base import RunComponent
from durably_web.visits import Visit

Level: TypeAlias = Literal["info", "warning", "error"]

MOST_LINES: Final = 1000
"""Lines that one answer shows."""
LONGEST_LINE: Final = 8_000
"""Characters of a message that are shown; the download has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line as it is shown."""

    entry: LogEntry
    text: str
    fields: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogShown:
    """Lines of a run's log."""

    run: Run
    lines: tuple[Line, ...]
    before: int | None
    """There are earlier lines than this number."""
    earlier: tuple[tuple[str, str], ...]
    """The query of those."""


@dataclass(frozen=True)
class LogTail(RunComponent):
    """The log's last lines; new ones are added as they come."""

    _: KW_ONLY
    max_lines: int = 500
    min_level: Level = "info"
    step: str | None = None
    """Only lines of this step."""
    height: str | None = None
    """The greatest height of its element, in CSS; 480px if nothing is said."""
    after: int | None = None
    """Only lines after this number: those that have come since."""
    before: int | None = None
    """Only lines before this number: earlier ones."""

    name: ClassVar[str] = "log_tail"
    swap: ClassVar[str] = "beforeend"
    rings: ClassVar[Sequence[RunPart]] = ("log", "status")

    @override
    async def load(self, visit: Visit) -> LogShown:
        run = await visit.run(self.run_id)
        most = min(max(self.max_lines, 1), MOST_LINES)
        entries = await visit.caller.last_logs(self.run_id, before=self.before, limit=most + 1)
        # Whoever slept for long is not told everything, but the end, and that there is more above.
        new = [entry for entry in entries if entry.sequence > (self.after or 0)]
        entries = new[-most:]
        before = entries[0].sequence if len(new) > most else None
        return LogShown(
            run=run,
            lines=tuple(_line(entry) for entry in entries if self.step in {None, entry.step_name}),
            before=before,
            earlier=tuple(replace(self, before=before, after=None).query()),
        )

    @override
    def about(self) -> Mapping[str, str | None]:
        return {
            **super().about(),
            "data-level": self.min_level,
            # The script writes here what it has shown, and asks for what comes after.
            "data-dw-after": "",
            "data-dw-height": self.height,
            "role": "log",
            "aria-live": "off",
            "aria-label": "Log",
            "tabindex": "0",
        }


def _line(entry: LogEntry) -> Line:
    fields = json.dumps(dict(entry.fields), ensure_ascii=False, default=str) if entry.fields else ""
    return Line(entry=entry, text=_shown(entry.message), fields=_shown(fields))


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
