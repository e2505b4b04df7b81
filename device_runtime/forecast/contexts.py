"""Synthetic contexts, without patient data, for comparing torch with the runtime and for known-answer tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def synthetic_contexts(
    count: int, length: int, *, level: float = 80.0, spread: float = 10.0, missing: float = 0.0, seed: int = 0
) -> NDArray[np.float32]:
    """Draw mean-reverting series around ``level``: ``[count, length]``, ``missing`` of the values NaN.

    Values are rounded to 0.1, as a monitor's are; the last value of each is observed.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, length))
    walk = np.empty((count, length))
    state = rng.normal(size=count)
    for step in range(length):
        state = 0.9 * state + np.sqrt(1 - 0.81) * noise[:, step]
        walk[:, step] = state
    series = level + spread * (walk + rng.normal(size=(count, 1)))
    gaps = rng.random((count, length)) < missing
    gaps[:, -1] = False
    return np.where(gaps, np.nan, np.round(series, 1)).astype(np.float32)
