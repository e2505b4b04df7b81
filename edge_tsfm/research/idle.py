"""How busy other processes kept the processors while something was timed: a busy machine makes ratios worthless."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
BUSY = 0.05  # of the processors' time: above it, figures are not to be published
FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class Others:
    """The share of all processors' time that others took since this was made: processes and, as *steal*, machines."""

    def __init__(self) -> None:
        """Begin to count."""
        self._start = _busy_s(), _own_s(), time.monotonic()

    def share(self) -> float | None:
        """Return it, from 0 to 1; None where the system does not say how busy it is.

        The children of this process count as its own once they have ended.
        """
        busy, own, since = self._start
        now = _busy_s()
        if busy is None or now is None:
            return None
        cores = os.cpu_count() or 1
        return min(1.0, max(0.0, (now - busy - (_own_s() - own)) / (cores * (time.monotonic() - since))))


def _busy_s() -> float | None:
    """Return the seconds that all processors together have been busy since the machine started."""
    try:
        first = STAT.read_text(encoding="ascii").splitlines()[0].split()
    except (OSError, IndexError):
        return None
    ticks = dict(zip(FIELDS, map(int, first[1:]), strict=False))
    return sum(count for name, count in ticks.items() if name not in ("idle", "iowait")) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
