"""The few file operations that device state is made of, as a Protocol, and their POSIX implementation.

Everything the slots, the floor and the audit log write goes through here, one primitive at a time: so a test can
record the primitives and enumerate every state that a power cut may leave (``tests/simulators/disk.py``). Names are
relative to the state folder. ``write``, ``append``, ``rename`` and ``unlink``
promise nothing until ``sync`` (a file's data) and ``sync_folder`` (its name) have returned.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Protocol

from device_runtime.errors import StorageError
from device_runtime.files import read_bounded, sync_folder


class Disk(Protocol):
    """Primitive file operations below one folder."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file's bytes, or None when there is no such file. Raises `SizeError`, `StorageError`."""

    def names(self, folder: str) -> list[str]:
        """List the names in a folder, sorted."""

    def write(self, name: str, data: bytes) -> None:
        """Create or truncate a file and write ``data``."""

    def append(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a file."""

    def sync(self, name: str) -> None:
        """Make a file's data durable."""

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


class PosixDisk:
    """`Disk` on a real file system; every `OSError` becomes a `StorageError` that names the file."""

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
        if not path.exists():
            return None
        return read_bounded(path, limit)

    def names(self, folder: str) -> list[str]:
        """List the names in a folder, sorted; a folder that is not there is empty."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in self._path(folder).iterdir())
        return []

    def write(self, name: str, data: bytes) -> None:
        """Create or truncate a file and write ``data``."""
        self._put(name, data, os.O_TRUNC)

    def append(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a file."""
        self._put(name, data, os.O_APPEND)

    def _put(self, name: str, data: bytes, how: int) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o640)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
        except OSError as error:
            raise self._failed("write", path, error) from error

    def sync(self, name: str) -> None:
        """Make a file's data durable."""
        path = self._path(name)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._failed("sync", path, error) from error

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old``."""
        try:
            self._path(old).replace(self._path(new))
        except OSError as error:
            raise self._failed("rename to", self._path(new), error) from error

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("remove", self._path(name), error) from error

    def sync_folder(self, folder: str) -> None:
        """Make a folder's names durable."""
        path = self._path(folder)
        try:
            sync_folder(path)
        except OSError as error:
            raise self._failed("sync", path, error) from error
