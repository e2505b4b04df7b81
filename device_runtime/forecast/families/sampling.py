"""Random numbers of a sampled forecast: a seed gives the same numbers in every language and every release."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_runtime.format.generator import PROJECTION_STRIDE, STREAM_SAMPLES, words

MAX_SAMPLES = 4_096


def uniforms(seed: int, samples: int, first: int, steps: int) -> NDArray[np.float32]:
    """Return numbers in [0, 1) for ``samples`` paths and ``steps`` steps from step ``first``: ``[steps, samples]``.

    They depend on the path and the step alone, so a path is the same in a batch and alone, and in a longer forecast.
    """
    path = np.arange(samples, dtype=np.uint64)[None, :] * np.uint64(PROJECTION_STRIDE)
    counter = path + np.arange(first, first + steps, dtype=np.uint64)[:, None]
    # 24 bits: what a float32 holds exactly.
    return ((words(seed, STREAM_SAMPLES, counter) >> np.uint64(40)) / np.float64(2**24)).astype(np.float32)
