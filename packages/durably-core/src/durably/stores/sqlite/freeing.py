"""Taking a run from its owner, or from the clock."""

from durably.stores.sqlite.keys import key_of, settle_key
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.session import Session, Value

SQL = load("freeing")


def hand_back(session: Session, seq: int) -> None:
    """Make a run claimable that nobody works on any more, or that has fallen due.

    A running one becomes pending and keeps its key; a pending or waiting one becomes ready, or
    queues for its key; of one that has ended, the body has let go and the key is free.
    """
    values: dict[str, Value] = {"seq": seq, "now": session.now, "change": session.next_change()}
    row = session.row(SQL["hand_back"], values) or session.row(SQL["let_go"], values)
    settle_key(session, key_of(row))
