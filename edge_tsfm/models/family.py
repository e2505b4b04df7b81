"""What the workstation asks of a model family; one module implements it for each."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from edge_tsfm.models.bolt import Bolt


class Family(Protocol):
    """A Chronos family as the trainer and the evaluation see it."""

    name: str

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the training loss of contexts ``[B, L]`` and targets ``[B, H]``, NaN for missing: a scalar."""

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast contexts ``[B, L]``: ``[B, H, Q]`` at `levels`, in the context's unit."""

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the quantile levels of `quantiles`."""


FAMILIES: dict[str, Family] = {"chronos-bolt": Bolt()}


def family_of(model: Any) -> str:
    """Name a model's family. Raises `KeyError` for one that is not supported."""
    return {"ChronosBoltModelForForecasting": "chronos-bolt"}[type(model).__name__]


def device_of(model: Any) -> torch.device:
    """Say where a model's weights are."""
    first: torch.nn.Parameter = next(iter(model.parameters()))
    return first.device
