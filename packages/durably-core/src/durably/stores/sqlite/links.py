"""Ending one link of a run's chain and beginning the next."""

from collections.abc import Sequence

from durably.models import Link
from durably.stores.sqlite.checkpoints import standing, write_notes
from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.rows import to_link
from durably.stores.sqlite.session import Session, Value
from durably.stores.values import LINKS_KEPT, Answer, Continued, Lease, Notes

SQL = load("links")

SECONDS_OF_DOUBT = 60.0
"""After so long nobody repeats the sending of a signal any more, and its row may go."""


def continue_as_new(session: Session, lease: Lease, outcome: Continued, notes: Notes) -> Answer:
    """Write the notes, keep a record of the link, and let the job begin anew with another input."""
    answer = standing(session, lease)
    fence: dict[str, Value] = {"run_id": lease.run_id, "generation": lease.generation}
    if answer != "applied":
        # Then its first writing was a success nobody heard of.
        found = session.row(SQL["find_continued"], {**fence, "link": outcome.link})
        return "applied" if found is not None else answer
    write_notes(session, lease, notes)
    session.run(SQL["save_link"], {**fence, "now": session.now})
    row = session.one(
        SQL["continue_run"],
        {**fence, "input": outcome.input_json, "now": session.now, "change": session.next_change()},
    )
    seq = row["seq"]
    session.run(SQL["drop_steps"], {"seq": seq})
    session.run(SQL["drop_attempts"], {"seq": seq})
    session.run(SQL["drop_consumed_signals"], {"seq": seq, "before": session.now - SECONDS_OF_DOUBT})
    session.run(SQL["drop_old_links"], {"seq": seq, "last": outcome.link - LINKS_KEPT})
    settle_key(session, key_of(row))
    return "applied"


def list_links(session: Session, run_id: str) -> Sequence[Link]:
    """The links that have ended, the oldest first."""
    return [to_link(row) for row in session.rows(SQL["list_links"], {"run_id": run_id})]
