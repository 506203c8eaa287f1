"""What applies to each attempt at a step."""

from dataclasses import dataclass

from durably.models import Seconds
from durably.options import seconds
from durably.retries import Retry, as_retry


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a step's body is tried, and how long each attempt may take."""

    retry: Retry | None
    timeout: float | None
    """Seconds."""


def policy_of(retry: Retry | int | None, timeout: Seconds | None) -> Policy:
    """The policy of a step, as its call gives it.

    Raises:
        ConfigurationError: One of them cannot be used; says what is allowed.
    """
    return Policy(as_retry(retry), None if timeout is None else seconds(timeout, "timeout"))
