"""What families that forecast quantiles in one pass share: their score, and which windows can be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_runtime.format.learning import FAR, ROUNDED


class Direct:
    """A family whose model returns quantiles ``[B, Q, H]`` and scales by its context's mean and deviation."""

    stopping_metric = "WQL"
    rates: Mapping[str, float] = MappingProxyType({})  # the methods' own were found with these families

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast: ``[B, H, Q]`` at `levels`, in the context's unit."""
        raise NotImplementedError

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the levels the model was trained for."""
        return tuple(float(level) for level in model.chronos_config.quantiles)

    def seed(self, context: NDArray[np.float32]) -> int:
        """Return 0: nothing is drawn."""
        return 0

    def outputs(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the quantiles of the target's steps ``[B, H, Q]``."""
        return self.quantiles(model, context, target.shape[1])

    def score(self, model: Any, context: Tensor, target: Tensor) -> tuple[float, float]:
        """Return twice the pinball loss and the sum of absolute targets: in the signal's unit, as the gate judges."""
        levels = torch.tensor(self.levels(model), device=target.device)
        quantiles = self.quantiles(model, context, target.shape[1]).sort(-1).values  # as they are forecast
        miss = target[..., None] - quantiles  # [B, H, Q]
        pinball = torch.maximum(levels * miss, (levels - 1) * miss).mean(-1)
        return float(2 * pinball.nansum()), float(target.abs().nansum())


def mask_degenerate_windows(model: Any, context: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the model sees of ``context``, a new ``target`` to learn from, and how many values that scores.

    A context that is constant but for rounding (`ROUNDED`) has no scale to learn at: the models divide by 1e-5, or, as
    the mean of equal values is rounded too, by 4e-6 for 36.7 everywhere. Its window is left out. A target further
    than `FAR` deviations from the context's mean counts as that far, or one near-constant context would outweigh a
    batch in the reported loss; a quantile loss has the same gradient there.
    """
    context = context[:, -model.chronos_config.context_length :]
    loc = context.nanmean(-1, keepdim=True)
    scale = (context - loc).square().nanmean(-1, keepdim=True).sqrt()
    target = target.clamp(loc - FAR * scale, loc + FAR * scale)
    apart = (context - loc).abs().nan_to_num(0.0).amax(-1, keepdim=True)
    target = torch.where(apart > ROUNDED * loc.abs(), target, torch.nan)
    return context, target, torch.isfinite(target).sum().clamp(min=1)
