"""Quantile arithmetic in numpy, equal to what chronos-forecasting does with torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.format.adapter import Calibration

FloatArray = NDArray[np.float32]


def at_levels(quantiles: FloatArray, trained: Sequence[float], wanted: Sequence[float]) -> FloatArray:
    """Read ``wanted`` levels off quantiles ``[B, H, Q]`` at the ``trained`` levels: ``[B, H, len(wanted)]``.

    Trained levels are returned as they are. Others are interpolated linearly as chronos-forecasting 2.3 does: over an
    evenly spaced grid with the outermost quantiles repeated at 0 and 1. The quantiles ascend (`ascending`). Raises
    `InputError` for levels that the model was not trained to reach, instead of silently returning the nearest.
    """
    if not wanted:
        raise InputError("quantile_levels: want at least one level")
    if set(wanted) <= set(trained):
        return quantiles[..., [list(trained).index(level) for level in wanted]]
    outside = [level for level in wanted if not trained[0] <= level <= trained[-1]]
    if outside:
        raise InputError(
            f"quantile_levels {outside}: the model was trained for {trained[0]} to {trained[-1]}",
            hint="ask for levels within that range",
        )
    grid = np.linspace(0.0, 1.0, len(trained) + 2)
    if not np.allclose(grid[1:-1], trained):
        raise InputError(f"quantile_levels {list(wanted)}: this base offers exactly {list(trained)}")
    padded = np.concatenate([quantiles[..., :1], quantiles, quantiles[..., -1:]], axis=-1)
    position = np.asarray(wanted) * (len(grid) - 1)
    lower = np.minimum(position.astype(np.intp), len(grid) - 2)
    weight = (position - lower).astype(np.float32)
    mixed = padded[..., lower] * (1 - weight) + padded[..., lower + 1] * weight
    return mixed.astype(np.float32, copy=False)


def ascending(quantiles: FloatArray) -> FloatArray:
    """Sort the levels of quantiles ``[B, H, Q]`` in ascending order at every step.

    A model may cross them: its 0.9 quantile below its 0.8 (on trends most of all, chronos-forecasting does the same).
    Sorted levels are quantiles again, and never score worse by the pinball loss.
    """
    return np.sort(quantiles, axis=-1)


def sample_quantiles(samples: FloatArray, wanted: Sequence[float]) -> FloatArray:
    """Read quantiles ``[B, H, len(wanted)]`` off sampled paths ``[B, S, H]``, interpolated as torch does.

    Raises `InputError` for levels that are none.
    """
    if not wanted or not all(0 <= level <= 1 for level in wanted):
        raise InputError(f"quantile_levels {list(wanted)}: want at least one, each from 0 to 1")
    # numpy's float32 quantile interpolates in float32, as torch does.
    levels = np.asarray(wanted, dtype=np.float32)
    return np.quantile(samples, levels, axis=1).transpose(1, 2, 0).astype(np.float32)


def calibrate(quantiles: FloatArray, calibration: Calibration) -> FloatArray:
    """Move ascending quantiles ``[B, H, Q]`` by an adapter's calibration offsets (FORMAT.md §7), and sort them again.

    One beyond all floats becomes infinite: the caller refuses it.
    """
    offsets = calibration.offsets.values  # [Q, steps]
    step = np.minimum(np.arange(quantiles.shape[1]), offsets.shape[1] - 1)
    width = quantiles[..., -1:].astype(np.float64) - quantiles[..., :1]  # [B, H, 1]
    moved = quantiles + offsets.T[step] * width
    with np.errstate(over="ignore"):
        return np.sort(moved, axis=-1).astype(np.float32)
