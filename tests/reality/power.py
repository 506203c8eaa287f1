"""What a disk may hold after its power was cut.

What was synced is there. Of each write that was not, every sector of 512 bytes is there, or is not, or is torn: its
first bytes are there, and the rest is what was there before. A truncation that was not synced has happened or has not.
Files appear and vanish in the order in which they did, but perhaps not all of them yet.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.reality.disk import Deleted, Entry, Opened, Said, Synced, Truncated, Written

SECTOR = 512


@dataclass(slots=True, eq=False)
class _Inode:
    """A file, whatever name leads to it."""

    content: bytearray = field(default_factory=bytearray)
    """What is there for certain."""
    unsynced: list[tuple[int, Written | Truncated]] = field(default_factory=list)

    def sync(self, since: int) -> None:
        for place, entry in self.unsynced:
            if place >= since:
                continue
            if isinstance(entry, Truncated):
                _resize(self.content, entry.size)
            else:
                _put(self.content, entry.offset, entry.data)
        self.unsynced = [(place, entry) for place, entry in self.unsynced if place >= since]

    def after_a_cut(self, chance: random.Random, *, loss: float) -> bytes:
        content = bytearray(self.content)
        for _, entry in self.unsynced:
            if isinstance(entry, Truncated):
                if chance.random() >= loss:
                    _resize(content, entry.size)
            else:
                for offset, data in _sectors(entry):
                    fate = chance.random()
                    if fate >= loss:
                        _put(content, offset, data)
                    elif fate < loss / 4:
                        _put(content, offset, data[: chance.randrange(len(data) + 1)])
        return bytes(content)


@dataclass(frozen=True, slots=True)
class Image:
    """What a folder may hold after a power cut, and what had been said before it."""

    at: int
    """How many entries of the notes came before the cut."""
    files: dict[str, bytes]
    facts: Sequence[object]

    def lay_down(self, folder: Path) -> None:
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def images(entries: Sequence[Entry], cuts: int, seed: int) -> Iterator[Image]:
    """So many cuts at random places of the notes, in their order."""
    chance = random.Random(seed)
    places = sorted(chance.randrange(1, len(entries) + 1) for _ in range(cuts))
    shown: dict[str, _Inode] = {}
    certain: dict[str, _Inode] = {}
    unsure: list[tuple[str, _Inode | None]] = []
    facts: list[object] = []
    done = 0
    for place in places:
        for number, entry in enumerate(entries[done:place], done):
            match entry:
                case Said(fact):
                    facts.append(fact)
                case Opened(name):
                    if name not in shown:
                        shown[name] = _Inode()
                        unsure.append((name, shown[name]))
                case Deleted(name, with_folder):
                    del shown[name]
                    unsure.append((name, None))
                    if with_folder:
                        _settle(certain, unsure)
                case Synced(name, since, with_folder):
                    shown[name].sync(since)
                    if with_folder:
                        _settle(certain, unsure)
                case Written(name) | Truncated(name):
                    shown[name].unsynced.append((number, entry))
        done = place
        folder = dict(certain)
        _settle(folder, unsure[: chance.randint(0, len(unsure))])
        loss = chance.choice((0.1, 0.5, 0.9, 1.0))
        files = {name: inode.after_a_cut(chance, loss=loss) for name, inode in folder.items()}
        yield Image(place, files, tuple(facts))


def _settle(folder: dict[str, _Inode], changes: list[tuple[str, _Inode | None]]) -> None:
    for name, inode in changes:
        if inode is None:
            folder.pop(name, None)
        else:
            folder[name] = inode
    changes.clear()


def _sectors(entry: Written) -> Iterator[tuple[int, bytes]]:
    offset, data = entry.offset, entry.data
    while data:
        size = SECTOR - offset % SECTOR
        yield offset, data[:size]
        offset, data = offset + size, data[size:]


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
