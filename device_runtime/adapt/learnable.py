"""What the learning core needs of a forecaster: the loss, its gradient and the forecast, all at a shift of its biases.

`device_runtime.forecast.learning` implements it over a bundle's learning graph; a test may implement it in numpy.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Learnable(Protocol):
    """A forecaster some of whose biases can move; a shift is what is added to the biases that it runs with."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that move, in the order of the bundle's table; dead ones are left out."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each of `names` has; a shift has `sum(sizes)` = n numbers, in this order."""

    @property
    def context_length(self) -> int:
        """Steps of context that one window has; a shorter context is padded with NaN on the left."""

    @property
    def prediction_length(self) -> int:
        """Most steps of a target; a shorter target is padded with NaN on the right."""

    def gradients(
        self, context: NDArray[np.float32], target: NDArray[np.float32], shift: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32]]:
        """Training's loss of a batch, mean over its scored steps, and its gradient by the shift.

        `context` is [B, L] and `target` [B, H], both in the signal's unit with NaN where missing; `shift` is [n],
        and so is the gradient. The loss is the pinball loss in the context's units, as in training.
        """

    def forecast(self, context: NDArray[np.float32], steps: int, shift: NDArray[np.float32]) -> NDArray[np.float32]:
        """Quantiles [B, steps, Q] in the signal's unit of the forecaster with `shift` added to its biases.

        `context` is [B, L]; `shift` is [n] for all rows, or [B, n] for one shift per row.
        """
