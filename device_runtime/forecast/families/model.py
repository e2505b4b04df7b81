"""The interface of a family's merged model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.groups import Grouped
from device_runtime.forecast.session import Session

FloatArray = NDArray[np.float32]


class Model(Protocol):
    """What a family's merged model does."""

    sessions: dict[str, Session]  # graph's name in the manifest → what runs it

    def predict(self, context: FloatArray, prediction_length: int) -> FloatArray:
        """Contexts ``[B, L]`` to quantiles ``[B, H, Q]`` at the base's levels."""

    def witness(self, context: FloatArray) -> FloatArray:
        """Contexts ``[B, L]`` to numbers ``[B, H, K]`` that the weights decide without chance, in their unit."""

    def probe(self, context: FloatArray, size: int) -> FloatArray:
        """Context ``[L]`` to the ``size`` numbers of the known-answer test."""


@runtime_checkable
class Sampler(Model, Protocol):
    """A family whose forecast is a number of sampled paths."""

    num_samples: int  # as the base's configuration has it

    def sample(self, context: FloatArray, prediction_length: int, num_samples: int, seed: int) -> FloatArray:
        """Contexts ``[B, L]`` to paths ``[B, S, H]``."""


@runtime_checkable
class Grouper(Model, Protocol):
    """A family that mixes series of a group."""

    def predict_groups(self, rows: Grouped, prediction_length: int) -> FloatArray:
        """Rows in their groups, targets and covariates, to quantiles ``[R, H, Q]`` at the base's levels."""
