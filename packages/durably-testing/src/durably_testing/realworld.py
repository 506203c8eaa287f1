"""Keeping simulated jobs out of the real world: no sockets, no threads, no other programs.

While a world exists, Python's doors to them ask who goes through, and refuse simulated processes.
(An audit hook would see a little more and stay for ever: it would look at whatever the session's
other tests do, and a thread that starts under a tracer fails on Python 3.11 if another one starts
meanwhile.)
"""

import _thread
import functools
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Final, cast

from durably_testing.errors import RealWorldError
from durably_testing.processes import current_process

_DOORS: tuple[tuple[Any, str, str], ...] = (
    (socket.socket, "connect", "a socket"),
    (socket.socket, "connect_ex", "a socket"),
    (socket.socket, "bind", "a socket"),
    (socket, "getaddrinfo", "the network's names"),
    (socket, "gethostbyname", "the network's names"),
    (threading.Thread, "start", "a thread"),
    (_thread, "start_new_thread", "a thread"),
    (subprocess.Popen, "__init__", "another program"),
    (os, "system", "another program"),
    (os, "fork", "another process"),
    (os, "posix_spawn", "another program"),
    (os, "posix_spawnp", "another program"),
)
_INHERITED = object()


class _Doorkeeper:
    """Keeps the doors for all worlds of the interpreter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worlds = 0
        self._before: list[tuple[Any, str, Any]] = []

    def shut(self) -> None:
        """Refuse simulated processes what cannot be simulated, until `open` has been said as often."""
        with self._lock:
            self._worlds += 1
            if self._worlds > 1:
                return
            for owner, name, what in _DOORS:
                # Some systems lack some of them.
                if hasattr(owner, name):
                    found = cast("dict[str, object]", vars(owner)).get(name, _INHERITED)
                    self._before.append((owner, name, found))
                    setattr(owner, name, _guarded(getattr(owner, name), what))

    def open(self) -> None:
        """Take back one `shut`."""
        with self._lock:
            self._worlds -= 1
            while not self._worlds and self._before:
                owner, name, found = self._before.pop()
                if found is _INHERITED:
                    delattr(owner, name)
                else:
                    setattr(owner, name, found)


def _guarded(door: Callable[..., Any], what: str) -> Callable[..., Any]:
    @functools.wraps(door)
    def ask(*args: Any, **options: Any) -> Any:
        process = current_process.get()
        if process is not None:
            error = RealWorldError(what)
            # The job may catch what is raised here; it is told at the end all the same.
            process.accusations.append(str(error))
            raise error
        return door(*args, **options)

    return ask


doors: Final = _Doorkeeper()
"""The doors to the real world."""
