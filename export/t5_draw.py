"""How Chronos-T5 draws a token: the same arithmetic in the device's graph and in torch's training and evaluation.

Needs only torch: training does not need onnx.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nucleus(largest: Tensor, temperature: Tensor | float, top_p: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return what is left of the probabilities of descending logits ``largest`` ``[N, K]``, and their running sums.

    A token stays while those before it fall short of top_p; the first always does. Both sums begin at the largest.
    """
    p = torch.softmax(largest / temperature, dim=-1)
    reached = torch.cumsum(p, dim=-1)
    kept = torch.where(reached - p < top_p, p, p.new_tensor(0.0))
    return kept, torch.cumsum(kept, dim=-1)


def last_kept(kept: Tensor) -> Tensor:
    """Return the place of the last token that is left, ``[N, 1]``: rounding may leave noise beyond it."""
    return (kept > 0).sum(-1, keepdim=True) - 1
