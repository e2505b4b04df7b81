"""What a shift adds to torch's own tensors, and torch's gradient by a shift: the judge of learning graphs.

A bias moves by its part of the shift. A weight moves by coefficients of its spectrum, here as the format's deltas make
it, the whole weight at once; a graph has it as two thin products (`export.waves`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.format.learning import Learning

FloatArray = NDArray[np.float64]
Changes = Mapping[str, FloatArray]  # tensor → what is added to it, in its shape


class Moves:
    """How a learning graph's tensors move with a shift."""

    def __init__(self, model: Any, learning: Learning) -> None:
        self._shapes = {name: tuple(model.get_parameter(name).shape) for name in learning.names}
        self._fourier = learning.fourier

    def size(self, name: str) -> int:
        """Count a tensor's numbers in a shift."""
        return int(np.prod(self._shapes[name])) if self._fourier is None else self._fourier.count

    def change(self, name: str, numbers: NDArray[np.float32]) -> FloatArray:
        """Return what a part of a shift adds to its tensor."""
        wide = numbers.astype(np.float64)
        if self._fourier is None:
            return wide.reshape(self._shapes[name])
        left, right = self._fourier.factors(self._shapes[name])
        return np.asarray((left * np.tile(wide, 2)) @ right)

    def gradient(self, name: str, by_tensor: NDArray[Any]) -> FloatArray:
        """Return the gradient by a part of a shift from the one by its tensor: it moves along each number's wave."""
        wide = by_tensor.astype(np.float64)
        if self._fourier is None:
            return wide.reshape(-1)
        left, right = self._fourier.factors(self._shapes[name])
        both = ((left.T @ wide) * right).sum(axis=1)  # [2 count]
        return np.asarray(both[: self._fourier.count] + both[self._fourier.count :])
