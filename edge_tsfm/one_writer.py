"""One writer per folder at a time: two would mix their files into a result of neither."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from edge_tsfm.errors import InUseError

LOCK_FILE = ".edge-tsfm.lock"
PAUSE = 0.05  # seconds between two tries


@contextlib.contextmanager
def only_writer(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Make ``folder`` and hold it until the ``with`` ends; another that asks for it meanwhile is refused.

    The kernel holds the lock, so one that a killed process left behind is free. ``wait`` is how many seconds to try.
    Raises `InUseError` naming the process that holds it, and `OSError` where the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    handle = _take(path, time.monotonic() + wait)
    try:
        os.ftruncate(handle, 0)
        with contextlib.suppress(OSError):  # whose it is, for a message: not worth an error on a full disk
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go: who waits sees that it is not the folder's lock any more
        os.close(handle)


def is_empty(folder: Path) -> bool:
    """Return whether ``folder`` holds nothing but a lock, or is not there."""
    return not folder.exists() or all(one.name == LOCK_FILE for one in folder.iterdir())


def _take(path: Path, until: float) -> int:
    """Open and lock the file ``path``, trying until the monotonic time ``until``; return its handle."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except OSError as error:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(handle)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise InUseError(
                    f"{path.parent}: this file system cannot lock a file: {error.strerror}",
                    hint="write to a local disk",
                ) from error
            if time.monotonic() >= until:
                raise InUseError(
                    f"{path.parent} is being written by {holder}", hint="wait for it, or write to another folder"
                ) from error
            time.sleep(PAUSE)
        else:
            os.close(handle)  # the one before removed it between our opening and locking


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the open file is still the one at ``path``."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(handle)
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
