"""What `subscribe` and `subscribe_runs` tell.

Each update carries a cursor: a subscription that begins `after` it goes on with the next one.
"""

from dataclasses import dataclass
from typing import TypeAlias

from durably.models import LogEntry, Run, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A run as it stands: at first, and whenever it has changed since."""

    run: Run
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSnapshot:
    """A step that began, ended, or failed and is tried again; only its latest state is told."""

    run_id: str
    step: Step
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of the run's log."""

    run_id: str
    entry: LogEntry
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVanished:
    """The run was deleted while it was followed: the last update."""

    run_id: str
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsSnapshot:
    """The newest runs that fit, newest first: what a list shows before its first change."""

    runs: tuple[Run, ...]
    cursor: str


RunUpdate: TypeAlias = RunSnapshot | StepSnapshot | LogLine | RunVanished
RunsUpdate: TypeAlias = RunsSnapshot | RunSnapshot
