"""What a shift of FourierFT's coefficients adds to a linear layer, and its step back, without making the weight.

A weight's change is ``left · diag([s, s]) · right`` (`device_runtime.format.fourier_shift`). So its product with an
input is that of two thin matrices with the row's own numbers in between, and rows of a batch can differ. The matrices
are megabytes that follow from a few hundred entries and one period of a cosine: a graph holds these, and ONNX Runtime
makes the matrices once, when a session opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from device_runtime.format.delta import COSINE_BITS, integer_waves
from device_runtime.format.fourier_shift import FourierShift


class Waves(nn.Module):
    """The waves of a model's weights ``names``. In all methods ``shift`` is ``[1 or B, 1, count]``.

    With ``heads`` an input is ``[B, heads, 1, columns]``, and a head has its own rows of the weight as output.
    """

    def __init__(self, model: Any, names: Sequence[str], fourier: FourierShift) -> None:
        super().__init__()
        self._made: dict[str, Tensor] = {}  # of one pass, so that a trace makes each matrix once
        self._shapes = {name: tuple(model.get_parameter(name).shape) for name in names}
        for rows, columns in sorted(set(self._shapes.values())):
            entries = torch.from_numpy(fourier.entries((rows, columns)).astype(np.int64))
            for side, frequency in (("down", entries // columns), ("across", entries % columns)):
                self.register_buffer(f"{side}_{rows}x{columns}", frequency)  # [count]
            self.register_buffer(f"period_{rows}_down", _period(rows) * torch.tensor([1.0, -1.0]) * fourier.height)
            self.register_buffer(f"period_{columns}_across", _period(columns))
            for size in (rows, columns):
                self.register_buffer(f"places_{size}", torch.arange(size))

    def begin(self) -> None:
        """Begin a pass."""
        self._made = {}

    def added(self, name: str, x: Tensor, shift: Tensor, heads: int = 0) -> Tensor:
        """Return what the shift adds to the layer's output for its input ``x`` ``[B, T, columns]``."""
        return (x @ self._into(name) * _both(shift, heads)) @ self._out(name, heads)

    def gradient(self, name: str, x: Tensor, d: Tensor, heads: int = 0) -> Tensor:
        """Return the gradient by the coefficients ``[count]`` from the layer's input and the gradient by its output."""
        product = (x @ self._into(name)) * (d @ self._out(name, heads).transpose(-1, -2))
        both = product.sum(tuple(range(product.dim() - 1)))
        return both[: both.shape[0] // 2] + both[both.shape[0] // 2 :]

    def back(self, name: str, d: Tensor, shift: Tensor, heads: int = 0) -> Tensor:
        """Return the gradient by the layer's input, as far as it comes through the shift."""
        return (d @ self._out(name, heads).transpose(-1, -2) * _both(shift, heads)) @ self._into(name).T

    def _into(self, name: str) -> Tensor:
        """Return the waves along a weight's columns ``[columns, 2 count]``."""
        return self._waves(name, "across", self._shapes[name][1])

    def _out(self, name: str, heads: int) -> Tensor:
        """Return the waves along a weight's rows ``[2 count, rows]``, or those of heads ``[heads, 2 count, width]``."""
        waves = self._waves(name, "down", self._shapes[name][0])
        if not heads:
            return waves.T
        return waves.reshape(heads, waves.shape[0] // heads, waves.shape[1]).transpose(1, 2)

    def _waves(self, name: str, side: str, size: int) -> Tensor:
        """Return the cosines, then the sines, along one side of a weight: ``[size, 2 count]``."""
        rows, columns = self._shapes[name]
        key = f"{side}_{rows}x{columns}"
        if key not in self._made:
            self._made[key] = self._make(key, side, size)
        return self._made[key]

    def _make(self, key: str, side: str, size: int) -> Tensor:
        """Make one of these matrices."""
        frequency, period = getattr(self, key), getattr(self, f"period_{size}_{side}")
        # Places and divisor as tensors: what ONNX makes of numbers here is not folded, and nothing behind it.
        phase = torch.remainder(getattr(self, f"places_{size}")[:, None] * frequency, torch.tensor(size))
        return functional.embedding(phase, period).transpose(1, 2).reshape(size, -1)


def _period(size: int) -> Tensor:
    """Return one period of the format's cosine and sine ``[size, 2]``."""
    both = np.concatenate(integer_waves(size, np.ones(1, dtype=np.int64)), axis=1)
    return torch.from_numpy((both / 2.0**COSINE_BITS).astype(np.float32))


def _both(shift: Tensor, heads: int) -> Tensor:
    """Repeat the coefficients for cosines and sines."""
    both = torch.cat([shift, shift], dim=-1)
    return both[:, None] if heads else both
