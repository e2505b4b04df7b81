"""Chronos-Bolt as chronos-forecasting defines it: its own loss, its own forecast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FAR = 20.0  # context deviations


class Bolt:
    """Direct quantile forecasts of the next steps, one pass."""

    name = "chronos-bolt"
    stopping_metric = "WQL"

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return Bolt's own quantile loss, per scored step, in units of the contexts' deviation.

        A constant context has no scale to learn at (the model divides by 1e-5): its window is left out. A target
        further than `FAR` deviations from the context's mean counts as that far, or one near-constant context would
        outweigh a batch in the reported loss; the gradient there is the same.
        """
        loc = context.nanmean(-1, keepdim=True)
        scale = (context - loc).square().nanmean(-1, keepdim=True).sqrt()
        target = target.clamp(loc - FAR * scale, loc + FAR * scale)
        # A new tensor in any case: Bolt writes zeros over missing targets in place.
        target = torch.where(scale > 0, target, torch.nan)
        scored = torch.isfinite(target).sum().clamp(min=1)
        # The model's loss is the mean over windows and levels of the sum over steps.
        loss: Tensor = model(context=context, target=target).loss
        return loss * len(target) / scored

    def outputs(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the quantiles of the target's steps ``[B, H, Q]``."""
        return self.quantiles(model, context, target.shape[1])

    def score(self, model: Any, context: Tensor, target: Tensor) -> tuple[float, float]:
        """Return twice the pinball loss and the sum of absolute targets: in the channel's unit, as the gate judges."""
        levels = torch.tensor(self.levels(model), device=target.device)
        miss = target[..., None] - self.quantiles(model, context, target.shape[1])  # [B, H, Q]
        pinball = torch.maximum(levels * miss, (levels - 1) * miss).mean(-1)
        return float(2 * pinball.nansum()), float(target.abs().nansum())

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
