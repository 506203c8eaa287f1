"""Concurrency keys: who of a key's queue is next."""

import sqlite3
from typing import TypeAlias

from durably.models import TERMINAL_STATUSES
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.session import Session

SQL = load("keys")

Key: TypeAlias = tuple[str, str]
"""Scope and name."""


def key_of(row: sqlite3.Row | None) -> Key | None:
    """The key in a row's key_scope and concurrency_key, if it has one."""
    if row is None or row["concurrency_key"] is None:
        return None
    return row["key_scope"], row["concurrency_key"]


def settle_key(session: Session, key: Key | None) -> None:
    """Make exactly the run ready whose turn it is, or none while the key is taken.

    Whatever changes a keyed run calls this in the same transaction. The turn is the holder's if it
    was handed back (or its owner died), else that of the lowest rank.
    """
    if key is None:
        return
    values = {"scope": key[0], "key": key[1]}
    turn = _whose_turn(session, values)
    head = session.row(SQL["find_head"], values)
    ready = None if head is None else head["seq"]
    if ready == turn:
        return
    # First the old head: at any instant at most one run of a key may be ready.
    if ready is not None:
        session.run(SQL["set_ready"], {"seq": ready, "ready": 0})
    if turn is not None:
        session.run(SQL["set_ready"], {"seq": turn, "ready": 1})


def waited_for(session: Session, key: Key) -> int | None:
    """The run that holds the key; while nobody does, the one that is to take it."""
    values = {"scope": key[0], "key": key[1]}
    holder = session.row(SQL["find_holder"], values)
    if holder is not None and not _has_let_go(holder):
        return _seq(holder)
    head = session.row(SQL["find_head"], values)
    return None if head is None else _seq(head)


def headless_keys(session: Session) -> list[Key]:
    """Keys with a queue which nobody is going to move; there should be none."""
    return [(row["scope"], row["key"]) for row in session.rows(SQL["find_headless_keys"])]


def _whose_turn(session: Session, values: dict[str, str]) -> int | None:
    holder = session.row(SQL["find_holder"], values)
    if holder is not None and _has_let_go(holder):
        session.run(SQL["drop_hold"], {"seq": holder["seq"]})
        holder = None
    if holder is not None:
        resumable = holder["status"] == "pending" and holder["timer_at"] is None
        return holder["seq"] if resumable else None
    first = session.row(SQL["find_first_in_queue"], values)
    return None if first is None else first["seq"]


def _has_let_go(holder: sqlite3.Row) -> bool:
    return holder["status"] in TERMINAL_STATUSES and holder["lease_owner"] is None


def _seq(row: sqlite3.Row) -> int:
    seq: int = row["seq"]
    return seq
