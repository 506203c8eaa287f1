"""Which runs were removed after they had ended: what a lost run must not be taken for."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator

from durably_testing.rules import ENDED

_STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS durably_removals (run_id TEXT PRIMARY KEY, status TEXT NOT NULL)",
    # In the transaction that removes it: nobody can be killed in between.
    f"""
CREATE TRIGGER IF NOT EXISTS durably_oracle_removals AFTER DELETE ON durably_runs WHEN OLD.status IN {ENDED}
BEGIN INSERT OR REPLACE INTO durably_removals (run_id, status) VALUES (OLD.id, OLD.status); END""",
)


def remember_removals(connection: sqlite3.Connection, /) -> None:
    """Have this database remember the runs that any process removes, by whichever verb. Repeatable."""
    for statement in _STATEMENTS:
        connection.execute(statement)


def losses(
    connection: sqlite3.Connection, /, *, acknowledged: Iterable[str], there: Collection[str], removes: bool
) -> Iterator[str]:
    """The acknowledged runs that are gone and should not be.

    Args:
        connection: The database.
        acknowledged: The ids of the runs that must be there, or have been.
        there: Those that are.
        removes: Whether runs may have been removed after they had ended.
    """
    removed = dict(connection.execute("SELECT run_id, status FROM durably_removals"))
    for run_id in acknowledged:
        if run_id in there or (removes and run_id in removed):
            continue
        text = f"run {run_id} was acknowledged to whoever triggered it, and is not there"
        if run_id in removed:
            text += (
                f": it was removed after it had ended as {removed[run_id]}. If your app removes runs, by "
                "delete_run, purge_runs or retain, say so: KillLoop(…, removes=True)"
            )
        yield text
