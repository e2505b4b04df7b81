"""Chronos-Bolt as chronos-forecasting defines it: its own loss, its own forecast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Bolt:
    """Direct quantile forecasts of the next steps, one pass."""

    name = "chronos-bolt"

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return Bolt's quantile loss per scored step: missing targets are masked by the model itself.

        The model sums over quantiles and averages over its own prediction length, padding included; dividing by the
        observed share makes the loss comparable between windows with many and with few missing targets.
        """
        # Bolt writes zeros over missing targets in place.
        loss: Tensor = model(context=context, target=target.clone()).loss
        observed = torch.isfinite(target).sum() / target.shape[0]
        return loss * model.chronos_config.prediction_length / observed.clamp(min=1.0) / len(model.chronos_config.quantiles)

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast ``[B, L]``: ``[B, H, Q]``, longer than the model's own length as its pipeline does."""
        from chronos import ChronosBoltPipeline

        if prediction_length <= model.chronos_config.prediction_length:
            out: Tensor = model(context=context).quantile_preds[:, :, :prediction_length]
        else:
            out = ChronosBoltPipeline(model).predict(context, prediction_length=prediction_length)
        return out.transpose(1, 2)

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the levels Bolt was trained for."""
        return tuple(float(level) for level in model.chronos_config.quantiles)
