"""The device's one lock: whatever changes the state holds it for the duration of the change."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from device_runtime.errors import LockedError, StorageError
from device_runtime.files import IrregularError, open_regular
from device_runtime.update import disk as files

STATE_LOCK = "lock"
LOCK_WAIT = 10.0  # seconds a command waits for another one to finish its change


@contextlib.contextmanager
def locked(root: Path, name: str = STATE_LOCK, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the device's one lock for the duration of a change, never while waiting for a network.

    ``name`` is another one for polls, so that two agents do not fetch the same. Raises `LockedError` when another
    process holds it for more than ``wait`` seconds.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            handle = open_regular(root / name, os.O_RDWR | os.O_CREAT, 0o640)
        except IrregularError:  # no process holds such a lock, and a revocation must not wait for a person
            files.put_aside(root / name)
            handle = open_regular(root / name, os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise StorageError(f"cannot open {root / name}: {error.strerror or error}") from error
    try:
        _take(handle, root, time.monotonic() + wait)
        yield
    finally:
        os.close(handle)


def _take(handle: int, root: Path, until: float) -> None:
    """Lock an open file, trying until the monotonic time ``until``. Raises `LockedError`."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= until:
                raise LockedError(
                    f"{root} is in use by another process", hint="try again when it has finished"
                ) from error
            time.sleep(0.02)
        else:
            return
