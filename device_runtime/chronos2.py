"""Chronos-2 on the device, each series alone: one run of the graph for all steps.

Groups of series and covariates, which chronos-forecasting's pipeline offers, are not: the graph holds what a series
alone in its group uses.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.bundle import Bundle
from device_runtime.errors import FormatError, InputError
from device_runtime.parameters import number
from device_runtime.patches import patch_size, whole_patches
from device_runtime.session import Session, SessionSettings, open_session, run

FloatArray = NDArray[np.float32]
WITNESS_PATCHES = 2


class Chronos2Model:
    """A merged Chronos-2, ready to forecast."""

    def __init__(self, bundle: Bundle, merged: Mapping[int, FloatArray], settings: SessionSettings) -> None:
        manifest = bundle.manifest
        self.patch_size = patch_size(manifest)
        self.time_scale = number(manifest.parameters, "time_scale")
        if not self.time_scale > 0:
            raise FormatError(f"bundle.json: parameters.time_scale: want more than 0, got {self.time_scale}")
        self.context_length = manifest.context_length
        self.prediction_length = manifest.prediction_length
        self.level_count = len(manifest.quantile_levels)
        self.session: Session = open_session(bundle, "forecast", merged, settings)

    def predict(self, context: FloatArray, prediction_length: int) -> FloatArray:
        """Forecast ``context`` ``[B, L]`` (NaN for missing): quantiles ``[B, H, Q]`` at the base's levels.

        Raises `InputError` beyond the base's own prediction length.
        """
        if prediction_length > self.prediction_length:
            raise InputError(
                f"prediction_length {prediction_length}: this Chronos-2 reaches at most {self.prediction_length} steps"
            )
        patches = -(-prediction_length // self.patch_size)
        steps = np.arange(patches * self.patch_size, dtype=np.float32) / np.float32(self.time_scale)
        feed = {
            "context": whole_patches(context[:, -self.context_length :], self.patch_size),
            "future_time": steps.reshape(patches, self.patch_size),
        }
        return run(self.session, "quantiles", feed)[..., :prediction_length].transpose(0, 2, 1)

    def witness(self, context: FloatArray) -> FloatArray:
        """Return what the weights decide, in the context's unit: quantiles of the first patches ``[B, H, Q]``."""
        return self.predict(context, min(WITNESS_PATCHES * self.patch_size, self.prediction_length))

    def probe(self, context: FloatArray, size: int) -> FloatArray:
        """Return the known-answer probe of ``context`` ``[L]``: the first ``size`` of quantiles step by step."""
        return self.predict(context[None, :], -(-size // self.level_count)).reshape(-1)[:size]
