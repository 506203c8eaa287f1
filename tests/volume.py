"""How much of a long test is done: a sample, all of it, or all that a night holds."""

from durably_testing.profile import ProfileName, current_profile


def profile() -> ProfileName:
    """What `--durably-profile`, or `DURABLY_PROFILE`, asks for."""
    return current_profile().name


def volume(*, quick: int, ci: int, nightly: int | None = None) -> int:
    """How many cases to go through under the present profile; a night's are ten times ci's unless told."""
    return {"quick": quick, "ci": ci, "nightly": ci * 10 if nightly is None else nightly}[profile()]
