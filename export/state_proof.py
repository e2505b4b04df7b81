"""Proof that a state graph matches torch: with the output patch block on top it gives training's loss and gradient.

The block is computed in float64, by the same formulas as the learner in C (`firmware_examples/learn/etsa_learn.c`). So
`export.learning_proof` compares this graph with torch as it compares the learning graph, and checks by the same loss
that every tensor has an effect.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.patches import patch_size, whole_patches
from device_runtime.forecast.session import SessionSettings, open_session, run_all
from device_runtime.format.learning import FAR, ROUNDED, STATE, Learning

FloatArray = NDArray[np.float32]
WideArray = NDArray[np.float64]

BLOCK = "output_patch_embedding"


class StateLearner:
    """A base's state graph with merged tensors, and the loss of a batch computed with it."""

    def __init__(self, bundle: Bundle, learning: Learning, merged: Mapping[int, FloatArray]) -> None:
        manifest = bundle.manifest
        self.names = learning.names
        self.sizes = tuple(manifest.tensors[index].size for index in learning.indices(manifest))
        self.levels = np.asarray(manifest.quantile_levels, dtype=np.float64)
        self._patch = patch_size(manifest)
        with bundle.in_memory():
            self._session = open_session(bundle, STATE, merged, SessionSettings())
            self._weights = {
                entry.name: np.asarray(merged.get(index, bundle.tensor(index)), dtype=np.float64)
                for index, entry in enumerate(manifest.tensors)
                if entry.name.startswith(f"{BLOCK}.")
            }

    @property
    def size(self) -> int:
        """Length n of a shift."""
        return sum(self.sizes)

    def states(self, context: FloatArray) -> dict[str, FloatArray]:
        """Run the graph: ``state`` ``[B, D]``, ``loc`` and ``scale`` ``[B, 1]`` of contexts ``[B, L]``."""
        return run_all(self._session, {"context": whole_patches(context, self._patch)})

    def gradients(self, context: FloatArray, target: FloatArray, shift: FloatArray) -> tuple[float, WideArray]:
        """Return training's loss of a batch and its gradient ``[n]``, as `LearningSession.gradients` does."""
        held = {name: array.astype(np.float64) for name, array in self.states(context).items()}
        state, loc, scale = held["state"], held["loc"], held["scale"]
        parts = np.split(shift.astype(np.float64), np.cumsum(self.sizes)[:-1])
        moved = dict(zip(self.names, parts, strict=True))
        inner = self._linear("hidden_layer", state, moved)
        made = self._linear("output_layer", np.maximum(inner, 0), moved) + self._linear("residual_layer", state, moved)
        quantiles = made.reshape(len(state), len(self.levels), -1)  # [B, Q, H]
        with np.errstate(invalid="ignore"):
            apart = np.nanmax(np.abs(context - loc), axis=1, keepdims=True, initial=0.0, where=~np.isnan(context))
        told = ~np.isnan(target) & (apart > ROUNDED * np.abs(loc))  # [B, H]
        far = np.where(told, np.clip((np.where(told, target, loc) - loc) / scale, -FAR, FAR), 0.0)
        miss = (far[:, None] - quantiles) * told[:, None]
        level = self.levels[None, :, None]
        gain = 2.0 / len(self.levels) / max(told.sum(), 1)
        loss = float(np.maximum(level * miss, (level - 1) * miss).sum() * gain)
        by_made = (((1 - level) * (miss < 0) - level * (miss > 0)) * gain).reshape(len(state), -1)
        by_inner = (by_made @ self._weights[f"{BLOCK}.output_layer.weight"]) * (inner > 0)
        found = {
            f"{BLOCK}.hidden_layer.bias": by_inner.sum(0),
            f"{BLOCK}.output_layer.bias": by_made.sum(0),
            f"{BLOCK}.residual_layer.bias": by_made.sum(0),
        }
        return loss, np.concatenate([found[name] for name in self.names])

    def _linear(self, name: str, x: WideArray, moved: Mapping[str, WideArray]) -> WideArray:
        """Apply a linear layer of the block to ``[B, n]``."""
        bias = self._weights[f"{BLOCK}.{name}.bias"] + moved.get(f"{BLOCK}.{name}.bias", 0.0)
        product: WideArray = x @ self._weights[f"{BLOCK}.{name}.weight"].T + bias
        return product
