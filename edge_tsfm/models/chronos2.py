"""Chronos-2 as it is trained and evaluated here: one series at a time, though the device forecasts groups as well.

A series alone in its group attends to itself, so the group attention's q and k have no effect and are dead.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from edge_tsfm.errors import ConfigError
from edge_tsfm.models.direct import Direct, mask_degenerate_windows
from edge_tsfm.models.timed import Timed


def _model_class() -> Any:
    from chronos.chronos2 import Chronos2Model

    return Chronos2Model


def _pipeline(model: Any, _: Any) -> Any:
    from chronos import Chronos2Pipeline

    return Chronos2Pipeline(model)


class Chronos2(Direct):
    """Quantiles of the next patches, all at once."""

    name = "chronos-2"
    model_class = "Chronos2Model"
    timed: Timed | None = Timed(
        cases=((1, 512, 64), (32, 512, 64)),
        block=20,
        architecture=_model_class,
        pipeline=_pipeline,
        series=lambda contexts: contexts[:, None],  # one variable each
    )

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return Chronos-2's own quantile loss, per scored step and level; see `mask_degenerate_windows`."""
        context, target, scored = mask_degenerate_windows(model, context, target)
        patches, length = self._patches(model, target.shape[1])
        # The model's loss is the mean over windows and over the steps of whole patches of the sum over levels.
        loss: Tensor = model(context=context, future_target=target, num_output_patches=patches).loss
        per_step: Tensor = loss * length * len(target) / scored / model.num_quantiles
        return per_step

    def horizon(self, model: Any) -> int:
        """Return the steps of all output patches."""
        return int(model.chronos_config.max_output_patches * model.chronos_config.output_patch_size)

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast ``[B, L]``: ``[B, H, Q]``. Raises `ConfigError` beyond the model's own length."""
        patches, _ = self._patches(model, prediction_length)
        out: Tensor = model(context=context, num_output_patches=patches).quantile_preds
        return out[:, :, :prediction_length].transpose(1, 2)

    def _patches(self, model: Any, prediction_length: int) -> tuple[int, int]:
        """Return how many output patches cover the length, and how many steps those are."""
        config = model.chronos_config
        patches = math.ceil(prediction_length / config.output_patch_size)
        if patches > config.max_output_patches:
            raise ConfigError(
                f"prediction_length {prediction_length} needs {patches} output patches of {config.output_patch_size} "
                f"steps; this Chronos-2 forecasts at most {config.max_output_patches}"
            )
        return patches, patches * config.output_patch_size
