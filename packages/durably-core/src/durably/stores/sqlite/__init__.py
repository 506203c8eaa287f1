"""The store on SQLite: one file, or one connection's memory."""

from durably.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
