"""N-HiTS (Challu et al. 2023, arXiv 2201.12886), neuralforecast's network, trained from scratch as a baseline.

The network is the library's; windows, patients, early stopping and the loss are those of the adapters, so that only
the model differs. Contexts are scaled by their own mean and deviation; a missing value is the last observed one, and
masked where the network takes a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from device_runtime.format.learning import FAR
from edge_tsfm.models.direct import Direct
from edge_tsfm.research.study.scores import LEVELS

WIDTH = 256  # hidden units: about 700,000 parameters in three stacks, for 48 steps of context and 6 ahead
LEARNING_RATE = 1e-3  # the library's own


class NHits(Direct):
    """What the training loop asks of a family."""

    name = "n-hits"

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the levels the network is made for."""
        return LEVELS

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the quantile loss in units of the contexts' deviation; constant contexts teach nothing."""
        level, scale = _scale(context)
        scaled = ((target - level) / scale).clamp(-FAR, FAR)
        seen = torch.isfinite(target) & (context.nan_to_num(nan=-torch.inf).amax(1) > _least(context))[:, None]
        miss = torch.where(seen, scaled, 0.0)[..., None] - _forward(model, context, level, scale)  # [B, H, Q]
        levels = torch.tensor(LEVELS, device=target.device)
        pinball = torch.maximum(levels * miss, (levels - 1) * miss).sum(-1)  # over levels, as Bolt's loss
        return 2 * (pinball * seen).sum() / seen.sum().clamp(min=1)

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast ``[B, L]``: ``[B, H, Q]``; crossing quantiles are sorted."""
        level, scale = _scale(context)
        sorted_quantiles, _ = _forward(model, context, level, scale).sort(-1)
        return sorted_quantiles * scale[..., None] + level[..., None]


def make_network(context_length: int, prediction_length: int, seed: int) -> nn.Module:
    """Make an untrained network of about 700,000 parameters (at 48 → 6)."""
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import NHITS

    network: nn.Module = NHITS(
        h=prediction_length,
        input_size=context_length,
        mlp_units=3 * [[WIDTH, WIDTH]],
        loss=MQLoss(quantiles=list(LEVELS)),
        random_seed=seed,
        start_padding_enabled=False,
    )
    return network


def _forward(model: Any, context: Tensor, level: Tensor, scale: Tensor) -> Tensor:
    """Run the network on scaled contexts: ``[B, H, Q]`` in scaled units."""
    seen = torch.isfinite(context)
    filled = (_carry_forward(context, seen) - level) / scale
    batch = {
        "insample_y": filled[..., None],
        "insample_mask": seen[..., None].float(),
        "futr_exog": None,
        "hist_exog": None,
        "stat_exog": None,
    }
    quantiles: Tensor = model(batch)
    return quantiles


def _scale(context: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation ``[B, 1]``; the deviation of a constant context is 1."""
    level = context.nanmean(1, keepdim=True)
    scale = (context - level).square().nanmean(1, keepdim=True).sqrt()
    return level, torch.where(scale > 0, scale, 1.0)


def _least(context: Tensor) -> Tensor:
    return context.nan_to_num(nan=torch.inf).amin(1)


def _carry_forward(context: Tensor, seen: Tensor) -> Tensor:
    """Fill gaps with the last observed value, and those before the first with the first."""
    place = torch.where(seen, torch.arange(context.shape[1], device=context.device), -1).cummax(1).values
    first = seen.float().argmax(1, keepdim=True)
    return context.gather(1, torch.where(place < 0, first, place))
