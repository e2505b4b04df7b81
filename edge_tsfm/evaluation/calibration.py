"""Split-conformal offsets that correct coverage, fitted on patients that were not used for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from device_runtime.format.adapter import Calibration
from device_runtime.format.delta import Numbers
from device_runtime.format.layout import MAX_EXPECTED
from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.metrics import check_forecast
from edge_tsfm.evaluation.report import FEW_PATIENTS

if TYPE_CHECKING:
    from edge_tsfm.data.windows import Windows

FloatArray = NDArray[np.float64]

MAX_OFFSETS = MAX_EXPECTED  # R21: the format's limit for both records
MIN_VALUES = 200  # observed targets for each step: the 80 % band's coverage is then known to 3 points, if independent


def fit_offsets(quantiles: NDArray[np.floating], target: NDArray[np.floating], levels: Sequence[float]) -> FloatArray:
    """Fit offsets ``[Q, steps]`` for `device_runtime.forecast.quantiles.calibrate` on quantiles ``[N, H, Q]``.

    ``target`` is ``[N, H]``, NaN where nothing was measured. With the band's width ``w = q_last - q_first``, the
    score of an observed target at level j is ``(y - q_j) / w``, and the offset the score of rank
    ``ceil(level (n + 1))`` of n for levels above the median, ``floor`` below it: split-conformal prediction
    (Papadopoulos et al. 2002; Lei et al. 2018, arXiv 1604.04173) of each quantile (Romano et al. 2019, arXiv
    1905.03222), the score scaled by the forecast's own width, so that a wide forecast moves further. On exchangeable
    new windows the share below a level above the median is then at least the level, and at most 1 / (n + 1) more,
    before offsets are rounded and levels sorted.

    As many steps as the format carries; the last offset serves those beyond. Raises `DataError` with fewer than
    `MIN_VALUES` observed targets for a step, or where a band has no width often enough to make an offset infinite.
    """
    q, y = quantiles.astype(np.float64), target.astype(np.float64)
    width = q[..., -1:] - q[..., :1]  # [N, H, 1]
    miss = y[..., None] - q  # [N, H, Q]
    flat = ~(width > 0)  # no offset moves such a forecast
    score = np.where(flat, np.where(miss > 0, np.inf, -np.inf), miss / np.where(flat, 1.0, width))
    columns = min(q.shape[1], MAX_OFFSETS // q.shape[2])
    offsets = np.empty((q.shape[2], columns))
    for column in range(columns):
        steps = slice(column, None if column == columns - 1 else column + 1)
        scores = np.sort(score[:, steps][~np.isnan(y[:, steps])], axis=0)  # [n, Q]
        if len(scores) < MIN_VALUES:
            raise DataError(
                f"calibration: {len(scores)} observed targets at step {column + 1}, want at least {MIN_VALUES}",
                hint="calibrate with more validation data, or leave the forecasts as they are",
            )
        offsets[:, column] = scores[_ranks(levels, len(scores)) - 1, np.arange(q.shape[2])]
    if not np.isfinite(offsets).all():
        raise DataError(
            "calibration: too many forecasts have no width between their outermost quantiles",
            hint="are the series constant?",
        )
    return offsets


def _ranks(levels: Sequence[float], n: int) -> NDArray[np.intp]:
    """Return the rank of each level's offset among n scores, from 1: rounded outwards, the median's to the nearest."""
    exact = np.asarray(levels, dtype=np.float64) * (n + 1)
    outwards = np.where(np.asarray(levels) > 0.5, np.ceil(exact - 1e-9), np.floor(exact + 1e-9))
    ranks = np.where(np.abs(np.asarray(levels) - 0.5) < 1e-9, np.rint(exact), outwards)
    return np.clip(ranks, 1, n).astype(np.intp)


def fit_calibration(quantiles: NDArray[np.floating], windows: Windows, levels: Sequence[float]) -> Calibration:
    """Fit a blob's calibration on forecasts ``[N, H, Q]`` of ``windows`` that training did not fit.

    Offsets are stored in int8: half a step is a 250th of the largest offset. Raises `DataError` for fewer than
    `FEW_PATIENTS` patients, windows of one of whom rise and fall together, and as `fit_offsets`.
    """
    check_forecast(quantiles, windows, levels)
    patients = len(np.unique(windows.drawn[~np.isnan(windows.target).all(1)]))
    if patients < FEW_PATIENTS:
        raise DataError(
            f"calibration: {patients} {windows.unit}s with an observed target, want at least {FEW_PATIENTS}",
            hint=f"calibrate with more validation {windows.unit}s, or leave the forecasts as they are",
        )
    return Calibration(offsets=Numbers.of(fit_offsets(quantiles, windows.target, levels), "int8"))
