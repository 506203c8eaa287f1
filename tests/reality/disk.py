"""A disk that remembers what SQLite did to it, so that its power can be cut at any moment, and that may fail.

It stands below the SQLite library that Python's own driver uses, as a VFS around the system's: the engine, the driver
and the library are the ones that users have. What happens to the files of one folder is carried out, and noted in
order; `tests.reality.power` builds from the notes what a disk may hold after a power cut.
"""

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, cast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest

# Of the flags of xOpen: a super-journal, a main journal, a write-ahead log. Their first sync syncs the folder too.
JOURNALS = 0x00004000 | 0x00000800 | 0x00080000


@dataclass(frozen=True, slots=True)
class Opened:
    """A file was opened, and made if it was not there."""

    name: str


@dataclass(frozen=True, slots=True)
class Written:
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """What was noted of the file before `since` is there for good."""

    name: str
    since: int
    with_folder: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    name: str
    with_folder: bool


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody was told something: from here on it has to be true."""

    fact: object


Entry: TypeAlias = Opened | Written | Truncated | Synced | Deleted | Said


@dataclass(slots=True, eq=False)
class Disk:
    """The notes of one folder, and what goes wrong in it."""

    folder: Path
    has_shared_memory: bool = True
    """False: as a file system on which WAL is not possible."""
    entries: list[Entry] = field(default_factory=list)
    write_error: int = sqlite3.SQLITE_OK
    """The answer to every write from now on; nothing is written."""
    sync_error: int = sqlite3.SQLITE_OK
    """The answer to every sync from now on; what was written stays where it is."""

    def say(self, fact: object) -> None:
        """Note that somebody was told this."""
        self.entries.append(Said(fact))

    def fail(self, *, writing: int = sqlite3.SQLITE_OK, syncing: int = sqlite3.SQLITE_OK) -> None:
        """Answer every write and every sync with these codes; called without any: be well again."""
        self.write_error, self.sync_error = writing, syncing


@contextmanager
def recorded(folder: Path, *, has_shared_memory: bool = True) -> Generator[Disk]:
    """Take note of everything that SQLite does in this folder, for databases opened in the block."""
    disk = Disk(folder.resolve(), has_shared_memory)
    shim = _the_shim()
    shim.attach(disk)
    try:
        yield disk
    finally:
        shim.detach(disk)


class _Methods(Structure):
    """`sqlite3_io_methods`."""

    xClose: int
    xWrite: int
    xTruncate: int
    xSync: int
    iVersion: int
    _fields_: ClassVar[Any] = [
        ("iVersion", c_int),
        *(
            (name, c_void_p)
            for name in (
                "xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock",
                "xCheckReservedLock", "xFileControl", "xSectorSize", "xDeviceCharacteristics", "xShmMap",
                "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
            )
        ),
    ]  # fmt: skip


class _File(Structure):
    """`sqlite3_file`: whatever follows its first member is the system's own."""

    pMethods: int
    _fields_: ClassVar[Any] = [("pMethods", c_void_p)]


class _Vfs(Structure):
    """`sqlite3_vfs`."""

    zName: bytes
    xOpen: int
    xDelete: int
    _fields_: ClassVar[Any] = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        *(
            (name, c_void_p)
            for name in (
                "xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose",
                "xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64", "xSetSystemCall",
                "xGetSystemCall", "xNextSystemCall",
            )
        ),
    ]  # fmt: skip


# Paths as addresses: the system's file keeps the pointer that it was opened with.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)


@dataclass(slots=True)
class _Handle:
    disk: Disk
    name: str
    syncs_folder: bool


