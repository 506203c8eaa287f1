"""The schema's version, and the way to the newest one."""

import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from durably.errors import SchemaTooNewError
from durably.stores.sqlite.queries import load
from durably.stores.sqlite.session import Session

SQL = load("schema")


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """Number and text of each migration, in order. They are only ever added to."""
    folder = files("durably.stores.sqlite").joinpath("migrations")
    scripts = sorted(script.name for script in folder.iterdir() if script.name.endswith(".sql"))
    return tuple((int(name[:4]), folder.joinpath(name).read_text("utf-8")) for name in scripts)


def newest() -> int:
    """The version that this code is written for."""
    return migrations()[-1][0]


def version(session: Session) -> int:
    """The version of the database; 0 before the first migration."""
    if session.row(SQL["has_versions"]) is None:
        return 0
    found: int = session.one(SQL["read_version"])[0]
    return found


def check_not_newer(session: Session) -> int:
    """The database's version, refused if a later release has been here.

    Raises:
        SchemaTooNewError: Upgrade this process first.
    """
    found = version(session)
    if found > newest():
        raise SchemaTooNewError(found, newest())
    return found


def is_current(session: Session) -> bool | None:
    """True if there is nothing to migrate, else None."""
    return True if check_not_newer(session) == newest() else None


def migrate(session: Session) -> bool:
    """Apply what is missing.

    The version is read inside the transaction that writes it: of several starters one migrates,
    the others wait for the lock and then find nothing to do.
    """
    found = check_not_newer(session)
    session.run(SQL["create_versions"])
    for number, script in migrations():
        if number > found:
            for statement in _statements(script):
                session.run(statement)
            session.run(SQL["write_version"], {"version": number, "now": session.now})
    return True


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
