"""What a simulation may say."""

from collections.abc import Sequence


class SimulationError(Exception):
    """The simulation itself cannot go on, or was asked for what it cannot do."""


class RealWorldError(SimulationError):
    """A job in a simulation reached for what cannot be simulated.

    Args:
        what: What it reached for.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"a simulated job reached for {what}. Simulated time stands still for the real world: give the job "
            "a double of what it talks to, or crash it for real with durably_testing.KillLoop"
        )


class ReplayTokenError(SimulationError):
    """A token cannot be replayed: it is no token, or one of another version, job or input."""


class HistoryError(AssertionError):
    """A recorded history cannot be read, or the present code does not resume it; says what is wrong."""


class NothingTestedError(AssertionError):
    """No fault ever struck, so nothing was tested."""


class PromiseBroken(AssertionError):  # noqa: N818 - it is what happened
    """A history in which something happened that must never happen.

    Args:
        violations: What, in words.
        story: The faults that struck, the history's last lines, and how to see it again.
    """

    def __init__(self, violations: Sequence[str], story: str) -> None:
        self.violations: tuple[str, ...] = tuple(violations)
        super().__init__("\n".join([*violations, "", story]))
