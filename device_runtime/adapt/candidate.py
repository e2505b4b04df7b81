"""From a shift to an ordinary adapter: the running adapter's deltas, and one for each tensor that moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import MergeError
from device_runtime.format.adapter import Adapter, KnownAnswer
from device_runtime.format.binding import Binding
from device_runtime.format.delta import Delta, Dense, Numbers
from device_runtime.format.fourier_shift import FourierShift

FloatArray = NDArray[np.float32]
ORIGIN = "device"


def candidate_of(
    shift: FloatArray,
    *,
    tensors: Sequence[tuple[int, tuple[int, int]]],
    parent: Adapter | None,
    parent_digest: str | None,
    base_digest: bytes,
    version: int,
    binding: Binding | None,
    generation: int,
    metadata: Mapping[str, Any] | None = None,
    known_answer: KnownAnswer | None = None,
    fourier: FourierShift | None = None,
) -> Adapter:
    """Make the adapter that forecasts as ``parent`` (None: the base alone) with ``shift`` ``[n]`` on its tensors.

    ``tensors`` are the places in the bundle's table and shapes ``[rows, columns]`` of the learning graph's tensors, in
    its order; they move by ``fourier``'s coefficients, None: by a number for each element. Numbers are rounded to
    int16, a scale for each tensor: `shift_of` says what is left of the shift. The known answer is made by whoever has
    the forecaster. Raises `MergeError` for a shift that does not fit, or where the parent moves one of the tensors in
    another way.
    """
    sizes = [_size(shape, fourier) for _, shape in tensors]
    if shift.shape != (sum(sizes),) or not np.isfinite(shift).all():
        raise MergeError(f"shift of shape {list(shift.shape)}: want a finite number for each of the learnable tensors'")
    deltas: dict[int, Delta] = dict(parent.deltas) if parent is not None else {}
    parts = np.split(shift.astype(np.float64), np.cumsum(sizes)[:-1])
    for (index, shape), part in zip(tensors, parts, strict=True):
        total = part + _numbers(index, deltas.get(index), shape, fourier)
        if total.any():
            deltas[index] = Dense(Numbers.of(total.reshape(shape))) if fourier is None else fourier.delta(total, shape)
    if not deltas:
        raise MergeError("the shift is zero everywhere: nothing was learnt")
    said = {"origin": ORIGIN, "generation": generation, "parent": parent_digest, **(metadata or {})}
    return Adapter(
        base_digest=base_digest,
        version=version,
        deltas=deltas,
        known_answer=known_answer,
        calibration=parent.calibration if parent is not None else None,
        binding=binding,
        metadata=said,
    )


def shift_of(
    adapter: Adapter,
    parent: Adapter | None,
    tensors: Sequence[tuple[int, tuple[int, int]]],
    fourier: FourierShift | None = None,
) -> FloatArray:
    """Return the shift ``[n]`` that an adapter made by `candidate_of` adds to its parent, as it was rounded.

    Raises `MergeError` where one of the two does not move a weight by ``fourier``'s coefficients.
    """
    parts = []
    for index, shape in tensors:
        own, held = (one.deltas.get(index) if one is not None else None for one in (adapter, parent))
        parts.append(_moved(index, own, shape, fourier) - _moved(index, held, shape, fourier))
    return np.concatenate(parts).astype(np.float32)


def _moved(
    index: int, delta: Delta | None, shape: tuple[int, int], fourier: FourierShift | None
) -> NDArray[np.float64]:
    """Return by which numbers of a shift a delta moves a tensor; an element's number needs no certain kind of delta."""
    if fourier is None and delta is not None:
        return delta.dense(np.zeros(shape)).ravel()
    return _numbers(index, delta, shape, fourier)


def _size(shape: tuple[int, int], fourier: FourierShift | None) -> int:
    """Count a tensor's numbers in a shift."""
    return shape[0] * shape[1] if fourier is None else fourier.count


def _numbers(
    index: int, delta: Delta | None, shape: tuple[int, int], fourier: FourierShift | None
) -> NDArray[np.float64]:
    """Return what a delta is as a part of a shift. Raises `MergeError` for one that is none."""
    if delta is None:
        return np.zeros(_size(shape, fourier))
    if fourier is None:
        if isinstance(delta, Dense) and delta.shape == shape:
            return delta.dense().reshape(-1)
        raise MergeError(f"tensor {index}: the adapter under it moves it by a {type(delta).__name__}, want Dense")
    numbers = fourier.numbers(delta, shape)
    if numbers is None:
        raise MergeError(
            f"tensor {index}: the adapter under it moves it by a {type(delta).__name__}, want Fourier with "
            f"{fourier.count} entries of seed {fourier.seed}"
        )
    return numbers
