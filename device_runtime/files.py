"""The full write protocol for one small file, and bounded reads."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from device_runtime.errors import DeviceRuntimeError, SizeError, StorageError


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data`` so that a power cut leaves the old file or the new one, whole.

    Temporary sibling, fsync, rename, fsync of the folder: each of the four is needed
    (without the last, an acknowledged write can be lost). ``mode`` is for what others must not read. Raises
    `StorageError`.
    """
    folder = path.parent
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        sync_folder(folder)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}", hint="check space and permissions"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the renames and unlinks in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bounded(path: Path, limit: int) -> bytes:
    """Read ``path``, refusing more than ``limit`` bytes before allocating for them.

    Raises `SizeError` over the limit and `StorageError` when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise SizeError(f"{path} has more than {limit} bytes")
    return data


@contextlib.contextmanager
def about(file: object) -> Iterator[None]:
    """Put the file's name in front of an error that is raised inside and does not say it: pure code knows no names."""
    try:
        yield
    except DeviceRuntimeError as error:
        if str(file) not in str(error.args[0]):
            error.args = (f"{file}: {error.args[0]}", *error.args[1:])
        raise
