"""Where databases may be measured: on a disk, since a file in memory has nothing to sync."""

import tempfile
from pathlib import Path

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
MOUNTS = Path("/proc/self/mounts")


def folder_on_disk(wanted: Path | None) -> Path:
    """The folder that was asked for, or a temporary one on a disk.

    Raises:
        SystemExit: It is kept in memory.
    """
    candidates = (
        [wanted] if wanted is not None else [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
    )
    for folder in candidates:
        if folder.is_dir() and not is_in_memory(folder):
            return folder
    raise SystemExit(f"{candidates[0]} is no folder on a disk; name one with --dir")


def is_in_memory(folder: Path) -> bool:
    """Whether the folder is known to be on a file system without a disk."""
    if not MOUNTS.exists():
        return False
    kinds = {
        Path(line.split()[1]): line.split()[2] for line in MOUNTS.read_text(encoding="utf-8").splitlines()
    }
    place = folder.resolve()
    while place not in kinds and place != place.parent:
        place = place.parent
    return kinds.get(place) in IN_MEMORY
