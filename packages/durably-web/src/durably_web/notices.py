"""What a page asks before something is done, and what it says at its top afterwards.

What it says is told by a code in the URL, never by its text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whether somebody is sure."""

    text: str
    detail: str
    word: str
    """Of the button that does it."""


QUESTIONS: Final[Mapping[str, Question]] = {
    "cancel": Question(
        text="Cancel this run?", detail="What it does now is cut off. Finished steps stay.", word="Cancel run"
    ),
    "delete": Question(
        text="Delete this run?", detail="Its steps, logs and payloads are gone for good.", word="Delete run"
    ),
}
"""What is asked before an action on a run; the others can be undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence, and the status whose colours it has."""

    tone: str
    text: str


NOTICES: Final[Mapping[str, Notice]] = {
    "cancelled": Notice(tone="cancelled", text="The run was cancelled."),
    "retried": Notice(tone="running", text="The run was sent back to work; its finished steps are kept."),
    "retriggered": Notice(tone="running", text="This is the new run, with the input of the other one."),
    "triggered": Notice(tone="running", text="This run was triggered."),
    "idempotent": Notice(tone="cancelled", text="This run has that idempotency key already; no new one was made."),
    "coalesced": Notice(tone="cancelled", text="This run waited already with that concurrency key; no new one was made."),
    "deleted": Notice(tone="cancelled", text="The run was deleted."),
    "signalled": Notice(tone="completed", text="The signal was sent."),
    "no-json": Notice(tone="failed", text="Nothing was sent: that was no JSON. A text needs quotes: \"yes\"."),
    "conflict": Notice(tone="failed", text="Not done: the run is in another state by now."),
    "nothing": Notice(tone="cancelled", text="Nothing was selected."),
    "none-match": Notice(tone="cancelled", text="Nothing was done: there is no such run any more, or none that is yours to change."),
}  # fmt: skip

_COUNTED: Final = re.compile(r"(retried|cancelled)-(\d{1,4})-of-(\d{1,4})")


def notice(code: str | None) -> Notice | None:
    """The notice of a code; nothing for what is no code of ours."""
    counted = _COUNTED.fullmatch(code or "")
    if counted is None:
        return NOTICES.get(code or "")
    done, asked = int(counted[2]), int(counted[3])
    is_retry = counted[1] == "retried"
    left = max(0, asked - done)
    what = (
        ("was" if left == 1 else "were") + " no longer failed or cancelled"
        if is_retry
        else "had ended already"
    )
    runs = "1 run was" if done == 1 else f"{done:,} runs were"
    return Notice(
        tone="pending" if is_retry else "cancelled",
        text=f"{runs} {counted[1]}{f'; {left:,} {what}' if left else ''}.",
    )
