"""How much the write-ahead log holds, read from its file.

SQLite tells it to a hook that Python does not offer, and the size of the file does not tell: once
written back, the log begins again at the front of the file that is already there (which is quick,
because a file that does not grow is quick to sync).

Source: https://sqlite.org/fileformat2.html#walformat.
"""

from dataclasses import dataclass
from io import SEEK_END, FileIO
from pathlib import Path

HEADER = 32
FRAME_HEADER = 24


@dataclass(frozen=True, slots=True)
class Extent:
    """The pages that wait in the log to be written back."""

    salt: bytes
    """Changes each time the log begins again at its front."""
    frames: int

    def beyond(self, earlier: "Extent") -> int:
        """How many came since an earlier look."""
        return self.frames - earlier.frames if self.salt == earlier.salt else self.frames


EMPTY = Extent(b"", 0)


def measure(log: Path) -> Extent:
    """What the log holds now; to be asked between two transactions of this process."""
    # Closing a handle is harmless here: SQLite's locks are on the database and its index, not on the log.
    try:
        with log.open("rb", buffering=0) as file:
            return _extent(file)
    except OSError:
        return EMPTY


def _extent(file: FileIO) -> Extent:
    header = file.read(HEADER)
    if len(header) < HEADER:
        return EMPTY
    frame_size = FRAME_HEADER + int.from_bytes(header[8:12], "big")
    salt = header[16:24]
    # Frames of the present turn carry its salt, and come before what is left of earlier turns.
    low, high = 0, (file.seek(0, SEEK_END) - HEADER) // frame_size
    while low < high:
        middle = (low + high) // 2
        file.seek(HEADER + middle * frame_size + 8)
        if file.read(8) == salt:
            low = middle + 1
        else:
            high = middle
    return Extent(salt, low)
