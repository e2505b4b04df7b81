"""FourierFT in a learning graph: how the numbers of a shift become coefficients of a weight's spectrum, and back.

The graph has its entries fixed, the first that the format's generator draws for its seed. A shift's numbers are scaled
so that a tensor's root mean square says how far its weight moves, as a shift of biases does: caps mean the same for
both. Each number's wave has a root mean square of 1 / √count, whatever the weight's shape (docs/adr/0042).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError
from device_runtime.format.delta import COSINE_BITS, Delta, Fourier, Numbers, wave_basis
from device_runtime.format.generator import seeded_entries
from device_runtime.format.layout import MAX_FREQUENCIES

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FourierShift:
    """The entries of a learning graph, the same draw for each weight, and the scaling of the adapters made by it."""

    count: int  # of each weight
    seed: int
    scaling: float  # of a promoted adapter's records

    def __post_init__(self) -> None:
        """Refuse what no adapter could carry."""
        if not 1 <= self.count <= MAX_FREQUENCIES:
            raise FormatError(f"count {self.count}: want 1 to {MAX_FREQUENCIES}")
        if not 0 <= self.seed < 2**32:
            raise FormatError(f"seed {self.seed}: want 0 to 2^32 - 1")
        if not self.scaling > 0 or not math.isfinite(self.scaling) or float(np.float32(self.scaling)) != self.scaling:
            raise FormatError(f"scaling {self.scaling:g}: want a float32 above 0")

    def entries(self, shape: tuple[int, int]) -> NDArray[np.uint32]:
        """Return a weight's entries: flat row-major places in its spectrum, ascending, ``[count]``."""
        return seeded_entries(self.seed, *shape, self.count)

    def factors(self, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Return what makes a weight's change of its numbers s: ``left · diag([s, s]) · right``.

        ``left`` is ``[rows, 2 count]``, ``right`` ``[2 count, columns]``: the format's own integer waves, so that a
        graph adds what a merge adds.
        """
        left, right = wave_basis(*shape, self.entries(shape).astype("<u4").tobytes())
        return left * (self.height / 2.0**COSINE_BITS), right / 2.0**COSINE_BITS

    def delta(self, numbers: FloatArray, shape: tuple[int, int]) -> Fourier:
        """Return the adapter's record for a weight's part of a shift, ``[count]``: coefficients rounded to int16."""
        return Fourier(
            rows=shape[0],
            columns=shape[1],
            coefficients=Numbers.of(numbers * (self.height * shape[0] * shape[1] / self.scaling)),
            scaling=self.scaling,
            seed=self.seed,
        )

    def numbers(self, delta: Delta, shape: tuple[int, int]) -> FloatArray | None:
        """Return the part of a shift that moves a weight as a delta does, ``[count]``; None where none does.

        A delta fits if it has the graph's entries, by seed or in full; its scaling may be another.
        """
        if not isinstance(delta, Fourier) or delta.shape != shape or delta.parameters != self.count:
            return None
        if delta.seed != self.seed and not np.array_equal(delta.entries, self.entries(shape)):
            return None
        return np.asarray(delta.coefficients.values * (delta.scaling / (self.height * shape[0] * shape[1])))

    @property
    def height(self) -> float:
        """The amplitude of one number's wave."""
        return math.sqrt(2.0 / self.count)
