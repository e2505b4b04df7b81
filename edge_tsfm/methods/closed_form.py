"""FourierFT's layer without an inverse FFT at every step: the closed form of its few waves, as two thin products.

A coefficient ``c`` at entry ``(u, v)`` of a spectrum ``[M, N]`` adds ``c s / (M N) cos 2π(p u / M + q v / N)`` to the
weight. A cosine of a sum is two products of cosines and sines, so ``ΔW = left · diag(c, c) · right`` with ``left``
``[M, 2n]`` and ``right`` ``[2n, N]`` that never change. Nothing else of PEFT's layer does: its parameters, its entries
and its checkpoint are the same, and its own `get_delta_weight` is the judge.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.fourierft import FourierFTLinear
from torch import Tensor
from torch.nn import functional

MOST = 1_024  # coefficients: of more, the products are larger than the transform that they replace


class ClosedForm(FourierFTLinear):  # type: ignore[misc]  # PEFT ships no types
    """PEFT's layer; `of` makes it of one that has its entries."""

    @staticmethod
    def of(layer: Any, adapter: str) -> None:
        """Turn PEFT's ``layer`` into one of these, in place, unless it has more than `MOST` coefficients."""
        if layer.fourierft_n_frequency[adapter] > MOST:
            return
        layer.__class__ = ClosedForm
        layer.closed_form_of = adapter
        rows, columns = layer.out_features, layer.in_features
        u, v = layer.indices[adapter].long()
        down, across = _angles(rows, u), _angles(columns, v)
        scale = layer.fourierft_scaling[adapter] / (rows * columns)
        left = torch.cat([down.cos(), -down.sin()]).T * scale  # [M, 2n]
        right = torch.cat([across.cos(), across.sin()])  # [2n, N]
        layer.register_buffer("left", left.float().contiguous(), persistent=False)
        layer.register_buffer("right", right.float().contiguous(), persistent=False)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what PEFT's layer does. An adapter that is merged, switched off or another's is left to PEFT."""
        if self.merged or self.disable_adapters or self.active_adapters != [self.closed_form_of]:
            whole: Tensor = super().forward(x, *args, **kwargs)
            return whole
        coefficients = self.fourierft_spectrum[self.closed_form_of]
        both = torch.cat([coefficients, coefficients])  # [2n]
        base = self.base_layer
        if self._few(x.numel() // self.in_features):
            added = functional.linear(functional.linear(x, self.right) * both, self.left)
            return base(x) + added  # type: ignore[no-any-return]
        with torch.autocast(x.device.type, enabled=False):  # a weight is rounded once, as PEFT's
            weight = torch.addmm(base.weight, self.left * both, self.right)
        return functional.linear(x, weight, base.bias)

    def _few(self, rows: int) -> bool:
        """Return whether ``rows`` through both factors cost less than making the weight and its gradient.

        Multiplications of a step: both factors forwards and backwards for each row, against the product of the factors
        forwards and backwards and, for each row, the gradient of the weight.
        """
        rank, size = len(self.right), self.in_features * self.out_features
        few: bool = rows * (2 * rank * (self.in_features + self.out_features) - size) < 2 * rank * size
        return few


def _angles(size: int, position: Tensor) -> Tensor:
    """Return 2π p k / ``size`` for each position ``k`` and every place ``p``: ``[n, size]``, in float64.

    The product is reduced as an integer: an angle of thousands of turns would lose its digits.
    """
    turns = position[:, None] * torch.arange(size) % size
    return turns.double() * (2 * torch.pi / size)
