"""Chronos-Bolt as chronos-forecasting defines it: its own loss, its own forecast."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edge_tsfm.models.direct import Direct, mask_degenerate_windows
from edge_tsfm.models.timed import Timed


def chronos_bolt() -> Any:
    """Import chronos-forecasting's module, which takes seconds, when it is first needed."""
    from chronos import chronos_bolt

    return chronos_bolt


class Bolt(Direct):
    """Quantiles of the next steps, all at once."""

    name = "chronos-bolt"
    model_class = "ChronosBoltModelForForecasting"
    timed: Timed | None = Timed(
        cases=((1, 512, 64), (32, 512, 64)),
        block=50,
        architecture=lambda: chronos_bolt().ChronosBoltModelForForecasting,
        pipeline=lambda model, _: chronos_bolt().ChronosBoltPipeline(model),
    )

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return Bolt's own quantile loss, per scored step, in units of the contexts' deviation.

        See `mask_degenerate_windows`.
        """
        # A new target in any case: Bolt writes zeros over missing ones in place.
        context, target, scored = mask_degenerate_windows(model, context, target)
        # The model's loss is the mean over windows and levels of the sum over steps.
        loss: Tensor = model(context=context, target=target).loss
        return loss * len(target) / scored

    def horizon(self, model: Any) -> int:
        """Return the model's own prediction length."""
        return int(model.chronos_config.prediction_length)

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast ``[B, L]``: ``[B, H, Q]``, longer than the model's own length as its pipeline does."""
        if prediction_length <= model.chronos_config.prediction_length:
            out: Tensor = model(context=context).quantile_preds[:, :, :prediction_length]
        else:
            out = chronos_bolt().ChronosBoltPipeline(model).predict(context, prediction_length=prediction_length)
        return out.transpose(1, 2)
