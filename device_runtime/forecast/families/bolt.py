"""Chronos-Bolt on the device: one run of the graph per 64 steps, longer forecasts as chronos-forecasting makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.patches import patch_size, probe_steps, whole_patches
from device_runtime.forecast.session import Session, SessionSettings, open_session, run
from device_runtime.format.learning import SHIFTED

FloatArray = NDArray[np.float32]
RunBlock = Callable[[FloatArray], FloatArray]


class _Bolt:
    """A session on one graph of a merged Chronos-Bolt, and forecasts longer than a run of it."""

    graph = "forecast"

    def __init__(self, bundle: Bundle, merged: Mapping[int, FloatArray], settings: SessionSettings) -> None:
        manifest = bundle.manifest
        self.patch_size = patch_size(manifest)
        self.context_length = manifest.context_length
        self.prediction_length = manifest.prediction_length
        self.levels = np.asarray(manifest.quantile_levels, dtype=np.float32)
        self.sessions: dict[str, Session] = {self.graph: open_session(bundle, self.graph, merged, settings)}

    def _extend(self, run_block: RunBlock, context: FloatArray, prediction_length: int) -> FloatArray:
        """Forecast as `predict` says, with ``run_block`` for a run of the graph: ``[B, L]`` to ``[B, Q, H]``."""
        context = context[:, -self.context_length :]
        block = run_block(context)  # [B, Q, H]
        blocks = [block]
        batch, count = len(context), len(self.levels)
        paths = np.repeat(context[:, None, :], count, axis=1)  # [B, Q, L]
        for _ in range(-(-prediction_length // self.prediction_length) - 1):
            paths = np.concatenate([paths, block], axis=-1)[..., -self.context_length :]
            continued = run_block(paths.reshape(batch * count, -1)).reshape(batch, count * count, -1)
            # numpy's float32 quantile interpolates in float32, as torch does.
            block = np.quantile(continued, self.levels, axis=1).transpose(1, 0, 2).astype(np.float32)
            blocks.append(block)
        return np.concatenate(blocks, axis=-1)[..., :prediction_length].transpose(0, 2, 1)


class BoltModel(_Bolt):
    """A merged Chronos-Bolt, ready to forecast."""

    def predict(self, context: FloatArray, prediction_length: int) -> FloatArray:
        """Forecast ``context`` ``[B, L]`` (NaN for missing): quantiles ``[B, H, Q]`` at the base's levels.

        Beyond the base's own prediction length every quantile is appended to the context in turn and the Q × Q
        continuations are reduced to Q quantiles, as in ``ChronosBoltPipeline.predict`` (chronos-forecasting 2.3).
        """
        return self._extend(self._run, context, prediction_length)

    def witness(self, context: FloatArray) -> FloatArray:
        """Return what the weights decide, in the context's unit: the quantiles of one run ``[B, H, Q]``."""
        return self.predict(context, self.prediction_length)

    def probe(self, context: FloatArray, size: int) -> FloatArray:
        """Return the known-answer probe of ``context`` ``[L]``: the first ``size`` of quantiles step by step."""
        steps = probe_steps(size, len(self.levels), self.prediction_length)
        return self.predict(context[None, :], steps).reshape(-1)[:size]

    def _run(self, context: FloatArray) -> FloatArray:
        """Pad on the left to whole patches and run the graph: ``[B, Q, H]``."""
        return run(self.sessions["forecast"], "quantiles", {"context": whole_patches(context, self.patch_size)})


class ShiftedBolt(_Bolt):
    """A merged Chronos-Bolt some of whose biases are shifted anew in every run, by numbers of each row's own."""

    graph = SHIFTED

    def predict(self, context: FloatArray, shift: FloatArray, prediction_length: int) -> FloatArray:
        """Forecast as `BoltModel.predict`, the biases shifted by ``shift`` ``[B, n]``: quantiles ``[B, H, Q]``."""

        def run_block(part: FloatArray) -> FloatArray:
            rows = np.repeat(shift, len(part) // len(shift), axis=0)  # beyond one run a context becomes Q of them
            feed = {"context": whole_patches(part, self.patch_size), "shift": rows}
            return run(self.sessions[SHIFTED], "quantiles", feed)

        return self._extend(run_block, context, prediction_length)

    def probe(self, context: FloatArray, shift: FloatArray, size: int) -> FloatArray:
        """Return the known-answer probe as `BoltModel.probe`, with ``shift`` ``[n]``."""
        steps = probe_steps(size, len(self.levels), self.prediction_length)
        return self.predict(context[None, :], shift[None, :], steps).reshape(-1)[:size]
