"""From a few parameters to the array that is added to a named tensor.

Every method ends in adding ``Delta.dense(base)`` to a tensor; most kinds compute that array without the tensor itself
(docs/adr/0027). The numeric contract (FORMAT.md §6) makes that array
the same, bit for bit, in numpy and in C on any processor: **every inner sum is a sum of integers smaller than 2^53**,
so neither the order of summation nor BLAS nor fused multiply-add can change it; the other operations are single double
operations per element in a stated order, and `merge` rounds once to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from device_runtime.format.generator import (
    PROJECTION_ONE,
    STREAM_VERA_A,
    STREAM_VERA_B,
    projection,
    seeded_entries,
)

FloatArray = NDArray[np.float64]
Dtype = Literal["float32", "int16", "int8"]

# Cosines are integers: round(2^15 cos). With int16 coefficients and at most 4,096 of them, sums stay exact.
COSINE_BITS = 15
INTEGER_LIMIT = {"int16": 32_767, "int8": 127}


class Delta(Protocol):
    """What one adapter adds to one tensor."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tensor; a vector of n numbers is ``(n, 1)``."""

    @property
    def parameters(self) -> int:
        """How many tuned parameters this is."""

    def dense(self, base: FloatArray) -> FloatArray:
        """Return the array to add to ``base``; both float64 ``[rows, columns]``."""


