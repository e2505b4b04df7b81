"""Tracking one patient's stream during a stay: calibration offsets and the width factor, applied to issued forecasts.

Its state is a few numbers for each series, in memory only, and is discarded at the end of a stay. It learns from the
forecasts as they were issued. It changes quantiles, never an adapter, and never prevents a forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.rules import DENSE_MS, AdaptRules
from device_runtime.adapt.tracking import Tracking
from device_runtime.errors import InputError
from device_runtime.quality.pending import Made, Series, Waiting
from device_runtime.update.stays import MAX_SERIES

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """Quantiles that were moved, and by how much experience."""

    quantiles: FloatArray  # [H, Q]
    updates: int  # forecasts of this stay that were learnt from
    width: float  # the factor on the width


@dataclass
class _One:
    """One series."""

    tracking: Tracking
    waiting: Series


class Following:
    """Tracks every series of one signal."""

    def __init__(self, rules: AdaptRules, *, interval_ms: int, late_steps: int) -> None:
        """``rules`` are those that settings and envelope allow together."""
        offsets = rules.offset_rate if rules.long_stream and interval_ms <= DENSE_MS else 0.0
        self._rates = {"offset_rate": offsets, "width_rate": rules.width_rate, "cap": rules.cap_tracking}
        self._interval_ms, self._late_steps = interval_ms, late_steps
        self._series: dict[str, _One] = {}

    @property
    def moves(self) -> bool:
        """Whether there is anything to move."""
        return self._rates["offset_rate"] > 0 or self._rates["width_rate"] > 0

    def observe(self, t_ms: int, value: float, *, series: str) -> None:
        """Take a sample; what it completes is learnt from."""
        one = self._series.get(series)
        if one is None:
            return
        for arrived in one.waiting.observe(t_ms, value):
            one.tracking.learn(arrived.forecast.made.quantiles, arrived.target)

    def end_stay(self, *, series: str) -> None:
        """Forget the person."""
        self._series.pop(series, None)

    def move(self, quantiles: FloatArray, levels: tuple[float, ...], t_ms: int, *, series: str) -> Moved | None:
        """Move a forecast ``[H, Q]`` from the step of ``t_ms``, and wait for its targets.

        A forecast from a later step than the newest sample's is moved and not learnt from. None where it is left as it
        is: levels that cannot be tracked, a forecast of another shape, numbers beyond all floats.
        """
        one = self._series.get(series)
        if one is None:
            if len(self._series) >= MAX_SERIES:
                return None
            try:
                tracking = Tracking(levels, len(quantiles), **self._rates)
            except InputError:
                return None
            one = self._series[series] = _One(tracking, Series(self._interval_ms, late_steps=self._late_steps))
            list(one.waiting.observe(t_ms, 0.0))  # it begins at this step
        tracking = one.tracking
        if tuple(tracking.levels) != tuple(levels) or len(quantiles) > len(tracking.offsets):
            return None
        moved = tracking.apply(quantiles)
        if not np.isfinite(moved).all():
            tracking.reset()
            return None
        newest = one.waiting.newest
        if newest is not None and t_ms // self._interval_ms <= newest and one.waiting.takes(*moved.shape):
            made = Made(adapter=None, quantiles=moved)
            one.waiting.remember(Waiting(origin=newest, levels=levels, scale=0.0, made=made, shadows={}))
        return Moved(quantiles=moved, updates=tracking.updates, width=tracking.factor)
