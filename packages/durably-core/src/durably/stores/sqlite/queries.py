"""Loads the named statements of `queries/*.sql`.

A statement is constant text for the life of the process, so that the connection finds it in its
cache of prepared statements.
"""

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- :name (\w+)$", re.MULTILINE)


def load(topic: str) -> Mapping[str, str]:
    """The statements of `queries/<topic>.sql` by name, without their comments."""
    text = files("durably.stores.sqlite").joinpath("queries", f"{topic}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {name: _bare(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def _bare(statement: str) -> str:
    lines = (line for line in statement.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
