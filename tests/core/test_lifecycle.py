"""The state machine: the table, the verdict, and the SQL that is held against them."""

import itertools
import re
from typing import get_args

import pytest

from durably.lifecycle import TRANSITIONS, Ending, Interruption, Verb, verdict
from durably.models import TERMINAL_STATUSES, RunStatus
from durably.stores.sqlite.queries import load

# Where each transition is written, and the states that its statement's WHERE lets through.
STATEMENTS: dict[Verb, tuple[str, str]] = {
    "claim": ("claims", "claim_run"),
    "complete": ("checkpoints", "finish_run"),
    "fail": ("checkpoints", "finish_run"),
    "reattempt": ("attempts", "reattempt_run"),
    "continue": ("links", "continue_run"),
    "suspend": ("waits", "suspend_run"),
    "release": ("freeing", "hand_back"),
    "reclaim": ("freeing", "hand_back"),
    "park": ("crashes", "park_run"),
    "cancel": ("transitions", "cancel_run"),
    "retry": ("transitions", "retry_run"),
    "delete": ("transitions", "delete_run"),
}


def guard(statement: str) -> frozenset[str]:
    """The states that the last WHERE of a statement names."""
    where = statement[statement.rindex("WHERE") :]
    one = re.search(r"status = '(\w+)'", where)
    several = re.search(r"status IN \(([^)]*)\)", where)
    if several is not None:
        return frozenset(re.findall(r"'(\w+)'", several[1]))
    assert one is not None, statement
    return frozenset([one[1]])


@pytest.mark.parametrize("verb", STATEMENTS)
def test_the_sql_lets_through_what_the_table_allows(verb: Verb) -> None:
    topic, name = STATEMENTS[verb]
    statement = load(topic)[name].split("AND NOT EXISTS")[0]
    assert guard(statement) == TRANSITIONS[verb].sources
    target = TRANSITIONS[verb].target
    if verb not in ("complete", "fail", "delete"):
        assert f"status = '{target}'" in statement.split("WHERE")[0]


def test_every_state_is_reached_and_every_living_one_left() -> None:
    states = set(get_args(RunStatus))
    reached = {transition.target for transition in TRANSITIONS.values()} - {None}
    assert reached == states
    left = set[RunStatus]().union(*(transition.sources for transition in TRANSITIONS.values()))
    assert left == states
    # Terminal is final: only a person sends a run back, and never a completed one.
    for verb, transition in TRANSITIONS.items():
        if transition.sources & TERMINAL_STATUSES:
            assert verb in ("retry", "delete")
    assert "completed" not in TRANSITIONS["retry"].sources


@pytest.mark.parametrize(
    ("interruption", "ending"),
    list(itertools.product([None, *get_args(Interruption)], get_args(Ending))),
)
def test_the_interruption_decides_about_the_outcome(
    interruption: Interruption | None, ending: Ending
) -> None:
    expected = {
        "lost": "abandon",
        "cancelled": "release",
        "stopping": "release",
        "suspended": "suspend",
        "continued": "continue",
        "overdue": "fail",
        None: {"returned": "complete", "raised": "fail"}[ending],
    }
    assert verdict(interruption, ending) == expected[interruption]
