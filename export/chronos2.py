"""Chronos-2 as one ONNX graph, each series alone in its group.

What `Chronos2Model.forward` computes (chronos-forecasting 2.3) without covariates, rearranged as in `export.bolt`: q, k
and v are one product; a series alone in its group attends to itself, so group attention is ``o(v(x))`` and its q and k
are dead; rotary positions are those of the tokens counted from the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from device_runtime.chronos2 import WITNESS_PATCHES
from export.errors import ExportError
from export.graph import Part
from export.layers import BLOCKED, check_layers, joined_projections, norm, residual, standardise

FloatArray = NDArray[np.float32]


class Chronos2Graph(nn.Module):
    """Context ``[B, L]`` (NaN for missing, L whole patches) and future times ``[P, patch]`` to ``[B, Q, H]``."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        check_layers(model.config, "Chronos-2")
        self.chronos: Any = model.chronos_config
        if self.chronos.input_patch_size != self.chronos.input_patch_stride:
            raise ExportError("Chronos-2 with overlapping patches: want input_patch_stride = input_patch_size")
        if not self.chronos.use_reg_token:
            raise ExportError("Chronos-2 without a [REG] token is not supported")
        self.shared: Any = model.shared
        self.input_patch_embedding: Any = model.input_patch_embedding
        self.encoder: Any = model.encoder
        self.output_patch_embedding: Any = model.output_patch_embedding
        self.heads, self.width = model.config.num_heads, model.config.d_kv
        self.reg_token = model.config.reg_token_id
        rotary = model.encoder.block[0].layer[0].self_attention.rope_embed
        self.frequencies: Tensor
        self.register_buffer("frequencies", rotary.inv_freq.clone(), persistent=False)  # [width / 2]

    def forward(self, context: Tensor, future_time: Tensor) -> Tensor:
        """Return quantiles ``[B, Q, H]`` in the context's unit."""
        size = self.chronos.input_patch_size
        scaled, mask, loc, scale = standardise(context)
        if self.chronos.use_arcsinh:
            scaled = torch.asinh(scaled)
        batch = context.shape[0]
        mask = mask.reshape(batch, -1, size)  # [B, P, size]
        values = scaled.reshape(batch, -1, size)
        time = torch.arange(context.shape[1], device=context.device) - context.shape[1]
        time = (time.to(context.dtype) / self.chronos.time_encoding_scale).reshape(1, -1, size).expand_as(values)
        past = residual(self.input_patch_embedding, torch.cat([time, values, mask], dim=-1))
        nothing = torch.zeros_like(future_time)
        ahead = residual(self.input_patch_embedding, torch.cat([future_time, nothing, nothing], dim=-1))
        ahead = ahead.expand(batch, -1, -1)  # [B, future patches, D]
        reg = self.shared.weight[self.reg_token].expand(batch, 1, -1)
        attended = mask.amax(dim=-1)  # [B, P]
        attended = torch.cat([attended, torch.ones_like(ahead[:, :, 0]), torch.ones_like(reg[:, :, 0])], dim=1)
        x = self._encode(torch.cat([past, reg, ahead], dim=1), ((1.0 - attended) * BLOCKED)[:, None, None, :])
        out = residual(self.output_patch_embedding, x[:, -future_time.shape[0] :])  # [B, future patches, Q * size]
        out = out.reshape(batch, -1, len(self.chronos.quantiles), size).transpose(1, 2)
        quantiles = out.reshape(batch, len(self.chronos.quantiles), -1)
        if self.chronos.use_arcsinh:
            quantiles = torch.sinh(quantiles)
        return quantiles * scale[:, :, None] + loc[:, :, None]

    def _encode(self, x: Tensor, blocked: Tensor) -> Tensor:
        """Run the encoder: ``[B, T, D]`` to ``[B, T, D]``."""
        batch, length = x.shape[0], x.shape[1]
        angle = torch.arange(length, device=x.device).to(x.dtype)[:, None] * self.frequencies  # [T, width / 2]
        cos, sin = (torch.cat([part, part], dim=-1) for part in (angle.cos(), angle.sin()))  # [T, width]
        for block in self.encoder.block:
            attention = block.layer[0].self_attention
            qkv = joined_projections(attention, norm(block.layer[0].layer_norm, x))
            qkv = qkv.reshape(batch, -1, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)  # [3, B, heads, T, width]
            q, k = (part * cos + _half_turned(part) * sin for part in (qkv[0], qkv[1]))
            mixed = torch.softmax(q @ k.transpose(-1, -2) + blocked, dim=-1) @ qkv[2]
            x = x + attention.o(mixed.transpose(1, 2).reshape(batch, -1, self.heads * self.width))
            alone = block.layer[1].self_attention
            x = x + alone.o(alone.v(norm(block.layer[1].layer_norm, x)))
            dense = block.layer[2].mlp
            x = x + dense.wo(torch.relu(dense.wi(norm(block.layer[2].layer_norm, x))))
        return norm(self.encoder.final_layer_norm, x)


def _half_turned(x: Tensor) -> Tensor:
    """Return the halves of the last axis exchanged, the new first one negated (rotary positions)."""
    half = x.shape[-1] // 2
    return torch.cat([-x[..., half:], x[..., :half]], dim=-1)


FROZEN = ("shared.weight",)  # the [REG] token


def describe(model: Any) -> dict[str, Any]:
    """Return the manifest's fields that depend on the family."""
    chronos = model.chronos_config
    return {
        "context_length": int(chronos.context_length),
        "prediction_length": int(chronos.max_output_patches * chronos.output_patch_size),
        "quantile_levels": [float(level) for level in chronos.quantiles],
        "parameters": {"patch_size": int(chronos.input_patch_size), "time_scale": int(chronos.time_encoding_scale)},
    }


def parts(model: Any) -> list[Part]:
    """Return the one graph, for any batch and any whole numbers of patches behind and ahead."""
    module = Chronos2Graph(model)
    size = module.chronos.input_patch_size
    batch = torch.export.Dim("batch", min=1, max=65_536)
    past = torch.export.Dim("past", min=1, max=max(4, module.chronos.context_length // size))
    ahead = torch.export.Dim("ahead", min=1, max=max(4, module.chronos.max_output_patches))
    return [
        Part(
            name="forecast",
            module=module,
            inputs=(torch.randn(2, 3 * size), torch.rand(2, size)),
            dynamic=({0: batch, 1: size * past}, {0: ahead}),
            input_names=["context", "future_time"],
            output_names=["quantiles"],
        )
    ]


def witness(model: Any, context: FloatArray) -> FloatArray:
    """Forecast the first patches with chronos-forecasting's own module: ``[B, L]`` to quantiles ``[B, H, Q]``."""
    patches = min(WITNESS_PATCHES, model.chronos_config.max_output_patches)
    quantiles = model(context=torch.from_numpy(context.copy()), num_output_patches=patches).quantile_preds
    return np.asarray(quantiles.transpose(1, 2).float().cpu().numpy())
