"""The state machine of a run: which transitions there are, and the verdict over an execution.

Pure. The stores' guards are held against `TRANSITIONS` by a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from durably.models import TERMINAL_STATUSES, RunStatus

Verb: TypeAlias = Literal[
    "claim",
    "complete",
    "fail",
    "reattempt",
    "continue",
    "suspend",
    "wake",
    "release",
    "reclaim",
    "park",
    "cancel",
    "retry",
    "delete",
]


@dataclass(frozen=True, slots=True)
class Transition:
    """From which states a verb may move a run, and where to; None: the run is gone."""

    sources: frozenset[RunStatus]
    target: RunStatus | None


TRANSITIONS: Mapping[Verb, Transition] = {
    "claim": Transition(frozenset({"pending"}), "running"),
    "complete": Transition(frozenset({"running"}), "completed"),
    "fail": Transition(frozenset({"running"}), "failed"),
    "reattempt": Transition(frozenset({"running"}), "pending"),
    "continue": Transition(frozenset({"running"}), "pending"),
    "suspend": Transition(frozenset({"running"}), "waiting"),
    "wake": Transition(frozenset({"waiting"}), "pending"),
    "release": Transition(frozenset({"running"}), "pending"),
    "reclaim": Transition(frozenset({"running"}), "pending"),
    "park": Transition(frozenset({"running"}), "failed"),
    "cancel": Transition(frozenset({"pending", "running", "waiting"}), "cancelled"),
    "retry": Transition(frozenset({"failed", "cancelled"}), "pending"),
    "delete": Transition(TERMINAL_STATUSES, None),
}

Interruption: TypeAlias = Literal["cancelled", "lost", "stopping", "suspended", "continued", "overdue"]
"""Why an execution was ended before its job's end: a person cancelled the run, the lease is gone, the
worker is being stopped, the run needs no worker until something happens, it goes on with its next
link, or its time is up."""

Ending: TypeAlias = Literal["returned", "raised"]
"""How the job's coroutine ended."""

Verdict: TypeAlias = Literal["complete", "fail", "suspend", "continue", "release", "abandon"]


VERDICTS: Mapping[Interruption, Verdict] = {
    "lost": "abandon",
    "suspended": "suspend",
    "continued": "continue",
    "overdue": "fail",
    "cancelled": "release",
    "stopping": "release",
}


def verdict(interruption: Interruption | None, ending: Ending) -> Verdict:
    """What to write about an execution that has ended.

    The interruption decides, not the coroutine: a job that swallows the cancellation and returns
    has not completed (S2). Losing a lease writes nothing: the run is somebody else's (promise 8).
    """
    if interruption is not None:
        return VERDICTS[interruption]
    return "complete" if ending == "returned" else "fail"
