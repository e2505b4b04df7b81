"""Merging: base plus adapter, as new arrays. The base is never changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import BaseMismatchError, MergeError
from device_runtime.format.adapter import Adapter
from device_runtime.format.delta import apply_delta
from device_runtime.format.manifest import Manifest


def merge(
    manifest: Manifest, tensor: Callable[[int], NDArray[np.float32]], adapter: Adapter
) -> dict[int, NDArray[np.float32]]:
    """Add an adapter's deltas to the tensors they name: index in the table → merged tensor, float32.

    ``tensor(index)`` returns the base's tensor in its torch shape. The sum is taken in float64 and rounded once.
    Raises `BaseMismatchError` for an adapter of another base and `MergeError` when a tensor is unknown, a shape
    differs or a merged weight is not finite.
    """
    check_base(manifest, adapter.base_digest)
    if adapter.calibration is not None and len(adapter.calibration.offsets.stored) != len(manifest.quantile_levels):
        raise MergeError(
            f"the adapter calibrates {len(adapter.calibration.offsets.stored)} quantile levels, "
            f"the base has {len(manifest.quantile_levels)}"
        )
    out = {}
    for index, delta in adapter.deltas.items():
        if index >= len(manifest.tensors):
            raise MergeError(f"the adapter names tensor {index}; the base has {len(manifest.tensors)}")
        entry = manifest.tensors[index]
        if delta.shape != entry.rows_columns:
            raise MergeError(f"{entry.name}: the adapter's delta is {delta.shape}, the tensor {entry.rows_columns}")
        total = apply_delta(tensor(index), delta)
        if not np.isfinite(total).all():
            raise MergeError(f"{entry.name}: a merged weight is not finite")
        out[index] = total
    return out


def check_base(manifest: Manifest, base_digest: bytes) -> None:
    """Raise `BaseMismatchError` for an adapter of another base."""
    if base_digest != manifest.digest:
        raise BaseMismatchError(
            f"the adapter is for base {base_digest.hex()[:16]}…, this is {manifest.digest.hex()[:16]}… "
            f"({manifest.name})",
            hint="export the adapter against this bundle",
        )
