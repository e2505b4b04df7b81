"""From a feed of samples to the values of finished stays, in bounded memory: what a monitor learns from.

A stay is what one series brought between two ends: an event, another item, a gap, or a clock that was set. Steps are
those of `device_runtime.forecast.stream`: of the newest step the sample with the latest time stamp stands for it, an
earlier step that is still missing is filled by a late sample, anything else is dropped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
MAX_STEPS = 16_384  # of one stay that are kept, the latest: 64 KiB
MAX_SERIES = 64
LEAST_GAP, LEAST_GAP_MS = 48, 600_000  # a gap is the longer of both, where nobody says how long one is


class Feed:
    """One series: the stay that goes on."""

    def __init__(self, interval_ms: int, *, gap_steps: int = 0) -> None:
        """``gap_steps`` without a sample end a stay; 0: 48, or as many as 10 minutes have."""
        self.interval_ms = interval_ms
        self._gap = gap_steps or max(LEAST_GAP, LEAST_GAP_MS // interval_ms)
        self._begin()

    def _begin(self) -> None:
        self._values: list[float] = []  # one for each step up to the newest
        self._newest, self._stamp = 0, 0

    @property
    def steps(self) -> int:
        """Steps of the stay so far that are held."""
        return len(self._values)

    @property
    def newest_ms(self) -> int:
        """When the newest sample of the stay was taken."""
        return self._stamp

    def observe(self, t_ms: int, value: float) -> FloatArray | None:
        """Take a sample; return the values of the stay before it, where it begins another."""
        if not math.isfinite(value):
            return None
        step, finished = t_ms // self.interval_ms, None
        if self._values and abs(step - self._newest) > self._gap:
            finished = self.end()
        if not self._values:
            self._newest, self._stamp, self._values = step, t_ms, [value]
        elif step > self._newest:
            self._values += [math.nan] * (step - self._newest - 1) + [value]
            self._newest, self._stamp = step, t_ms
            del self._values[:-MAX_STEPS]
        elif step == self._newest:
            if t_ms > self._stamp:
                self._values[-1], self._stamp = value, t_ms
        else:
            place = len(self._values) - 1 - (self._newest - step)
            if place >= 0 and math.isnan(self._values[place]):
                self._values[place] = value
        return finished

    def end(self) -> FloatArray | None:
        """The stay is over: return its values ``[T]``, NaN for missing, None where there are none."""
        values = self._values
        self._begin()
        return np.array(values, dtype=np.float32) if values else None
