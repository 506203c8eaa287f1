"""Keeping simulated jobs out of the real world: no sockets, no threads, no other programs.

Python tells an audit hook of each of them before it happens. The hook stays for the life of the
interpreter, as all do, and concerns nobody but simulated processes.
"""

import sys
from functools import cache

from durably_testing.errors import RealWorldError
from durably_testing.processes import current_process

_FORBIDDEN = {
    "socket.connect": "a socket",
    "socket.bind": "a socket",
    "socket.getaddrinfo": "the network's names",
    "socket.gethostbyname": "the network's names",
    "_thread.start_new_thread": "a thread",
    "_thread.start_joinable_thread": "a thread",
    "subprocess.Popen": "another program",
    "os.system": "another program",
    "os.fork": "another process",
    "os.posix_spawn": "another program",
}


@cache
def guard_the_real_world() -> None:
    """Refuse simulated processes what cannot be simulated, from now on."""
    sys.addaudithook(_look)


def _look(event: str, args: tuple[object, ...]) -> None:
    what = _FORBIDDEN.get(event)
    if what is None:
        return
    process = current_process.get()
    if process is not None:
        error = RealWorldError(what)
        # The job may catch what is raised here; it is told at the end all the same.
        process.accusations.append(str(error))
        raise error
