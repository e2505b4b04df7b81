"""Averaged weights: an exponential moving average forecasts better than the last step's noisy weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Shadow copy of a model's trainable parameters that follows them slowly."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow: dict[str, Tensor] = {
            name: p.detach().float().clone() for name, p in model.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model; the first steps average over what there is."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(model.named_parameters())
        torch._foreach_lerp_(
            list(self.shadow.values()), [parameters[n].detach().float() for n in self.shadow], 1 - decay
        )

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights and the average; call again to exchange back."""
        parameters = dict(model.named_parameters())
        for name, average in self.shadow.items():
            held = parameters[name].detach().float().clone()
            parameters[name].copy_(average.to(parameters[name].dtype))
            average.copy_(held)
