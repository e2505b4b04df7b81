"""Samples in one at a time, a context out: one ring buffer for each channel, on a regular grid of steps.

Documented rules (docs/stream.md), each with a count in `Stream.counts`:

* a step is ``floor(t / interval)``; the latest sample of the newest step stands for it (``replaced`` counts others);
* a step without a sample is missing (NaN), never filled in;
* a late sample fills its step if that is still missing and in the buffer (``late``), else it is dropped (``dropped``);
* a repeated time stamp is a duplicate and is ignored (``duplicate``);
* a sample with bad quality, not finite, or outside of the channel's range makes its step missing (``rejected``);
* a jump ahead by the whole buffer or more empties it (``restarted``): what lies before it says nothing any more.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.forecaster import Forecast, Forecaster


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One measured quantity on a regular grid."""

    name: str
    interval_ms: int  # time between steps
    low: float = -math.inf  # values outside of [low, high] are missing, in the channel's unit
    high: float = math.inf

    def __post_init__(self) -> None:
        """Refuse an interval that is not positive."""
        if self.interval_ms < 1:
            raise InputError(f"channel {self.name}: interval_ms {self.interval_ms}: want at least 1")


@dataclass
class _Ring:
    """The last steps of one channel, oldest first when read."""

    values: NDArray[np.float32]  # [L], NaN for missing
    newest: int | None = None  # step number
    seen: set[int] = field(default_factory=set)  # time stamps within the buffer, for duplicates


class Stream:
    """Forecasts from a live feed. `push` is O(1); `forecast` runs the model. Not thread-safe: one feed, one stream."""

    def __init__(
        self,
        forecaster: Forecaster,
        channels: tuple[Channel, ...],
        *,
        context_length: int = 48,
        min_observed: int = 12,
    ) -> None:
        if not 1 <= min_observed <= context_length:
            raise InputError(f"min_observed {min_observed}: want 1 to context_length {context_length}")
        self.forecaster = forecaster  # a swap is an assignment: the next forecast uses the new one
        self.min_observed = min_observed
        self.counts: Counter[str] = Counter()
        self._channels = {channel.name: channel for channel in channels}
        self._rings = {name: _Ring(np.full(context_length, np.nan, dtype=np.float32)) for name in self._channels}

    def push(self, channel: str, t_ms: int, value: float, *, good: bool = True) -> bool:
        """Take one sample; return whether it began a new step. Raises `InputError` for an unknown channel."""
        if channel not in self._channels:
            raise InputError(f"unknown channel {channel!r}; this stream has {', '.join(self._channels)}")
        kind, ring = self._channels[channel], self._rings[channel]
        if t_ms in ring.seen:
            self.counts["duplicate"] += 1
            return False
        step, length = t_ms // kind.interval_ms, len(ring.values)
        if ring.newest is not None and step <= ring.newest - length:
            self.counts["dropped"] += 1
            return False
        usable = good and math.isfinite(value) and kind.low <= value <= kind.high
        if not usable:
            self.counts["rejected"] += 1
        ring.seen.add(t_ms)
        stored = np.float32(value) if usable else np.float32(np.nan)
        if ring.newest is None or step > ring.newest:
            self._advance(ring, step, kind.interval_ms)
            ring.values[step % length] = stored
            return True
        place = step % length
        if step == ring.newest:
            self.counts["replaced"] += 1
            if usable:
                ring.values[place] = stored
        elif math.isnan(float(ring.values[place])) and usable:
            self.counts["late"] += 1
            ring.values[place] = stored
        else:
            self.counts["dropped"] += 1
        return False

    def context(self, channel: str) -> NDArray[np.float32]:
        """Return a channel's buffer, ``[L]``, oldest first, NaN for missing steps."""
        ring = self._rings[channel]
        if ring.newest is None:
            return ring.values.copy()
        return np.roll(ring.values, -((ring.newest + 1) % len(ring.values)))

    def forecast(self, channel: str, prediction_length: int | None = None) -> Forecast:
        """Forecast a channel from its buffer. Raises `InputError` below ``min_observed`` observed steps."""
        context = self.context(channel)
        observed = int(np.isfinite(context).sum())
        if observed < self.min_observed:
            raise InputError(f"{channel}: {observed} observed steps, want {self.min_observed}")
        return self.forecaster.forecast(context, prediction_length)

    def _advance(self, ring: _Ring, step: int, interval_ms: int) -> None:
        """Move the newest step ahead; the steps passed over are missing."""
        length = len(ring.values)
        if ring.newest is not None and step - ring.newest >= length:
            self.counts["restarted"] += 1
            ring.values[:] = np.nan
        elif ring.newest is not None:
            for passed in range(ring.newest + 1, step + 1):
                ring.values[passed % length] = np.nan
        ring.newest = step
        oldest = (step - length + 1) * interval_ms
        ring.seen = {stamp for stamp in ring.seen if stamp >= oldest}
