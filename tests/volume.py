"""How much of a long test is done: a sample, all of it, or all that a night holds."""

import os
from typing import Literal, cast, get_args

Profile = Literal["quick", "ci", "nightly"]


def profile() -> Profile:
    """What `DURABLY_PROFILE` asks for; `quick` unless it says otherwise.

    Raises:
        ValueError: It names no profile.
    """
    found = os.environ.get("DURABLY_PROFILE", "quick")
    if found not in get_args(Profile):
        raise ValueError(f"DURABLY_PROFILE is {found!r}; it may be {', '.join(get_args(Profile))}")
    return cast("Profile", found)


def volume(*, quick: int, ci: int, nightly: int | None = None) -> int:
    """How many cases to go through under the present profile; a night's are ten times ci's unless told."""
    return {"quick": quick, "ci": ci, "nightly": ci * 10 if nightly is None else nightly}[profile()]
