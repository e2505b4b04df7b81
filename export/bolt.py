"""Chronos-Bolt as one ONNX graph: the same function as chronos-forecasting's module, arranged for a small CPU.

The graph module *adopts* the model's own submodules, so every parameter keeps its torch name, and computes what
`ChronosBoltModelForForecasting.forward` computes (chronos-forecasting 2.3) with three exact rearrangements:

* q, k and v of a block are one product (ONNX Runtime folds the concatenated weight when a session opens);
* the decoder sees a single token, so its self-attention is ``o(v(x))``: q, k and the relative bias are dead;
* one query attends to the encoder through ``(q K_w) x`` instead of ``q (K_w x)``: no keys or values per patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import ExportError


class BoltGraph(nn.Module):
    """Context ``[B, L]`` (NaN for missing, L a multiple of the patch size) to quantiles ``[B, Q, H]``."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.chronos: Any = model.chronos_config
        if config.is_gated_act or config.dense_act_fn != "relu":
            raise ExportError(f"Chronos-Bolt with feed_forward_proj {config.feed_forward_proj!r}: want relu")
        if self.chronos.input_patch_size != self.chronos.input_patch_stride:
            raise ExportError("Chronos-Bolt with overlapping patches: want input_patch_stride = input_patch_size")
        if model.instance_norm.use_arcsinh:
            raise ExportError("Chronos-Bolt with arcsinh scaling is not supported")
        # Adopted, not copied: parameter names stay those of the model.
        self.shared: Any = model.shared
        self.input_patch_embedding: Any = model.input_patch_embedding
        self.encoder: Any = model.encoder
        self.decoder: Any = model.decoder
        self.output_patch_embedding: Any = model.output_patch_embedding
        self.heads, self.width = config.num_heads, config.d_kv
        self.start_token = config.decoder_start_token_id
        self.use_reg_token = bool(self.chronos.use_reg_token)
        self.reg_token = config.reg_token_id if self.use_reg_token else 0
        self.quantile_count = len(self.chronos.quantiles)
        patches = math.ceil(self.chronos.context_length / self.chronos.input_patch_size) + int(self.use_reg_token)
        attention = model.encoder.block[0].layer[0].SelfAttention
        # Relative position of key minus query, for every distance that can occur: bucket of the bias table.
        distance = torch.arange(-(patches - 1), patches)
        buckets = attention._relative_position_bucket(
            distance,
            bidirectional=True,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        self.register_buffer("buckets", buckets, persistent=False)  # [2 * patches - 1]
        self.patches = patches

    def forward(self, context: Tensor) -> Tensor:
        """Return quantiles ``[B, Q, H]`` in the context's unit."""
        size = self.chronos.input_patch_size
        observed = ~torch.isnan(context)
        mask = observed.to(context.dtype)
        values = torch.where(observed, context, torch.zeros_like(context))
        count = mask.sum(dim=-1, keepdim=True)
        loc = values.sum(dim=-1, keepdim=True) / count.clamp(min=1.0)
        centred = torch.where(observed, context - loc, torch.zeros_like(context))
        scale = (centred.square().sum(dim=-1, keepdim=True) / count.clamp(min=1.0)).sqrt()
        # As in chronos: a context without observations has scale 1, a constant one the smallest scale.
        scale = torch.where(scale == 0, torch.full_like(scale, 1e-5), scale)
        scale = torch.where(count == 0, torch.ones_like(scale), scale)
        batch = context.shape[0]
        patched_mask = mask.reshape(batch, -1, size)  # [B, P, size]
        patched = torch.cat([(centred / scale).reshape(batch, -1, size), patched_mask], dim=-1)
        hidden = self._residual(self.input_patch_embedding, patched)  # [B, P, D]
        attended = patched_mask.amax(dim=-1)  # [B, P]
        if self.use_reg_token:
            reg = self.shared.weight[self.reg_token].expand(batch, 1, -1)
            hidden = torch.cat([hidden, reg], dim=1)
            attended = torch.cat([attended, torch.ones_like(attended[:, :1])], dim=1)
        # Finite, so that a row without any observation stays finite too; exp() of it is zero all the same.
        blocked = ((1.0 - attended) * -1e9)[:, None, None, :]  # [B, 1, 1, T]
        hidden = self._encode(hidden, blocked)
        out = self._residual(self.output_patch_embedding, self._decode(hidden, blocked))
        quantiles = out.reshape(batch, self.quantile_count, -1)
        return quantiles * scale[:, :, None] + loc[:, :, None]

    @staticmethod
    def _residual(block: Any, x: Tensor) -> Tensor:
        """Apply a patch embedding: one hidden layer around a linear shortcut."""
        out: Tensor = block.output_layer(torch.relu(block.hidden_layer(x))) + block.residual_layer(x)
        return out

    @staticmethod
    def _norm(layer: Any, x: Tensor) -> Tensor:
        """Root-mean-square norm, written the way ONNX Runtime recognises."""
        out: Tensor = layer.weight * (x / (x.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon).sqrt())
        return out

    def _feed_forward(self, block: Any, x: Tensor) -> Tensor:
        """Add a block's feed-forward layer."""
        dense = block.layer[-1].DenseReluDense
        out: Tensor = x + dense.wo(torch.relu(dense.wi(self._norm(block.layer[-1].layer_norm, x))))
        return out

    def _encode(self, x: Tensor, blocked: Tensor) -> Tensor:
        """Run the encoder: ``[B, T, D]`` to ``[B, T, D]``."""
        batch, length = x.shape[0], x.shape[1]
        table = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
        by_distance = table[self.buckets].transpose(0, 1)  # [heads, 2 * patches - 1]; folded
        position = torch.arange(length, device=x.device)
        index = position[None, :] - position[:, None] + (self.patches - 1)  # [query, key]
        bias = by_distance[:, index][None] + blocked  # [B, heads, T, T]
        for block in self.encoder.block:
            attention = block.layer[0].SelfAttention
            weight = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
            qkv = torch.nn.functional.linear(self._norm(block.layer[0].layer_norm, x), weight)
            qkv = qkv.reshape(batch, -1, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)  # [3, B, heads, T, width]
            scores = qkv[0] @ qkv[1].transpose(-1, -2) + bias
            mixed = torch.softmax(scores, dim=-1) @ qkv[2]
            x = x + attention.o(mixed.transpose(1, 2).reshape(batch, -1, self.heads * self.width))
            x = self._feed_forward(block, x)
        return self._norm(self.encoder.final_layer_norm, x)

    def _decode(self, encoded: Tensor, blocked: Tensor) -> Tensor:
        """Run the decoder for its one token: ``[B, 1, D]``."""
        batch = encoded.shape[0]
        x = self.shared.weight[self.start_token][None, None, :]  # [1, 1, D]; the first self-attention folds
        for number, block in enumerate(self.decoder.block):
            own = block.layer[0].SelfAttention
            x = x + own.o(own.v(self._norm(block.layer[0].layer_norm, x)))
            cross = block.layer[1].EncDecAttention
            query = cross.q(self._norm(block.layer[1].layer_norm, x)).reshape(-1, self.heads, 1, self.width)
            key = cross.k.weight.reshape(self.heads, self.width, -1)  # [heads, width, D]
            value = cross.v.weight.reshape(self.heads, self.width, -1)
            scores = (query @ key) @ encoded.transpose(1, 2)[:, None] + blocked  # [B, heads, 1, T]
            mixed = (torch.softmax(scores, dim=-1) @ encoded[:, None]) @ value.transpose(1, 2)  # [B, heads, 1, width]
            out = cross.o(mixed.reshape(batch, 1, self.heads * self.width))
            x = (x.expand(batch, 1, -1) if number == 0 else x) + out
            x = self._feed_forward(block, x)
        return self._norm(self.decoder.final_layer_norm, x)


FROZEN = ("shared.weight",)  # the start and [REG] tokens: no method tunes them


def describe(model: Any) -> dict[str, Any]:
    """Return the manifest's fields that depend on the family."""
    chronos = model.chronos_config
    return {
        "context_length": chronos.context_length,
        "prediction_length": chronos.prediction_length,
        "quantile_levels": [float(level) for level in chronos.quantiles],
        "parameters": {"patch_size": chronos.input_patch_size},
    }


def trace_graph(module: Any, trace: Callable[..., Any], folder: Path) -> Any:
    """Trace with any batch and any whole number of patches, so that a short context does not pay for a long one."""
    size = module.chronos.input_patch_size
    batch = torch.export.Dim("batch", min=1, max=65_536)
    patches = torch.export.Dim("patches", min=1, max=max(2, module.patches - int(module.use_reg_token)))
    example = torch.randn(2, 3 * size)
    return trace(module, (example,), ({0: batch, 1: size * patches},), ["context"], "quantiles", folder)
