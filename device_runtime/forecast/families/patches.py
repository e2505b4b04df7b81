"""Contexts for families that read patches: padded in front with missing values to a whole number of patches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError
from device_runtime.format.manifest import Manifest
from device_runtime.format.parameters import whole

MAX_PATCH = 4_096  # steps


def patch_size(manifest: Manifest) -> int:
    """Return the manifest's patch size, in steps. Raises `FormatError` where there is none."""
    return whole(manifest.parameters, "patch_size", least=1, most=MAX_PATCH)


def probe_steps(size: int, levels: int, prediction_length: int) -> int:
    """Return the steps that ``size`` numbers of a known answer take. Raises `FormatError` beyond one run's."""
    steps = -(-size // levels)
    if steps > prediction_length:
        raise FormatError(f"known-answer test: {steps} steps, this base forecasts {prediction_length}")
    return steps


def whole_patches(context: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Pad ``context`` ``[B, L]`` with NaN on the left to whole patches of ``size`` steps."""
    padded = np.pad(context, ((0, 0), (-context.shape[1] % size, 0)), constant_values=np.nan)
    return np.ascontiguousarray(padded, dtype=np.float32)
