"""An online linear forecaster mixed into the frozen one, after ELF (Lee et al. 2025, arXiv 2502.12920).

A monitor's learning is compared with it, because it needs no gradient and changes no weight. ELF fits a ridge
regression from context to targets outside of the model, and an exponentially weighted average decides how much of it is
mixed in. Here the regression is in the time domain, and the mix moves all quantiles by the same amount. Nothing is
learnt from a target before its time. A patient's windows are learnt from during the stay, which is sooner than a
monitor does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from device_runtime.quality.scores import pinball
from edge_tsfm.data.windows import Windows

FloatArray = NDArray[np.float32]

RIDGE = 20.0  # penalty on the coefficients, for contexts in units of their standard deviation
SHARES = np.linspace(0.0, 1.0, 11)  # of the linear forecast
ETA = 0.5  # learning rate of the weights, per relative loss
FIXED_SHARE = 0.01  # share of the weight that is redistributed at each window, since the best share may change
FURTHEST = 10.0  # targets are clipped at so many standard deviations from the last value


def revealed(windows: Windows) -> Iterator[tuple[int, range]]:
    """Yield each row with the rows whose last target has arrived since the row before: those it may now learn from."""
    steps, waiting = windows.target.shape[1], 0
    for row in range(len(windows)):
        begun = waiting
        while waiting < row and (
            windows.series[waiting] < windows.series[row] or windows.cutoff[waiting] + steps <= windows.cutoff[row]
        ):
            waiting += 1
        yield row, range(begun, waiting)


def online_mix(windows: Windows, frozen: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Return quantiles ``[N, H, Q]``: the frozen ones, moved towards a linear forecast as far as that has helped."""
    regression = _Regression(windows.context.shape[1], windows.target.shape[1])
    scaled = [_scaled(context) for context in windows.context]
    weights = np.full(len(SHARES), 1.0 / len(SHARES))
    at, middle = np.array(levels, dtype=np.float64), int(np.argmin(np.abs(np.array(levels) - 0.5)))
    moves = np.zeros(frozen.shape[:2])  # what a share of 1 adds to each step, in the signal's unit
    out = frozen.copy()
    for row, came in revealed(windows):
        for old in came:
            features, last, spread = scaled[old]
            regression.add(features, np.clip((windows.target[old] - last) / spread, -FURTHEST, FURTHEST))
            weights = _weighted(weights, frozen[old], moves[old], windows.target[old], at)
        features, last, spread = scaled[row]
        moves[row] = last + spread * regression.predict(features) - frozen[row, :, middle]
        out[row] = frozen[row] + float(weights @ SHARES) * moves[row, :, None]
    return out


class _Regression:
    """Ridge regressions from features ``[D]`` to each of the targets ``[H]``, fitted from running sums."""

    def __init__(self, features: int, targets: int) -> None:
        self._squares = np.tile(RIDGE * np.eye(features), (targets, 1, 1))  # [H, D, D]
        self._products = np.zeros((targets, features))
        self._solved: NDArray[np.float64] | None = np.zeros((targets, features))

    def add(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Add one window; a step with a missing target is left out."""
        seen = ~np.isnan(targets)
        self._squares[seen] += np.outer(features, features)
        self._products[seen] += targets[seen, None] * features
        self._solved = None

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the linear forecast ``[H]``, in the units of ``add``."""
        solved = self._solved
        if solved is None:
            solved = np.linalg.solve(self._squares, self._products[..., None])[..., 0].astype(np.float64)
            self._solved = solved
        predicted: NDArray[np.float64] = solved @ features
        return predicted


def _scaled(context: FloatArray) -> tuple[NDArray[np.float64], float, float]:
    """Return a context ``[L]``, forward-filled and standardised; its last value; and its standard deviation."""
    x = context.astype(np.float64)
    seen = np.flatnonzero(~np.isnan(x))
    last, spread = float(x[seen[-1]]), float(x[seen].std()) or 1.0
    filled = x[seen[np.maximum(np.searchsorted(seen, np.arange(len(x)), side="right") - 1, 0)]]
    return (filled - last) / spread, last, spread


def _weighted(
    weights: NDArray[np.float64],
    quantiles: FloatArray,
    move: NDArray[np.float64],
    target: FloatArray,
    levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the weights of `SHARES` after one window's losses, each relative to that of share 0."""
    moved = quantiles[None].astype(np.float64) + SHARES[:, None, None] * move[:, None]  # [shares, H, Q]
    losses = np.nansum(pinball(moved, np.broadcast_to(target.astype(np.float64), moved.shape[:2]), levels), (1, 2))
    total = losses + losses[0]
    relative = np.divide(losses - losses[0], total, out=np.zeros_like(total), where=total > 0)
    kept = weights * np.exp(-ETA * relative)
    kept /= kept.sum()
    mixed: NDArray[np.float64] = (1 - FIXED_SHARE) * kept + FIXED_SHARE / len(SHARES)
    return mixed
