"""What a pytest session was asked for: how much is tested, and whether one history is replayed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from durably_testing.tokens import Replay

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
    replay: Replay | None = None
    """The one history that is wanted."""
    update_histories: bool = False
    """Whether recorded histories are to be written anew."""


_current = Profile()


def current_profile() -> Profile:
    """What this session was asked for."""
    return _current


def use_profile(profile: Profile) -> Profile:
    """Make this the session's; answers the one before."""
    global _current
    before, _current = _current, profile
    return before
