"""Opening, reading and replacing single files: regular files only, bounded in size, complete after a power cut."""

import contextlib
import errno
import glob
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from device_runtime.errors import DeviceRuntimeError, SizeError, StorageError
from device_runtime.nearest import did_you_mean_path

TEMPORARY = ".tmp"


class IrregularError(StorageError):
    """Where a file should be there is a link, a folder, a FIFO or a device."""


def open_regular(path: Path, flags: int, mode: int = 0o640, *, follow: bool = False) -> int:
    """Open a regular file and nothing else; return its descriptor.

    A FIFO or a device never makes it wait, and a symbolic link is refused unless ``follow``. Raises `OSError`, and
    `IrregularError` for anything that is no regular file.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a FIFO without a reader, a folder
            raise _irregular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _irregular(path)
    return handle


def _irregular(path: Path) -> IrregularError:
    return IrregularError(f"{path} is not a regular file", hint="find out who put it there, then remove it")


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data`` so that a power cut leaves the old file or the new one, whole.

    Temporary sibling, fsync, rename, fsync of the folder: each of the four is needed
    (without the last, an acknowledged write can be lost). ``mode`` is for what others must not read. Raises
    `StorageError`.
    """
    folder = path.parent
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=TEMPORARY)
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


def remove_temporaries(path: Path) -> None:
    """Remove what power cuts left of `write_atomic` to ``path``: for the only process that writes it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????{TEMPORARY}"):
        with contextlib.suppress(OSError):  # it is in nobody's way, and the next start tries again
            left.unlink()


def sync_folder(folder: Path) -> None:
    """Make the renames and unlinks in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bounded(path: Path, limit: int, *, follow: bool = True) -> bytes:
    """Read the regular file ``path``, refusing more than ``limit`` bytes before allocating for them.

    Raises `SizeError` over the limit, `IrregularError` for anything but a regular file (with ``follow``, or a link to
    one) and `StorageError` when it cannot be read.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY, follow=follow), "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint=did_you_mean_path(path) or None) from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise SizeError(f"{path} has more than {limit} bytes")
    return data


@contextlib.contextmanager
def about(file: object) -> Iterator[None]:
    """Prefix errors raised inside with the file's name, which pure code does not know."""
    try:
        yield
    except DeviceRuntimeError as error:
        if str(file) not in str(error.args[0]):
            error.args = (f"{file}: {error.args[0]}", *error.args[1:])
        raise
