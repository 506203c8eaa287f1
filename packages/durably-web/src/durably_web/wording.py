"""Statuses, numbers and times as people read them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from durably import Count, RunError, RunStatus

DASH: Final = "–"
CONTROLS: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""Colours, moves of a cursor, bells; and what makes `gnp.exe` look like a picture."""

WORDS: Final[Mapping[RunStatus, str]] = {
    "pending": "Pending",
    "running": "Running",
    "waiting": "Waiting",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
FIRST_LINES: Final = 4
FIRST_CHARACTERS: Final = 400
"""What a beginning has at most."""
STATUSES: Final = tuple(WORDS)


def duration(seconds: float | None) -> str:
    """`12 ms`, `3.2 s`, `2 m 5 s`, `3 h 4 m`, `2 d 3 h`; a clock that ran backwards shows nothing."""
    if seconds is None:
        return DASH
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} m {second} s"
    hours, minute = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minute} m"
    days, hour = divmod(hours, 24)
    return f"{days} d {hour} h"


def age(instant: datetime, now: datetime) -> str:
    """`now`, `12 s ago`, `5 m ago`, `in 3 h`: with one unit, which is all one looks for in a list."""
    seconds = (now - instant).total_seconds()
    if abs(seconds) < 1:
        return "now"
    text = _one_unit(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _one_unit(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def stamp(instant: datetime) -> str:
    """`2026-11-22 14:29:34 UTC`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(instant: datetime) -> str:
    """`14:29:34.368`, for lines under each other."""
    return instant.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def between(since: datetime, until: datetime) -> str:
    """`14:00–14:30 UTC`."""
    return f"{since.astimezone(UTC):%H:%M}{DASH}{until.astimezone(UTC):%H:%M} UTC"


def machine(instant: datetime) -> str:
    """As HTML's `<time datetime>` wants it."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")


def number(value: float) -> str:
    """`12,345`, `0.5`: no more digits than there are."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def many(number: int, one: str) -> str:
    """`1 run`, `12,345 runs`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def percent(part: float, whole: float) -> str:
    """`42 %`; what has no whole shows nothing."""
    return f"{min(max(part / whole, 0.0), 1.0):.0%}".replace("%", " %") if whole > 0 else DASH


def sentence(text: object) -> str:
    """With a capital at its beginning."""
    words = str(text)
    return words[:1].upper() + words[1:]


def count(counted: Count) -> str:
    """`12`, or `10k+` where counting stopped."""
    number = counted.number
    if counted.is_whole:
        return f"{number:,}"
    return f"{number // 1000}k+" if number >= 1000 else f"{number}+"


def label_word(key: str, value: str) -> str:
    """The word of a search that means a label; in quotes, if it has spaces in it."""
    return f'{key}="{value}"' if re.search(r"\s", value) else f"{key}={value}"


def tail(run_id: str) -> str:
    """The part of an id that tells it from its neighbours."""
    return run_id[-8:]


def plain(text: str) -> str:
    """The text without what would steer a terminal, or turn the direction of what follows."""
    return text if text.isprintable() else CONTROLS.sub("", text)


def whole_error(error: RunError) -> str:
    """The traceback, or what there is of one."""
    return (error.traceback or f"{error.type}: {error.message}").rstrip() + "\n"


def beginning(text: str) -> str:
    """The first lines of it, if it is long."""
    start = "\n".join(text[:FIRST_CHARACTERS].splitlines()[:FIRST_LINES])
    return text if len(start) >= len(text.rstrip()) else f"{start.rstrip()}…"


def size(characters: int) -> str:
    """`812 B`, `12.3 kB`, `1.2 MB`."""
    if characters < 1000:
        return f"{characters} B"
    if characters < 1_000_000:
        return f"{characters / 1000:.1f} kB"
    return f"{characters / 1_000_000:.1f} MB"
