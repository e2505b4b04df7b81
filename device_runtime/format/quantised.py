"""How a tensor that the graphs take as integers is quantised: a merged one on the device, the base's own at export.

FORMAT.md §6 has the arithmetic: a maximum, an exact division by 64, one division and one rounding, each of which IEEE
754 defines to the bit, so Python and C give the same bytes (docs/adr/0037).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import MergeError
from device_runtime.format.manifest import TensorEntry

STEPS = 64  # of the largest number of a row: seven bits (docs/adr/0015)
# Rows whose largest number is smaller hold zeros: no scale and no quotient is subnormal, which some processors flush.
LEAST = np.float32(2.0**-100)
INTEGERS, SCALES = ".int8", ".scale"  # after a tensor's name: the initializers that a graph takes for it


def quantise(tensor: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise a tensor ``[M, N]``: integers of -64 to 64 ``[M, N]`` and what a step is worth in each row ``[M]``.

    Raises `MergeError` for a number that is not finite.
    """
    largest = np.maximum(tensor.max(axis=1), -tensor.min(axis=1))  # NaN, where there is one
    if not np.isfinite(largest).all():
        raise MergeError("a weight that is to be quantised is not finite")
    empty = largest < LEAST
    scales = np.where(empty, np.float32(1), largest / np.float32(STEPS)).astype(np.float32)
    steps = tensor / scales[:, None]
    steps[empty] = 0
    return np.rint(steps, out=steps).astype(np.int8), scales


def initializers(entry: TensorEntry, tensor: NDArray[np.float32]) -> Mapping[str, NDArray[np.generic]]:
    """Return what graphs take for a tunable tensor that holds ``tensor``: initializer's name → numbers.

    Raises `MergeError` as `quantise`.
    """
    if not entry.quantised:
        return {entry.name: tensor}
    integers, scales = quantise(tensor)
    return {entry.name + INTEGERS: integers, entry.name + SCALES: scales}
