"""The interface of a model family on the workstation; one module implements it for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tsfm.models.bolt import Bolt
from edge_tsfm.models.chronos2 import Chronos2
from edge_tsfm.models.t5 import T5
from edge_tsfm.models.timed import Timed


class Objective(Protocol):
    """What the trainer and the evaluation ask of a kind of model.

    Contexts are ``[B, L]``, targets ``[B, H]``, both in the signal's unit with NaN for missing.
    """

    name: str
    stopping_metric: str

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the training loss: a scalar."""

    def outputs(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return all that the weights decide, without chance: a change of the forecast changes it."""

    def score(self, model: Any, context: Tensor, target: Tensor) -> tuple[float, float]:
        """Return numerator and denominator of `stopping_metric`, by which training stops early."""

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast: ``[B, H, Q]`` at `levels`, in the context's unit."""

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the quantile levels of `quantiles`."""


class Family(Objective, Protocol):
    """A Chronos family: all that the workstation knows of it."""

    model_class: str  # of chronos-forecasting or transformers
    rates: Mapping[str, float]  # method → peak learning rate, where the method's own is not the family's
    timed: Timed | None  # None: bench does not time it

    def horizon(self, model: Any) -> int:
        """Return how many steps `outputs` tells of at most in one pass, which gradients go through."""

    def seed(self, context: NDArray[np.float32]) -> int:
        """Return the seed that `quantiles` draws a context's ``[L]`` paths with; 0 where nothing is drawn."""


FAMILIES: dict[str, Family] = {family.name: family for family in (Bolt(), T5(), Chronos2())}
_BY_CLASS = {family.model_class: family.name for family in FAMILIES.values()}


def family_of(model: Any) -> str:
    """Name a model's family. Raises `KeyError` for one that is not supported."""
    return _BY_CLASS[type(model).__name__]


def device_of(model: Any) -> torch.device:
    """Return where a model's weights are."""
    first: torch.nn.Parameter = next(iter(model.parameters()))
    return first.device
