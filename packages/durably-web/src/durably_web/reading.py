"""What somebody wrote into a URL or a form: instants and whole numbers."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

PRESET: Final = re.compile(r"([1-9][0-9]{0,3})(m|h|d)")
UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
MOST_DIGITS: Final = 18
"""What has more may be too great for the database."""


def instant(text: str, now: datetime) -> datetime | None:
    """`24h` ago, to the minute, or an instant in ISO 8601; without a zone it is UTC; None: it is neither."""
    preset = PRESET.fullmatch(text)
    try:
        if preset is not None:
            return (now - int(preset[1]) * UNITS[preset[2]]).replace(second=0, microsecond=0)
        moment = datetime.fromisoformat(text) if text else None
        if moment is None:
            return None
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def is_preset(text: str) -> bool:
    """Whether it says how long ago, as `24h` does."""
    return PRESET.fullmatch(text) is not None


def whole(text: str) -> int | None:
    """A whole number from 0; None: it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None
