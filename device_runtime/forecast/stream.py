"""From single samples to contexts: one buffer for each signal, on a regular grid of steps.

Documented rules (docs/guides/stream.md), each with a count in `Stream.counts`:

* a sample of bad quality, not finite in float32 or outside of the signal's range changes nothing, not even the time
  (``rejected``);
* a step is ``floor(t / interval)``; of the newest step the sample with the latest time stamp stands for it
  (``replaced``), an earlier one does not (``dropped``), one with the same stamp is a ``duplicate``;
* a step without a sample is missing (NaN), never filled in;
* a late sample fills its step if that is still missing and in the buffer (``late``), else it is ``dropped``;
* a sample a whole buffer or more from the newest step, ahead or behind, is a ``stray``: one wrong clock reading must
  not empty the buffer. Strays in a row that agree with one another are a clock that was set: the buffer starts again
  there (``restarted``), after three ahead, after as many as the buffer has steps behind;
* where the feed says that a stay is over, or that the next one's samples come, the buffer starts again (``ended``).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import InputError
from device_runtime.forecast.forecaster import Forecast
from device_runtime.format.binding import Use
from device_runtime.nearest import did_you_mean
from device_runtime.series.options import MIN_OBSERVED

STRAYS_AHEAD = 3  # samples
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Forecasts(Protocol):
    """What a stream forecasts with: a `Forecaster`, or a `Host` that runs what is installed."""

    def forecast(self, context: ArrayLike, prediction_length: int | None = None, *, use: Use | None = None) -> Forecast:
        """Forecast one context ``[L]`` of what ``use`` says."""


@runtime_checkable
class Watched(Protocol):
    """A forecaster that scores its forecasts once their targets are in: a `Host`."""

    def observe(
        self, signal: str, t_ms: int, value: float, *, series: str = "", interval_ms: int | None = None
    ) -> None:
        """Take a sample that the stream took."""

    def end_stay(self, signal: str, *, series: str = "") -> None:
        """Restart, since the feed starts afresh."""

    def forecast(
        self, context: ArrayLike, prediction_length: int | None = None, *, use: Use | None = None, series: str = ""
    ) -> Forecast:
        """Forecast one context ``[L]`` of one feed."""


@dataclass(frozen=True, kw_only=True)
class StreamSignal:
    """One measured quantity of a stream, on a regular grid."""

    name: str  # as the feed's lines call it
    interval_ms: int  # time between steps
    low: float = -math.inf  # values outside of [low, high] are missing, in the signal's unit
    high: float = math.inf
    signal: str = ""  # what is measured, as "MAP"; empty: as its name says

    @property
    def use(self) -> Use:
        """What a forecast of it is of."""
        return Use(signal=self.signal or self.name, interval_us=1_000 * self.interval_ms)

    def __post_init__(self) -> None:
        """Refuse an interval that is not positive."""
        if self.interval_ms < 1:
            raise InputError(f"signal {self.name}: interval_ms {self.interval_ms}: want at least 1")


@dataclass
class _Buffer:
    """The last steps of one signal, oldest first when read."""

    values: NDArray[np.float32]  # [L], NaN for missing
    newest: int | None = None  # step number
    stamp: int = 0  # time of the sample that stands for the newest step
    strays: int = 0  # in a row that agree with one another
    stray_stamp: int = 0  # of the last of them

    def moved(self, t_ms: int, interval_ms: int) -> bool:
        """Take a stray; return whether it and those before it say that the clock was set."""
        assert self.newest is not None
        step, length = t_ms // interval_ms, len(self.values)
        agrees = self.strays > 0 and t_ms > self.stray_stamp and step - self.stray_stamp // interval_ms < length
        self.strays = self.strays + 1 if agrees else 1
        self.stray_stamp = t_ms
        # A backlog that is sent late looks like a clock set back: be slower to believe it.
        return self.strays >= (STRAYS_AHEAD if step > self.newest else length)


class Stream:
    """Forecasts from a live feed. Not thread-safe: one feed, one stream.

    `push` takes constant time, or as long as a gap has steps, at most the buffer's; `forecast` runs the model.
    """

    def __init__(
        self,
        forecaster: Forecasts,
        signals: tuple[StreamSignal, ...],
        *,
        context_length: int = 48,
        min_observed: int = MIN_OBSERVED,
    ) -> None:
        if not 1 <= min_observed <= context_length:
            raise InputError(f"min_observed {min_observed}: want 1 to context_length {context_length}")
        self.forecaster = forecaster  # a swap is an assignment: the next forecast uses the new one
        self.min_observed = min_observed
        self.counts: Counter[str] = Counter()
        self._signals = {one.name: one for one in signals}
        self._items: dict[str, str] = {}  # whose each signal's stay is, where the feed says it
        self._buffers = {name: _Buffer(np.full(context_length, np.nan, dtype=np.float32)) for name in self._signals}

    def push(self, name: str, t_ms: int, value: float, *, good: bool = True) -> bool:
        """Take one sample; return whether it began a new step. Raises `InputError` for an unknown name."""
        kind = self._known(name)
        buffer = self._buffers[name]
        if not (good and kind.low <= value <= kind.high and abs(value) <= FLOAT32_MAX):  # nor is NaN
            self.counts["rejected"] += 1
            return False
        step, length = t_ms // kind.interval_ms, len(buffer.values)
        if buffer.newest is not None and abs(step - buffer.newest) >= length:
            if not buffer.moved(t_ms, kind.interval_ms):
                self.counts["stray"] += 1
                return False
            self.counts["restarted"] += 1
            self._begin(kind, buffer)
        buffer.strays = 0
        place = step % length
        if buffer.newest is None or step > buffer.newest:
            for passed in range(step if buffer.newest is None else buffer.newest + 1, step):
                buffer.values[passed % length] = np.nan
            buffer.values[place], buffer.newest, buffer.stamp = value, step, t_ms
            self._tell(kind, t_ms, value)
            return True
        if step == buffer.newest and t_ms > buffer.stamp:
            self.counts["replaced"] += 1
            buffer.values[place], buffer.stamp = value, t_ms
            self._tell(kind, t_ms, value)
        elif step < buffer.newest and math.isnan(buffer.values[place]):
            self.counts["late"] += 1
            buffer.values[place] = value
            self._tell(kind, t_ms, value)
        else:
            self.counts["duplicate" if t_ms == buffer.stamp else "dropped"] += 1
        return False

    def of_item(self, name: str, item: str) -> None:
        """Note that the next samples are of ``item``, a patient for example; a new item begins a new stay.

        It is held in memory, compared, and goes nowhere else. Raises `InputError` for an unknown name.
        """
        before = self._items.get(name)
        if before is not None and before != item:
            self.end_stay(name)
        self._items[name] = item

    def end_stay(self, name: str) -> None:
        """Note that a stay is over: the buffer is emptied. Raises `InputError` for an unknown name."""
        kind = self._known(name)
        self.counts["ended"] += 1
        self._items.pop(name, None)
        self._begin(kind, self._buffers[name])

    def _begin(self, kind: StreamSignal, buffer: _Buffer) -> None:
        """Empty a signal's buffer: what comes now belongs to another stay, or to another clock."""
        buffer.values[:] = np.nan
        buffer.newest, buffer.strays = None, 0
        if isinstance(self.forecaster, Watched):
            self.forecaster.end_stay(str(kind.use.signal), series=kind.name)

    def _known(self, name: str) -> StreamSignal:
        """Return one of the stream's signals. Raises `InputError`."""
        if name not in self._signals:
            meant = did_you_mean(name, self._signals)
            raise InputError(f"unknown signal {name!r}; {meant}this stream has {', '.join(self._signals)}")
        return self._signals[name]

    def _tell(self, kind: StreamSignal, t_ms: int, value: float) -> None:
        """Pass an accepted sample to a forecaster that scores itself."""
        if isinstance(self.forecaster, Watched):
            self.forecaster.observe(str(kind.use.signal), t_ms, value, series=kind.name, interval_ms=kind.interval_ms)

    def context(self, name: str) -> NDArray[np.float32]:
        """Return a signal's buffer, ``[L]``, oldest first, NaN for missing steps."""
        buffer = self._buffers[name]
        if buffer.newest is None:
            return buffer.values.copy()
        return np.roll(buffer.values, -((buffer.newest + 1) % len(buffer.values)))

    def forecast(self, name: str, prediction_length: int | None = None) -> Forecast:
        """Forecast a signal from its buffer. Raises `InputError` below ``min_observed`` observed steps.

        Raises `SignalMismatchError` when the adapter that runs is for another signal or interval.
        """
        context = self.context(name)
        observed = int(np.isfinite(context).sum())
        if observed < self.min_observed:
            raise InputError(f"{name}: {observed} observed steps, want {self.min_observed}")
        use = self._signals[name].use
        if isinstance(self.forecaster, Watched):
            return self.forecaster.forecast(context, prediction_length, use=use, series=name)
        return self.forecaster.forecast(context, prediction_length, use=use)
