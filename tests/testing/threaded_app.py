"""A module that starts a thread while it is imported: no process of it can be forked."""

import threading

from durably import Durably
from tests.testing import killed_apps

threading.Thread(target=threading.Event().wait, daemon=True).start()


def app(database: str) -> Durably:
    """What a fork would copy without its thread."""
    return killed_apps.app(database)