def apply_delta(weights: NDArray[np.float32], delta: Delta) -> NDArray[np.float32]:
    """Return ``weights`` plus ``delta``, in the shape of ``weights``: the sum taken in float64 and rounded once.

    What does not fit a float32 becomes infinite, for the caller to refuse.
    """
    base = weights.astype(np.float64).reshape(delta.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return (base + delta.dense(base)).astype(np.float32).reshape(weights.shape)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Stored numbers: integers with one scale, or float32 with scale 1. A value is ``stored * scale``."""

    stored: NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int8]
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what the format cannot carry."""
        if self.stored.dtype.name not in ("float32", "int16", "int8"):
            raise ValueError(f"stored numbers: want float32, int16 or int8, got {self.stored.dtype}")
        if self.dtype == "float32":
            if self.scale != 1.0 or not np.isfinite(self.stored).all():
                raise ValueError("stored float32 parameters: want finite numbers and scale 1")
        else:
            if not (np.isfinite(self.scale) and self.scale >= 0 and np.float32(self.scale) == self.scale):
                raise ValueError(f"stored numbers: want a finite float32 scale >= 0, got {self.scale}")
            if self.stored.size and int(self.stored.min()) < -INTEGER_LIMIT[self.dtype]:
                raise ValueError(f"stored numbers: the smallest {self.dtype} is not used")

    @classmethod
    def of(cls, values: NDArray[np.floating], dtype: Dtype = "int16") -> Numbers:
        """Round ``values`` of any shape to ``dtype`` with the scale that fits the largest of them.

        Raises `ValueError` when a value is not finite.
        """
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("numbers to store: want finite values")
        if dtype == "float32":
            return cls(values.astype(np.float32))
        limit = INTEGER_LIMIT[dtype]
        peak = float(np.abs(values).max(initial=0.0))
        # Rounded up to float32, so that the largest value never overflows its integer.
        scale = np.float32(peak / limit)
        if float(scale) * limit < peak:
            scale = np.nextafter(scale, np.float32(np.inf))
        stored = np.rint(values / float(scale)) if scale > 0 else np.zeros(values.shape)
        return cls(stored.astype(dtype), float(scale))

    @property
    def dtype(self) -> Dtype:
        """Name of the stored type."""
        return self.stored.dtype.name  # type: ignore[return-value]  # checked at construction

    @property
    def values(self) -> FloatArray:
        """The numbers themselves, float64, in the stored shape."""
        return self.stored.astype(np.float64) * self.scale


@dataclass(frozen=True, eq=False)
class Dense:
    """One number for each element: biases, norm scales, relative-position tables."""

    numbers: Numbers  # [rows, columns]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.numbers.stored.shape
        return rows, columns

    @property
    def parameters(self) -> int:
        """One for each element."""
        return self.numbers.stored.size

    def dense(self, base: FloatArray | None = None) -> FloatArray:
        """Return the numbers."""
        return self.numbers.values


@dataclass(frozen=True, eq=False)
class Fourier:
    """FourierFT (Gao et al. 2024, arXiv 2405.03003): a few real coefficients of the delta's 2-D spectrum.

    ``delta[p, q] = scaling / (rows * columns) * sum_k c_k cos 2π(p u_k / rows + q v_k / columns)``, which equals
    ``scaling * Re(ifft2(spectrum))``. Entries come from ``seed``, or explicitly (ascending, flat, row-major).
    """

    rows: int
    columns: int
    coefficients: Numbers  # [count], integers
    scaling: float
    seed: int | None = None
    explicit: NDArray[np.uint32] | None = None  # [count]

    def __post_init__(self) -> None:
        """Refuse a delta that is not one of the two forms, or whose sums would not be exact."""
        if (self.seed is None) == (self.explicit is None):
            raise ValueError("Fourier: want a seed or explicit entries, exactly one of them")
        if self.coefficients.dtype == "float32":
            raise ValueError("Fourier: want int16 or int8 coefficients, got float32")
        if self.explicit is not None and len(self.explicit) != self.coefficients.stored.size:
            raise ValueError("Fourier: want as many entries as coefficients")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def parameters(self) -> int:
        """One for each coefficient."""
        return self.coefficients.stored.size

    @property
    def entries(self) -> NDArray[np.uint32]:
        """Flat row-major indices into the ``[rows, columns]`` spectrum, ascending, ``[count]``."""
        if self.explicit is not None:
            return self.explicit
        assert self.seed is not None
        return seeded_entries(self.seed, self.rows, self.columns, self.coefficients.stored.size)

    def dense(self, base: FloatArray | None = None) -> FloatArray:
        """Evaluate the closed form with integer cosines: thin matrix products of exact integers."""
        left, right = wave_basis(self.rows, self.columns, self.entries.astype("<u4").tobytes())
        stored = self.coefficients.stored.astype(np.int64)
        total = np.zeros(self.shape)
        for part, weight in _exact_parts(stored):
            total = total + ((left * np.tile(part, 2)) @ right) * weight
        gain = (self.coefficients.scale * self.scaling) / (self.rows * self.columns * 2.0 ** (2 * COSINE_BITS))
        return np.asarray(total * gain)


def _exact_parts(stored: NDArray[np.int64]) -> list[tuple[FloatArray, float]]:
    """Split coefficients so that no partial sum of a product can reach 2^53: whole, or by bytes."""
    if int(np.abs(stored).sum()) << (2 * COSINE_BITS + 1) <= 2**53:
        return [(stored.astype(np.float64), 1.0)]
    high, low = np.divmod(stored, 256)
    return [(high.astype(np.float64), 256.0), (low.astype(np.float64), 1.0)]


@lru_cache(maxsize=8)
def wave_basis(rows: int, columns: int, entries: bytes) -> tuple[FloatArray, FloatArray]:
    """Lay out the waves of a group's entries, ``[rows, 2K]`` and ``[2K, columns]``; tensors of a group share them."""
    u, v = np.divmod(np.frombuffer(entries, dtype="<u4").astype(np.int64), columns)  # [K], [K]
    p_cosine, p_sine = integer_waves(rows, u)
    q_cosine, q_sine = integer_waves(columns, v)
    left = np.concatenate([p_cosine, -p_sine], axis=1).astype(np.float64)
    right = np.concatenate([q_cosine, q_sine], axis=1).astype(np.float64).T
    return left, np.ascontiguousarray(right)


def integer_waves(period: int, frequency: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tabulate ``2^15 cos`` and ``2^15 sin`` of ``2π p f / period``, rounded: ``[period, K]`` each.

    No entry of the table for a period up to 8,192 lies within 1e-9 of a rounding tie (tested), so any C library's
    cosine gives the same integers.
    """
    angle = 2.0 * np.pi * np.arange(period) / period
    cosine = np.rint(np.cos(angle) * 2**COSINE_BITS).astype(np.int64)
    sine = np.rint(np.sin(angle) * 2**COSINE_BITS).astype(np.int64)
    phase = (np.arange(period)[:, None] * frequency[None, :]) % period
    return cosine[phase], sine[phase]


@dataclass(frozen=True, eq=False)
class LowRank:
    """LoRA (Hu et al. 2021, arXiv 2106.09685): ``delta = scaling * b @ a``."""

    a: Numbers  # [rank, columns], integers
    b: Numbers  # [rows, rank], integers
    scaling: float

    def __post_init__(self) -> None:
        """Refuse factors whose products would not be exact."""
        if "float32" in (self.a.dtype, self.b.dtype) or self.a.dtype != self.b.dtype:
            raise ValueError("LowRank: want both factors as int16 or both as int8")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.b.stored.shape[0], self.a.stored.shape[1]

    @property
    def parameters(self) -> int:
        """Both factors."""
        return self.a.stored.size + self.b.stored.size

    def dense(self, base: FloatArray | None = None) -> FloatArray:
        """Multiply the integer factors exactly, then scale."""
        # The sum is an integer, whose zero has no sign; BLAS may leave a negative one.
        total = self.b.stored.astype(np.float64) @ self.a.stored.astype(np.float64) + 0.0
        return total * (self.a.scale * self.b.scale * self.scaling)


@dataclass(frozen=True, eq=False)
class Vera:
    """VeRA (Kopiczko et al. 2023, arXiv 2310.11454): two vectors around frozen projections that a seed gives.

    ``delta = scaling * diag(b) B diag(d) A`` with ``A`` ``[rank, columns]`` and ``B`` ``[rows, rank]`` from
    `device_runtime.format.generator.projection`, values in (-1, 1).
    """

    d: Numbers  # [rank], integers
    b: Numbers  # [rows], integers
    columns: int
    seed: int
    scaling: float

    def __post_init__(self) -> None:
        """Refuse vectors whose products would not be exact."""
        if "float32" in (self.d.dtype, self.b.dtype) or self.d.dtype != self.b.dtype:
            raise ValueError("Vera: want both vectors as int16 or both as int8")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.b.stored.size, self.columns

    @property
    def parameters(self) -> int:
        """Both vectors; the projections are not tuned."""
        return self.d.stored.size + self.b.stored.size

    def dense(self, base: FloatArray | None = None) -> FloatArray:
        """Multiply the integer projections exactly around ``d``, then each row by ``b``, then scale."""
        rank, rows = self.d.stored.size, self.b.stored.size
        a = projection(self.seed, STREAM_VERA_A, rank, self.columns).astype(np.float64)
        b = projection(self.seed, STREAM_VERA_B, rank, rows).astype(np.float64)
        total = (b * self.d.stored.astype(np.float64)[:, None]).T @ a + 0.0  # [rows, columns], zeros without sign
        gain = (self.d.scale * self.b.scale * self.scaling) / PROJECTION_ONE**2
        return (total * self.b.stored.astype(np.float64)[:, None]) * gain


@dataclass(frozen=True, eq=False)
class Gain:
    """(IA)³ (Liu et al. 2022, arXiv 2205.05638): each row or each column of the base's weight times 1 plus a number.

    ``delta[p, q] = base[p, q] * numbers[p]`` for rows, ``base[p, q] * numbers[q]`` for columns: what it adds depends
    on the base.
    """

    rows: int
    columns: int
    numbers: Numbers  # [rows] or [columns], integers
    of_rows: bool  # a number for each row: of a layer's outputs; else for each column: of its inputs

    def __post_init__(self) -> None:
        """Refuse numbers that are not one for each row or column."""
        if self.numbers.dtype == "float32":
            raise ValueError("Gain: want int16 or int8 parameters, got float32")
        wanted = self.rows if self.of_rows else self.columns
        if self.numbers.stored.shape != (wanted,):
            raise ValueError(f"Gain: want {wanted} parameters, got {self.numbers.stored.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def parameters(self) -> int:
        """One for each row, or for each column."""
        return self.numbers.stored.size

    def dense(self, base: FloatArray) -> FloatArray:
        """Multiply the base: a value is exact in a double, so each product is rounded once."""
        values = self.numbers.values
        return base * (values[:, None] if self.of_rows else values[None, :])
