"""An adaptation merged into torch weights, as a device merges a blob, for tools that take complete models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from device_runtime.format.delta import Delta, apply_delta


def merge_into(model: nn.Module, deltas: Mapping[str, Delta]) -> None:
    """Add ``deltas`` (parameter name → what is added) to ``model``'s parameters, in place."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in deltas.items():
            weight = parameters[name]
            weight.copy_(torch.from_numpy(apply_delta(weight.detach().cpu().numpy(), delta)))
