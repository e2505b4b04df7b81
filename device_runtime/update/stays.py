"""From a feed of samples to the values of finished stays, in bounded memory, to learn from.

A stay is the part of a series between two ends: an event, another item, a gap, or a clock that was set. Steps are those
of `device_runtime.forecast.stream`: for the newest step the sample with the latest timestamp is used, a late sample
fills an earlier step that is still missing, any other is dropped.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.learner import Stay

FloatArray = NDArray[np.float32]
MAX_STEPS = 16_384  # of one stay that are kept, the latest: 64 KiB
MAX_SERIES = 64
QUEUE = 32  # finished stays that wait for an idle moment; the oldest gives way
LEAST_GAP, LEAST_GAP_MS = 48, 600_000  # a gap is the longer of both, if its length is not set


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


class Feeds:
    """Several series, as beds, and the finished stays that wait."""

    def __init__(self, *, gap_steps: int) -> None:
        self.left_out = 0  # stays that no idle moment came for, samples of more series than are followed
        self._gap_steps = gap_steps
        self._feeds: dict[str, Feed] = {}
        self._waiting: deque[Stay] = deque()

    def observe(self, t_ms: int, value: float, *, interval_ms: int, series: str) -> None:
        """Take a sample."""
        feed = self._feeds.get(series)
        if feed is None or feed.interval_ms != interval_ms:
            if feed is None and len(self._feeds) >= MAX_SERIES:
                self.left_out += 1
                return
            self.end_stay(series=series)
            feed = self._feeds[series] = Feed(interval_ms, gap_steps=self._gap_steps)
        newest = feed.newest_ms
        self._queue(feed.observe(t_ms, value), newest)

    def end_stay(self, *, series: str) -> None:
        """The stay of a series is over."""
        feed = self._feeds.get(series)
        if feed is not None:
            newest = feed.newest_ms
            self._queue(feed.end(), newest)

    def _queue(self, values: FloatArray | None, end_ms: int) -> None:
        """Queue a finished stay."""
        if values is None:
            return
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            self.left_out += 1
        self._waiting.append(Stay(values=values, end_ms=end_ms))

    def next(self) -> Stay | None:
        """Take the oldest stay that waits."""
        return self._waiting.popleft() if self._waiting else None

    @property
    def waiting(self) -> int:
        """How many stays wait."""
        return len(self._waiting)

    def forget(self) -> None:
        """Forget every sample."""
        self._feeds.clear()
        self._waiting.clear()
