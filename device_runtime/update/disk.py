"""The few file operations on device state, as a Protocol, and their POSIX implementation.

Everything that the slots, the floor and the audit log write goes through here, one primitive at a time, so that a test
can record the primitives and enumerate every state that a power cut may leave (``tests/simulators/disk.py``). Names are
relative to the state folder. ``write``, ``append``, ``cut``, ``link``, ``rename`` and ``unlink`` are not durable until
``sync`` (a file's data) and ``sync_folder`` (its name) have returned.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Protocol

from device_runtime.errors import FormatError, StorageError
from device_runtime.files import IrregularError, open_regular, read_bounded, sync_folder


class Disk(Protocol):
    """Primitive file operations below one folder."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file's bytes, or None when there is no such file.

        Raises `SizeError`, `StorageError`, and `IrregularError` where the name is no regular file's.
        """

    def names(self, folder: str) -> list[str]:
        """List the names in a folder, sorted."""

    def write(self, name: str, data: bytes) -> None:
        """Create a file, or write over one in place, with exactly ``data``: a file of that size needs no new space."""

    def append(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a file."""

    def cut(self, name: str, size: int) -> None:
        """Drop what a file has behind ``size`` bytes."""

    def sync(self, name: str) -> None:
        """Make a file's data durable."""

    def link(self, old: str, new: str) -> bool:
        """Give a file a second name; return whether there is a file and this disk can do that."""

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old``."""

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there."""

    def sync_folder(self, folder: str) -> None:
        """Make a folder's names durable."""


def replace(disk: Disk, name: str, data: bytes) -> None:
    """Replace a file so that a power cut leaves the old one or the new one, whole: the four steps, in order.

    A failed fsync is a failed write: it is not tried again on the same file, whose pages the kernel may have dropped.
    """
    folder, _, base = name.rpartition("/")
    temporary = f"{folder}/.tmp-{base}" if folder else f".tmp-{base}"
    disk.write(temporary, data)
    disk.sync(temporary)
    disk.rename(temporary, name)
    disk.sync_folder(folder)


def replace_in_reserve(disk: Disk, name: str, data: bytes) -> None:
    """Replace a file as `replace` does, without new space: what it replaces is kept as the room for the next time.

    The spare, ``.tmp-NAME``, is written over in place. It is never the file that is in use: a second name holds the
    old file while the new one takes its place, and becomes the spare only when that is durable.
    """
    temporary, old = f".tmp-{name}", f".old-{name}"
    disk.unlink(old)
    disk.write(temporary, data)
    disk.sync(temporary)
    kept = disk.link(name, old)
    disk.rename(temporary, name)
    disk.sync_folder("")
    with contextlib.suppress(StorageError):  # the change is made; a spare can be made again later
        if kept:
            disk.rename(old, temporary)
        reserve(disk, name, len(data))


def reserve(disk: Disk, name: str, size: int) -> None:
    """Reserve space for one replacement of a file by up to ``size`` bytes. Raises `StorageError` when there is none."""
    temporary = f".tmp-{name}"
    try:
        held = disk.read(temporary, max(size, 1 << 20))
    except (FormatError, IrregularError):  # longer than any of ours, or no file: written over, or put aside
        held = None
    if held is None or len(held) < size:
        disk.write(temporary, bytes(size))
        disk.sync(temporary)


class PosixDisk:
    """`Disk` on a real file system; every `OSError` becomes a `StorageError` that names the file.

    Only regular files with one name that this user owns are written over; no link is followed. Anything else is moved
    out of the way and a new file is made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, name: str) -> Path:
        return self.root / name

    @staticmethod
    def _failed(verb: str, path: Path, error: OSError) -> StorageError:
        return StorageError(f"cannot {verb} {path}: {error.strerror or error}", hint="check space and permissions")

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file's bytes, or None when there is no such file."""
        path = self._path(name)
        try:
            path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", path, error) from error
        return read_bounded(path, limit, follow=False)

    def names(self, folder: str) -> list[str]:
        """List the names in a folder, sorted; a folder that is not there is empty."""
        try:
            return sorted(path.name for path in self._path(folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed("list", self._path(folder), error) from error

    def write(self, name: str, data: bytes) -> None:
        """Create a file, or write over one in place, with exactly ``data``."""
        path = self._path(name)
        try:
            with os.fdopen(self._open(path, os.O_WRONLY), "r+b", buffering=0) as file:
                _write_all(file.fileno(), data)
                file.truncate(len(data))
        except OSError as error:
            raise self._failed("write", path, error) from error

    def append(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a file."""
        path = self._path(name)
        try:
            with os.fdopen(self._open(path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0) as file:
                _write_all(file.fileno(), data)
        except OSError as error:
            raise self._failed("write", path, error) from error

    def _open(self, path: Path, flags: int) -> int:
        """Open a file for writing: a plain one of ours, else a new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = open_regular(path, flags)
        except FileNotFoundError:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except IrregularError:
            pass
        else:
            if _is_ours(handle):
                return handle
            os.close(handle)
        put_aside(path)
        return os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def cut(self, name: str, size: int) -> None:
        """Drop what a file has behind ``size`` bytes."""
        path = self._path(name)
        try:
            with os.fdopen(open_regular(path, os.O_RDWR), "r+b", buffering=0) as file:
                if _is_ours(file.fileno()):
                    file.truncate(size)
                    return
                kept = file.read(size) or b""
        except OSError as error:
            raise self._failed("cut", path, error) from error
        self.write(name, kept)  # into a file of our own

    def sync(self, name: str) -> None:
        """Make a file's data durable."""
        path = self._path(name)
        try:
            handle = open_regular(path, os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._failed("sync", path, error) from error

    def link(self, old: str, new: str) -> bool:
        """Give a file a second name; return whether there is a file and this disk can do that."""
        try:
            os.link(self._path(old), self._path(new), follow_symlinks=False)
        except OSError:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old``."""
        path = self._path(new)
        try:
            if _is_folder(path):
                put_aside(path)
            self._path(old).replace(path)
        except OSError as error:
            raise self._failed("rename to", path, error) from error

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there."""
        path = self._path(name)
        try:
            put_aside(path) if _is_folder(path) else path.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("remove", path, error) from error

    def sync_folder(self, folder: str) -> None:
        """Make a folder's names durable."""
        path = self._path(folder)
        try:
            sync_folder(path)
        except OSError as error:
            raise self._failed("sync", path, error) from error


def _is_ours(handle: int) -> bool:
    """Whether an open file has a single hard link and belongs to this user, so that writing changes no other file."""
    found = os.fstat(handle)
    return found.st_nlink == 1 and found.st_uid == os.geteuid()


def _write_all(handle: int, data: bytes) -> None:
    """Write every byte; a disk that takes a part and then no more raises at the rest."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _is_folder(path: Path) -> bool:
    """Whether a name is a folder's own, not a link's to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def put_aside(path: Path) -> None:
    """Free a name: a folder keeps what is in it, under another name; anything else is removed. Raises `OSError`."""
    if _is_folder(path):
        path.rename(path.with_name(f".junk-{path.name.lstrip('.')}-{time.time_ns()}"))
    else:
        path.unlink(missing_ok=True)
