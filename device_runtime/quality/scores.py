"""Scores of one forecast against the targets that arrived: sums only, so that any set of forecasts can be added up.

The workstation's evaluation uses the same functions: `Sums` over the same windows gives the same figures as
``edge-tsfm evaluate``. A missing target is only counted as missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError

FloatArray = NDArray[np.float64]

INTERVAL = (0.1, 0.9)  # the 80 % interval
MEDIAN = 0.5
# Places of a sum, before one for each quantile level: the pinball losses.
WINDOWS, STEPS, MISSING, SIZE, INSIDE, RANGED, SCALED, SCALES = range(8)
PLACES = 8


def pinball(quantiles: FloatArray, target: FloatArray, levels: FloatArray) -> FloatArray:
    """Return the pinball loss ``[..., Q]`` of quantiles ``[..., Q]`` for targets ``[...]``, in the target's unit."""
    miss = target[..., None] - quantiles
    loss: FloatArray = np.maximum(levels * miss, (levels - 1) * miss)
    return loss


def in_context_scale(context: NDArray[np.floating]) -> FloatArray:
    """Return ``[N]`` of contexts ``[N, L]``: mean absolute one-step change over neighbours that are both observed.

    0 where there are none.
    """
    change = np.abs(np.diff(context.astype(np.float64), axis=1))  # [N, L - 1]
    seen = ~np.isnan(change)
    scale: FloatArray = np.where(seen, change, 0).sum(1) / np.maximum(seen.sum(1), 1)
    return scale


def reaches(levels: FloatArray, level: float) -> bool:
    """Whether a level can be computed from quantiles at ``levels`` ``[Q]``."""
    return bool(levels[0] - 1e-6 <= level <= levels[-1] + 1e-6)


def at_level(quantiles: FloatArray, levels: FloatArray, level: float) -> FloatArray:
    """Read one level that ``levels`` `reaches` off ``[..., Q]``, linearly between its neighbours where it is no level.

    Levels are at least one; of a single one that is all there is to read.
    """
    if len(levels) == 1:
        return quantiles[..., 0]
    right = int(np.clip(np.searchsorted(levels, level), 1, len(levels) - 1))
    share = float((level - levels[right - 1]) / (levels[right] - levels[right - 1]))
    if abs(share - round(share)) < 1e-6:  # one of the levels itself, whatever float32 made of it
        share = float(round(share))
    found: FloatArray = (1 - share) * quantiles[..., right - 1] + share * quantiles[..., right]
    return found


def score(
    quantiles: NDArray[np.floating], target: NDArray[np.floating], levels: FloatArray, scale: float
) -> FloatArray:
    """Score a forecast ``[H, Q]`` against its targets ``[H]``, NaN for missing: the places of a `Sums`.

    ``scale`` is the context's `in_context_scale`.
    """
    out = np.zeros(PLACES + len(levels))
    seen = ~np.isnan(target)
    count = int(seen.sum())
    out[STEPS], out[MISSING] = count, len(target) - count
    if not count:
        return out
    y, q = target[seen].astype(np.float64), quantiles[seen].astype(np.float64)  # [K], [K, Q]
    out[WINDOWS] = 1
    out[SIZE] = np.abs(y).sum()
    out[PLACES:] = pinball(q, y, levels).sum(0)
    if all(reaches(levels, level) for level in INTERVAL):
        low, high = (at_level(q, levels, level) for level in INTERVAL)
        out[INSIDE] = ((low <= y) & (y <= high)).sum()
        out[RANGED] = count
    if scale > 0 and reaches(levels, MEDIAN):
        out[SCALED] = np.abs(at_level(q, levels, MEDIAN) - y).mean() / scale
        out[SCALES] = 1
    return out


def loss(scored: FloatArray) -> float:
    """Return the numerator of WQL in what `score` returned: twice the pinball loss, mean over levels, in the unit."""
    return float(2 * scored[PLACES:].mean())


@dataclass
class Sums:
    """Streaming sums of scores: Q + 8 parameters, whatever they are of."""

    values: FloatArray  # [8 + Q], as `score` returns

    @classmethod
    def none(cls, levels: int) -> Sums:
        """Begin with nothing scored."""
        return cls(np.zeros(PLACES + levels))

    @property
    def steps(self) -> float:
        """Scored steps; a whole number unless something was forgotten."""
        return float(self.values[STEPS])

    @property
    def wql(self) -> float:
        """Weighted quantile loss; NaN where nothing was scored."""
        return _ratio(loss(self.values), self.values[SIZE])

    @property
    def mase(self) -> float:
        """Mean absolute scaled error of the median, averaged over forecasts whose context changes; NaN without any."""
        return _ratio(self.values[SCALED], self.values[SCALES])

    @property
    def coverage(self) -> float:
        """Share of targets within the 80 % band; NaN where the levels do not reach from 0.1 to 0.9."""
        return _ratio(self.values[INSIDE], self.values[RANGED])

    @property
    def missing(self) -> float:
        """Share of forecast steps whose target never came."""
        return _ratio(self.values[MISSING], self.values[MISSING] + self.values[STEPS])

    def pinball(self) -> tuple[float, ...]:
        """Mean pinball loss for each level ``[Q]``, in the target's unit."""
        return tuple(_ratio(value, self.values[STEPS]) for value in self.values[PLACES:])

    def figures(self) -> dict[str, Any]:
        """Return the figures as plain values, None where nothing was scored."""
        named = {"wql": self.wql, "mase": self.mase, "coverage": self.coverage, "missing": self.missing}
        return {
            "steps": round(self.steps, 3),
            **{name: None if math.isnan(value) else value for name, value in named.items()},
            "pinball": [None if math.isnan(value) else value for value in self.pinball()],
        }


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else math.nan


def sums_of(value: Sequence[float], levels: int) -> Sums:
    """Decode sums. Raises `FormatError` for another number of them, or one that no scores add up to."""
    values = np.asarray(value, dtype=np.float64)
    if values.shape != (PLACES + levels,) or not np.isfinite(values).all() or (values < 0).any():
        raise FormatError(f"quality: want {PLACES + levels} sums that are not negative, got {len(value)} parameters")
    return Sums(values)
