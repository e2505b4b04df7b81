"""The remaining time of work, right from the first minute: each kind of work is counted and timed separately.

A training run has steps, validation passes and the gate's forecasts, which differ in cost by a factor of a hundred; a
bar that divides elapsed time by finished steps is wrong until the end. The first unit of a kind, which includes the
start-up of memory, threads and kernels, is left out as soon as there is a second.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RECENT = 64  # units of a kind that its pace is the mean of


class Work:
    """A plan, what of it is done, and at which pace. ``clock`` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, float] = {}  # kind → units left
        self._recent: dict[str, deque[tuple[float, float]]] = {}  # kind → (seconds, units) of each report
        self._cold: set[str] = set()  # kinds of which only the first report is known
        self._spent = 0.0

    def plan(self, **units: float) -> None:
        """Set how many units of each kind are still to be done."""
        self._open |= {kind: max(0.0, float(count)) for kind, count in units.items()}

    @contextmanager
    def timed(self, kind: str, units: float = 1) -> Iterator[None]:
        """Time a piece of work of ``units`` of a kind."""
        start = self._clock()
        yield
        self.add(kind, self._clock() - start, units)

    def add(self, kind: str, seconds: float, units: float = 1) -> None:
        """Count ``units`` of a kind as done in ``seconds``."""
        recent = self._recent.setdefault(kind, deque(maxlen=RECENT))
        if kind in self._cold:
            recent.clear()
            self._cold.discard(kind)
        elif not recent:
            self._cold.add(kind)
        recent.append((seconds, units))
        self._spent += seconds
        self._open[kind] = max(0.0, self._open.get(kind, 0.0) - units)

    @property
    def left(self) -> float | None:
        """Seconds that the rest of the plan takes; None while the pace of some of it is not known."""
        total = 0.0
        for kind, units in self._open.items():
            if not units:
                continue
            recent = self._recent.get(kind)
            if not recent:
                return None
            total += units * sum(seconds for seconds, _ in recent) / sum(count for _, count in recent)
        return total

    @property
    def share(self) -> float:
        """Share of the plan's time that is done, 0 to 1; 0 while it is not known."""
        left = self.left
        return 0.0 if left is None or not self._spent + left else self._spent / (self._spent + left)


def say_seconds(seconds: float) -> str:
    """Write a time left: ``40 s``, ``12 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
