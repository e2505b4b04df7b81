"""Chronos-Bolt in fixed shapes: scaling, patches and masks come from the processor, products and norms stay here.

The same function as `export.bolt`, for accelerators that compile a graph once. No operation asks for a shape or whether
a value is missing; what depends on no input (the position bias, the decoder's first self-attention) is left to ONNX
Runtime's constant folding, which sees the merged tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from export.bolt import BoltGraph
from export.errors import ExportError
from export.graph import Part
from export.layers import feed_forward, norm, residual


class StaticBoltGraph(BoltGraph):
    """Patches ``[B, P, 2 * size]`` and what blocks them ``[B, 1, 1, P]`` to quantiles ``[B, Q * H]`` in scales."""

    def __init__(self, model: Any, patches: int) -> None:
        super().__init__(model)
        self.decoder_blocks = len(model.decoder.block)  # all: copies that are written later save little here
        length = patches + int(self.use_reg_token)
        position = torch.arange(length)
        self.rows: Tensor
        rows = self.buckets[position[None, :] - position[:, None] + len(self.buckets) // 2]
        self.register_buffer("rows", rows, persistent=False)  # [query, key]: row of the bias table

    def forward(self, patches: Tensor, blocked: Tensor) -> Tensor:  # type: ignore[override]  # other inputs
        """Return quantiles in units of each context's scale, its loc taken away."""
        batch = patches.shape[0]
        hidden = residual(self.input_patch_embedding, patches)  # [B, P, D]
        if self.use_reg_token:
            reg = self.shared.weight[self.reg_token].expand(batch, 1, -1)
            hidden = torch.cat([hidden, reg], dim=1)
            blocked = torch.cat([blocked, torch.zeros(batch, 1, 1, 1)], dim=-1)
        encoded = self._encode(hidden, blocked)
        return residual(self.output_patch_embedding, self._decode(encoded, blocked)).reshape(batch, -1)

    def _encode(self, x: Tensor, blocked: Tensor) -> Tensor:
        """Run the encoder: ``[B, T, D]`` to ``[B, T, D]``."""
        table = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
        bias = table[self.rows].permute(2, 0, 1)[None] + blocked  # [B, heads, T, T]
        for block in self.encoder.block:
            attention = block.layer[0].SelfAttention
            normed = norm(block.layer[0].layer_norm, x)
            query, key, value = (
                self._heads(projection(normed)) for projection in (attention.q, attention.k, attention.v)
            )
            weights = torch.softmax(query @ key.transpose(-1, -2) + bias, dim=-1)
            x = x + attention.o((weights @ value).transpose(1, 2).reshape(*x.shape[:2], -1))
            x = feed_forward(block, x)
        return norm(self.encoder.final_layer_norm, x)

    def _heads(self, x: Tensor) -> Tensor:
        """Part ``[B, T, heads * width]`` into ``[B, heads, T, width]``."""
        return x.reshape(*x.shape[:2], self.heads, self.width).transpose(1, 2)


def static_part(model: Any, context_length: int, batch: int) -> Part:
    """Return the one graph. Raises `ExportError` for a shape that the model does not take."""
    chronos = model.chronos_config
    size = chronos.input_patch_size
    if chronos.input_patch_stride != size:
        raise ExportError("static graphs want patches side by side: input_patch_stride as input_patch_size")
    if context_length % size or not size <= context_length <= chronos.context_length:
        raise ExportError(
            f"static context of {context_length} steps: want whole patches of {size} steps, at most "
            f"{chronos.context_length} steps"
        )
    count = context_length // size
    return Part(
        name="static",
        module=StaticBoltGraph(model, count),
        inputs=(torch.randn(batch, count, 2 * size), torch.zeros(batch, 1, 1, count)),
        dynamic=(None, None),
        input_names=["patches", "blocked"],
        output_names=["quantiles"],
    )
