"""Intervals by resampling patients: windows of the same patient are correlated, so whole patients are drawn."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

DRAWS_AT_ONCE = 1 << 22  # bounds the memory of the counts


def patient_sums(scores: FloatArray, drawn: NDArray[np.str_]) -> FloatArray:
    """Add the windows ``[N, ...]`` of each patient (`Windows.drawn`): ``[P, ...]``, in the order of their names."""
    _, owner = np.unique(drawn, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    if not len(starts):
        return np.zeros((0, *scores.shape[1:]))
    sums: FloatArray = np.add.reduceat(scores[order], starts, axis=0)
    return sums


def resample(sums: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Draw P of P patients with replacement, ``resamples`` times: the totals ``[R, ...]`` of ``[P, ...]``.

    Everything in one ``sums`` shares its draws, so differences between its columns are paired.
    """
    patients = len(sums)
    flat = sums.reshape(patients, -1)
    totals = [counts @ flat for counts in _counts(patients, resamples, seed)]
    return np.concatenate(totals).reshape(resamples, *sums.shape[1:])


def _counts(patients: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    rng = np.random.default_rng(seed)
    step = max(1, DRAWS_AT_ONCE // max(patients, 1))
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = rng.integers(patients, size=(rows, patients)) + patients * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients).astype(np.float64)


def ratio(totals: FloatArray) -> FloatArray:
    """Divide numerators by denominators, ``[..., 2] -> [...]``; NaN where nothing was scored."""
    empty = totals[..., 1] == 0
    value: FloatArray = np.where(empty, np.nan, totals[..., 0] / np.where(empty, 1, totals[..., 1]))
    return value


def bounds(draws: FloatArray, *, confidence: float) -> FloatArray:
    """Return the central percentile interval over the first axis, ``[R, ...] -> [2, ...]``.

    NaN where any draw had nothing to score: an interval over the other draws would be too narrow.
    """
    tail = (1 - confidence) / 2
    found: FloatArray = np.quantile(draws, [tail, 1 - tail], axis=0)
    return found
