"""Standard output kept for forecasts: what a plugin's library prints there goes to standard error instead."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_alone = threading.RLock()  # a second thread would take what the first put in its place for standard output


@contextmanager
def stdout_aside() -> Iterator[None]:
    """Send file descriptor 1 to 2 for the duration of a ``with``: a library's remark would end up within the JSON.

    What other threads of the process print meanwhile goes to standard error too; one that wants the same waits.
    """
    with _alone:
        sys.stdout.flush()
        flush = ctypes.CDLL(None).fflush
        flush(None)
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            yield
        finally:
            flush(None)  # C's own buffer, which a pipe makes it keep
            os.dup2(kept, 1)
            os.close(kept)
