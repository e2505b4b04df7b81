"""From a shift to an ordinary adapter: the running adapter's deltas, and a Dense delta for each tensor that moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import MergeError
from device_runtime.format.adapter import Adapter, KnownAnswer
from device_runtime.format.binding import Binding
from device_runtime.format.delta import Delta, Dense, Numbers

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
) -> Adapter:
    """Make the adapter that forecasts as ``parent`` (None: the base alone) with ``shift`` ``[n]`` on its biases.

    ``tensors`` are the places in the bundle's table and shapes ``[rows, columns]`` of the learning graph's tensors, in
    its order. Numbers are rounded to int16, a scale for each tensor: `shift_of` says what is left of the shift. The
    known answer is made by whoever has the forecaster. Raises `MergeError` for a shift that does not fit, or where the
    parent moves one of the tensors by something else than a number for each element.
    """
    if shift.shape != (sum(rows * columns for _, (rows, columns) in tensors),) or not np.isfinite(shift).all():
        raise MergeError(f"shift of shape {list(shift.shape)}: want a finite number for each of the learnable tensors'")
    deltas: dict[int, Delta] = dict(parent.deltas) if parent is not None else {}
    at = 0
    for index, shape in tensors:
        size = shape[0] * shape[1]
        total = shift[at : at + size].astype(np.float64).reshape(shape)
        at += size
        held = deltas.get(index)
        if isinstance(held, Dense) and held.shape == shape:
            total = total + held.dense()
        elif held is not None:
            raise MergeError(f"tensor {index}: the adapter under it moves it by a {type(held).__name__}, want Dense")
        if total.any():
            deltas[index] = Dense(Numbers.of(total))
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


def shift_of(adapter: Adapter, parent: Adapter | None, tensors: Sequence[tuple[int, tuple[int, int]]]) -> FloatArray:
    """Return the shift ``[n]`` that an adapter made by `candidate_of` adds to its parent, as it was rounded."""
    parts = []
    for index, shape in tensors:
        own, held = (one.deltas.get(index) if one is not None else None for one in (adapter, parent))
        total = own.dense(np.zeros(shape)) if own is not None else np.zeros(shape)
        parts.append((total - held.dense(np.zeros(shape)) if held is not None else total).ravel())
    return np.concatenate(parts).astype(np.float32)
