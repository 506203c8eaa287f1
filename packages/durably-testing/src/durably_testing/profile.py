"""How much is tested: the profile of a pytest session."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

ProfileName: TypeAlias = Literal["quick", "ci", "nightly"]

EXAMPLES: Mapping[ProfileName, int] = {"quick": 30, "ci": 300, "nightly": 20_000}
"""Random histories of one `survives_crashes`, beside those that are enumerated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a session was asked for."""

    name: ProfileName = "quick"
    examples: int = EXAMPLES["quick"]
    seed: int | None = None
    """Decides what hypothesis draws; None: something new each time."""
    replay: str | None = None
    """The token of the one history that is wanted."""


_current = Profile()


def current_profile() -> Profile:
    """What this session was asked for."""
    return _current


def use_profile(profile: Profile) -> None:
    """Make this the session's."""
    global _current  # noqa: PLW0603 - a pytest session is a process-wide thing
    _current = profile
