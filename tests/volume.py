"""How much of a long test is done: a sample, all of it, or all that a night holds."""

from collections.abc import Iterable
from typing import TypeVar

import pytest

from durably_testing.profile import ProfileName, current_profile

T = TypeVar("T")

NIGHT = 8 * 3600
"""Seconds that a night has for one test."""


def profile() -> ProfileName:
    """What `--durably-profile`, or `DURABLY_PROFILE`, asks for."""
    return current_profile().name


def volume(*, quick: int, ci: int, nightly: int | None = None) -> int:
    """How many cases to go through under the present profile; a night's are ten times ci's unless told."""
    return {"quick": quick, "ci": ci, "nightly": ci * 10 if nightly is None else nightly}[profile()]


def sample(cases: Iterable[T], *, quick: int) -> list[T]:
    """All cases; under the quick profile one of every `quick` of them, the first among them."""
    return list(cases)[:: volume(quick=quick, ci=1, nightly=1)]


def limit(seconds: int) -> pytest.MarkDecorator:
    """So many seconds by day for a test that grows with the profile; a whole night by night."""
    return pytest.mark.timeout(volume(quick=seconds, ci=seconds, nightly=NIGHT))
