"""A feed whose best forecast is known, and forecasters that are worse than that by a known amount."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import ForecastError

LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
PHI, NOISE, MEAN = 0.9, 2.0, 80.0


def feed(steps: int, seed: int, interval_ms: int = 3_600_000) -> Iterator[tuple[int, float]]:
    """Give ``(t_ms, value)`` of an autoregressive walk around 80."""
    rng = np.random.default_rng(seed)
    value = MEAN
    for step in range(steps):
        value = MEAN + PHI * (value - MEAN) + NOISE * rng.normal()
        yield step * interval_ms, float(value)


def exact(last: float, horizon: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the standard deviation of the steps behind ``last``, ``[H]``."""
    h = np.arange(1, horizon + 1)
    return MEAN + PHI**h * (last - MEAN), NOISE * np.sqrt((1 - PHI ** (2 * h)) / (1 - PHI**2))


@dataclass
class Made:
    """What a forecast is to a host."""

    quantiles: NDArray[np.float32]
    quantile_levels: tuple[float, ...]
    adapter: str | None


@dataclass
class Oracle:
    """The exact forecast, moved by ``shift`` standard deviations: 0.35 costs about 5 % of WQL."""

    adapter_digest: str | None = None
    shift: float = 0.0
    broken: bool = False
    calls: int = 0

    def forecast(
        self, context: ArrayLike, prediction_length: int | None = None, quantile_levels: Sequence[float] | None = None,
        *, use: Any = None,
    ) -> Made:  # fmt: skip
        self.calls += 1
        if self.broken:
            raise ForecastError("no")
        row = np.asarray(context, dtype=np.float64)
        last = row[~np.isnan(row)][-1]
        mean, deviation = exact(float(last), prediction_length or 6)
        quantiles = mean[:, None] + deviation[:, None] * (Z + self.shift)
        return Made(quantiles.astype(np.float32), tuple(quantile_levels or LEVELS), self.adapter_digest)

    def self_test(self) -> float | None:
        return None


def excess(shift: float, draws: int = 200_000) -> float:
    """How much higher, in percent, the expected pinball loss of a shifted normal forecast is."""
    x = np.random.default_rng(0).normal(size=draws)

    def loss(by: float) -> float:
        levels = np.array(LEVELS)
        miss = x[:, None] - (Z + by)
        return float(np.maximum(levels * miss, (levels - 1) * miss).mean())

    return 100 * (loss(shift) / loss(0.0) - 1)