class _Shim:
    """The VFS. SQLite keeps pointers into it for as long as a connection lives, so it is never taken down."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        self._system = self._library.sqlite3_vfs_find(None)
        self._disks: dict[Path, Disk] = {}
        self._handles: dict[int, _Handle] = {}
        self._tables: dict[tuple[int, bool], _Methods] = {}
        self._kept: list[object] = []
        self._vfs = _Vfs.from_buffer_copy(self._system.contents)
        self._vfs.zName = b"recorded"
        self._open_file = _Open(self._vfs.xOpen)
        self._delete_file = _Delete(self._vfs.xDelete)
        self._vfs.xOpen = self._pointer(_Open(self._open))
        self._vfs.xDelete = self._pointer(_Delete(self._delete))

    def attach(self, disk: Disk) -> None:
        self._disks[disk.folder] = disk
        self._library.sqlite3_vfs_register(byref(self._vfs), 1)

    def detach(self, disk: Disk) -> None:
        del self._disks[disk.folder]
        if not self._disks:
            self._library.sqlite3_vfs_register(self._system, 1)

    def _pointer(self, function: Any) -> int:
        self._kept.append(function)
        return cast(function, c_void_p).value or 0

    def _place(self, path: int | None) -> tuple[Disk, str] | None:
        """The disk and the name of what this path leads to; None if it is no concern of ours."""
        if path is None:
            return None
        place = Path(ctypes.string_at(path).decode())
        disk = self._disks.get(place.parent)
        return None if disk is None else (disk, place.name)

    def _open(self, vfs: int, path: int | None, address: int, flags: int, flags_out: int) -> int:
        code = int(self._open_file(vfs, path, address, flags, flags_out))
        place = self._place(path)
        if code == sqlite3.SQLITE_OK and place is not None:
            disk, name = place
            file = _File.from_address(address)
            self._handles[address] = _Handle(disk, name, bool(flags & JOURNALS))
            file.pMethods = ctypes.addressof(self._table(file.pMethods, disk.has_shared_memory))
            disk.entries.append(Opened(name))
        return code

    def _delete(self, vfs: int, path: int, sync_folder: int) -> int:
        code = int(self._delete_file(vfs, path, sync_folder))
        place = self._place(path)
        if code == sqlite3.SQLITE_OK and place is not None:
            disk, name = place
            disk.entries.append(Deleted(name, bool(sync_folder)))
        return code

    def _table(self, address: int, has_shared_memory: bool) -> _Methods:
        """The methods of a file of this kind, ours around them."""
        if (address, has_shared_memory) in self._tables:
            return self._tables[address, has_shared_memory]
        system = _Methods.from_address(address)
        write_file, truncate_file = _Write(system.xWrite), _Truncate(system.xTruncate)
        sync_file, close_file = _Sync(system.xSync), _Close(system.xClose)

        def write(file: int, data: int, size: int, offset: int) -> int:
            handle = self._handles[file]
            if handle.disk.write_error:
                return handle.disk.write_error
            # Noted first: from here on it may be on the disk.
            handle.disk.entries.append(Written(handle.name, offset, ctypes.string_at(data, size)))
            return int(write_file(file, data, size, offset))

        def truncate(file: int, size: int) -> int:
            handle = self._handles[file]
            handle.disk.entries.append(Truncated(handle.name, size))
            return int(truncate_file(file, size))

        def sync(file: int, flags: int) -> int:
            handle = self._handles[file]
            if handle.disk.sync_error:
                return handle.disk.sync_error
            since = len(handle.disk.entries)
            code = int(sync_file(file, flags))
            if code == sqlite3.SQLITE_OK:
                handle.disk.entries.append(Synced(handle.name, since, handle.syncs_folder))
                handle.syncs_folder = False
            return code

        def close(file: int) -> int:
            del self._handles[file]
            return int(close_file(file))

        table = _Methods.from_buffer_copy(system)
        table.xWrite = self._pointer(_Write(write))
        table.xTruncate = self._pointer(_Truncate(truncate))
        table.xSync = self._pointer(_Sync(sync))
        table.xClose = self._pointer(_Close(close))
        if not has_shared_memory:
            table.iVersion = 1
        self._tables[address, has_shared_memory] = table
        return table


@cache
def _the_shim() -> _Shim:
    # A driver that is part of the interpreter has no file of its own.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    if not hasattr(library, "sqlite3_vfs_find"):
        pytest.skip("this Python hides its SQLite library: there is no way below it")
    return _Shim(library)
