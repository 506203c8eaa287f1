"""The names of steps: who calls them, and the scopes they stand in."""

import sys
from abc import ABC, abstractmethod
from copy import copy
from typing import Self

from durably.options import check_step_name


class StepNames(ABC):
    """Where a step's name stands in its run."""

    _prefix: str = ""

    @property
    @abstractmethod
    def run_id(self) -> str:
        """The run's id."""

    def scope(self, prefix: str, /) -> Self:
        """The same context, whose names all begin with `prefix/`: so that a function can be used twice.

        Scopes may be nested. A signal that is waited for in a scope has the prefix in its name.

        Args:
            prefix: As a step's name; may be used several times.

        Raises:
            ValidationError: The prefix cannot be used.
        """
        scoped = copy(self)
        scoped._prefix = f"{self._place(prefix)}/"  # noqa: SLF001 - of its own class
        return scoped

    def _place(self, name: str) -> str:
        """The full name of a step."""
        check_step_name(name)
        return self._prefix + name

    @abstractmethod
    def _enter(self, place: str, call_site: str) -> None:
        """Take note of a call by this full name.

        Raises:
            NestedStepError, DuplicateStepError, StepOutsideRunError: As `StepContext.run`.
        """


def call_site() -> str:
    """Where the function that asks was called; not for an async one, which has no caller."""
    caller = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
    return f"{caller.f_code.co_filename}:{caller.f_lineno}"
