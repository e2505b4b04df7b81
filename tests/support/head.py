"""A `Learnable` on the dummy Bolt bundle without a learning graph: its last bias enters every forecast as a sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode

FloatArray = NDArray[np.float32]
NAME = "output_patch_embedding.residual_layer.bias"


class Head:
    """Moves the residual bias of the output patch block: ``q[h, j] += scale * shift[j, h]``, exact."""

    names = (NAME,)

    def __init__(self, bundle: Path, blob: bytes | None) -> None:
        self.forecaster = Forecaster.open(bundle, blob)
        manifest = self.forecaster.bundle.manifest
        adapter: Adapter | None = None if blob is None else decode(blob)
        bound = adapter.binding if adapter else None
        self.levels = np.array(manifest.quantile_levels)
        self.patch = manifest.tensors[self.forecaster.bundle.index_of(NAME)].size // len(self.levels)
        self.sizes = (self.patch * len(self.levels),)
        self.context_length = bound.context_length if bound else manifest.context_length
        self.prediction_length = min(self.patch, bound.prediction_length if bound else manifest.prediction_length)

    def _moved(self, context: FloatArray, shift: FloatArray) -> FloatArray:
        """What is added in units of the context's deviation, [B, H, Q]."""
        rows = np.broadcast_to(shift, (len(context), *self.sizes)).reshape(len(context), len(self.levels), self.patch)
        return rows.transpose(0, 2, 1)

    def forecast(self, context: FloatArray, steps: int, shift: FloatArray) -> FloatArray:
        made = self.forecaster.forecast(context, steps).quantiles
        scale = np.nanstd(context.astype(np.float64), axis=1)[:, None, None]
        return np.sort((made + scale * self._moved(context, shift)[:, :steps]).astype(np.float32), axis=-1)

    def gradients(self, context: FloatArray, target: FloatArray, shift: FloatArray) -> tuple[float, FloatArray]:
        steps = target.shape[1]
        made = self.forecaster.forecast(context, steps).quantiles.astype(np.float64)
        scale = np.maximum(np.nanstd(context.astype(np.float64), axis=1), 1e-3)[:, None, None]
        miss = (target[..., None] - made) / scale - self._moved(context, shift)[:, :steps]
        seen = np.isfinite(miss)
        miss = np.where(seen, miss, 0.0)
        loss = np.maximum(self.levels * miss, (self.levels - 1) * miss)
        slope = np.where(seen, np.where(miss > 0, -self.levels, 1 - self.levels), 0.0) / max(seen.sum(), 1)
        gradient = np.zeros((len(self.levels), self.patch))
        gradient[:, :steps] = slope.sum(0).T
        return float(loss.sum() / max(seen.sum(), 1)), gradient.ravel().astype(np.float32)
