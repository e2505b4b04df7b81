"""Chronos-2 as one ONNX graph: series alone, series in groups, covariates.

What `Chronos2Model.forward` computes (chronos-forecasting 2.3), rearranged as in `export.bolt`: q, k and v along time
are one product; rotary positions are those of the tokens counted from the left. A series alone in its group attends
to itself, so its group attention is ``o(v(x))``: only series that share a group have queries and keys computed
(docs/adr/0016).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from device_runtime.forecast.families.chronos2 import WITNESS_PATCHES, Chronos2Model, company
from export.errors import ExportError
from export.family import FamilyExport
from export.graph import Part
from export.layers import BLOCKED, activated, joined_projections, norm, patched, residual, standardise

FloatArray = NDArray[np.float32]


class Chronos2Graph(nn.Module):
    """Contexts ``[B, L]`` and known futures ``[B, F]`` (NaN for missing, whole patches) to ``[B, Q, F]``.

    ``together`` ``[G]`` are the places of the series that share a group with another, ``group_ids`` ``[G]`` their
    groups. Both may be empty.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.chronos: Any = model.chronos_config
        if not self.chronos.use_reg_token:
            raise ExportError("Chronos-2 without a [REG] token: chronos-forecasting itself cannot forecast with it")
        self.shared: Any = model.shared
        self.input_patch_embedding: Any = model.input_patch_embedding
        self.encoder: Any = model.encoder
        self.output_patch_embedding: Any = model.output_patch_embedding
        self.heads, self.width = model.config.num_heads, model.config.d_kv
        self.reg_token = model.config.reg_token_id
        rotary = model.encoder.block[0].layer[0].self_attention.rope_embed
        self.frequencies: Tensor
        self.register_buffer("frequencies", rotary.inv_freq.clone(), persistent=False)  # [width / 2]

    def forward(self, context: Tensor, future: Tensor, together: Tensor, group_ids: Tensor) -> Tensor:
        """Return quantiles ``[B, Q, F]`` in the contexts' units."""
        batch, size = context.shape[0], self.chronos.input_patch_size
        scaled, mask, loc, scale = standardise(context)
        known = ~torch.isnan(future)
        ahead = torch.where(known, (future - loc) / scale, torch.zeros_like(future))
        if self.chronos.use_arcsinh:
            scaled, ahead = torch.asinh(scaled), torch.asinh(ahead)
        stride = self.chronos.input_patch_stride
        past = self._embed(scaled, mask, -context.shape[1], stride)  # [B, P, D]
        coming = self._embed(ahead, known.to(future.dtype), 0, size)  # [B, F / size, D]
        reg = self.shared.weight[self.reg_token].expand(batch, 1, -1)
        attended = patched(mask, size, stride).amax(dim=-1)  # [B, P]
        attended = torch.cat([attended, torch.ones_like(coming[:, :, 0]), torch.ones_like(reg[:, :, 0])], dim=1)
        same = (group_ids[:, None] == group_ids[None, :]).to(context.dtype)  # [G, G]; as a boolean it has no product
        allowed = same[None] * attended.index_select(0, together).transpose(0, 1)[:, None, :]  # [T, query, key]
        x = self._encode(
            torch.cat([past, reg, coming], dim=1),
            ((1.0 - attended) * BLOCKED)[:, None, None, :],
            together,
            ((1.0 - allowed) * BLOCKED)[:, None],
        )
        out = residual(self.output_patch_embedding, x[:, -coming.shape[1] :])  # [B, F / size, Q * size]
        out = out.reshape(batch, -1, len(self.chronos.quantiles), size).transpose(1, 2)
        quantiles = out.reshape(batch, len(self.chronos.quantiles), -1)
        if self.chronos.use_arcsinh:
            quantiles = torch.sinh(quantiles)
        return quantiles * scale[:, :, None] + loc[:, :, None]

    def _embed(self, values: Tensor, mask: Tensor, first: int, stride: int) -> Tensor:
        """Embed patches of ``values`` ``[B, S]``, the first of them at time ``first``: ``[B, patches, D]``.

        Patches that overlap are numbered as if they did not, and the last ends at time 0, as in chronos-forecasting.
        """
        size = self.chronos.input_patch_size
        values, mask = patched(values, size, stride), patched(mask, size, stride)
        if stride != size:
            first = -values.shape[1] * size
        time = torch.arange(values.shape[1] * size, device=values.device) + first
        time = (time.to(values.dtype) / self.chronos.time_encoding_scale).reshape(1, -1, size).expand_as(values)
        return residual(self.input_patch_embedding, torch.cat([time, values, mask], dim=-1))

    def _encode(self, x: Tensor, blocked: Tensor, together: Tensor, apart: Tensor) -> Tensor:
        """Run the encoder: ``[B, T, D]`` to ``[B, T, D]``.

        ``blocked`` ``[B, 1, 1, T]`` is added to the scores of steps, ``apart`` ``[T, 1, G, G]`` to those of series.
        """
        length = x.shape[1]
        angle = torch.arange(length, device=x.device).to(x.dtype)[:, None] * self.frequencies  # [T, width / 2]
        cos, sin = (torch.cat([part, part], dim=-1) for part in (angle.cos(), angle.sin()))  # [T, width]
        for block in self.encoder.block:
            x = x + self._time_attention(block.layer[0], x, blocked, cos, sin)
            x = x + self._group_attention(block.layer[1], x, together, apart)
            dense = block.layer[2].mlp
            x = x + dense.wo(activated(dense, dense.wi(norm(block.layer[2].layer_norm, x))))
        return norm(self.encoder.final_layer_norm, x)

    def _time_attention(self, layer: Any, x: Tensor, blocked: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend from step to step of a series."""
        attention = layer.self_attention
        qkv = joined_projections(attention, norm(layer.layer_norm, x))
        qkv = qkv.reshape(x.shape[0], -1, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)  # [3, B, heads, T, width]
        q, k = (part * cos + _half_turned(part) * sin for part in (qkv[0], qkv[1]))
        mixed = torch.softmax(q @ k.transpose(-1, -2) + blocked, dim=-1) @ qkv[2]
        out: Tensor = attention.o(mixed.transpose(1, 2).reshape(x.shape[0], -1, self.heads * self.width))
        return out

    def _group_attention(self, layer: Any, x: Tensor, together: Tensor, apart: Tensor) -> Tensor:
        """Attend from series to series of a group, step by step; a series alone takes its own values.

        Only the G series ``together`` need queries and keys: with none of them, nothing is computed here but ``o(v)``.
        """
        attention = layer.self_attention
        normed = norm(layer.layer_norm, x)
        values = attention.v(normed)  # [B, T, heads * width]
        length, count = x.shape[1], together.shape[0]

        # Steps and heads become one axis. Left two, ONNX Runtime up to 1.24 fuses the transposition into the product,
        # which then divides by the number of members: the process dies where there are none.
        def by_step(states: Tensor) -> Tensor:  # [G, T, heads * width] to [T * heads, G, width]
            states = states.reshape(count, length, self.heads, self.width).permute(1, 2, 0, 3)
            return states.reshape(length * self.heads, count, self.width)

        members = normed.index_select(0, together)
        q, k = by_step(attention.q(members)), by_step(attention.k(members))
        scores = (q @ k.transpose(1, 2)).reshape(length, self.heads, count, count) + apart
        weights = torch.softmax(scores, dim=-1).reshape(length * self.heads, count, count)
        mixed = weights @ by_step(values.index_select(0, together))
        mixed = mixed.reshape(length, self.heads, count, self.width).permute(2, 0, 1, 3)
        mixed = mixed.reshape(count, length, self.heads * self.width)
        out: Tensor = attention.o(values.index_put((together,), mixed))
        return out


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
        "parameters": {"patch_size": int(chronos.input_patch_size)},
    }


def parts(model: Any) -> list[Part]:
    """Return the one graph, for any batch, any groups and any whole numbers of patches behind and ahead."""
    module = Chronos2Graph(model)
    size = module.chronos.input_patch_size
    batch = torch.export.Dim("batch", min=1, max=65_536)
    past = torch.export.Dim("past", min=1, max=max(4, module.chronos.context_length // size))
    ahead = torch.export.Dim("ahead", min=1, max=max(4, module.chronos.max_output_patches))
    grouped = torch.export.Dim("grouped", min=0, max=65_536)
    return [
        Part(
            name="forecast",
            module=module,
            inputs=(torch.randn(3, 3 * size), torch.rand(3, 2 * size), torch.tensor([0, 2]), torch.tensor([7, 7])),
            dynamic=({0: batch, 1: size * past}, {0: batch, 1: size * ahead}, {0: grouped}, {0: grouped}),
            input_names=["context", "future", "together", "group_ids"],
            output_names=["quantiles"],
        )
    ]


def response(model: Any, context: FloatArray) -> Tensor:
    """Forecast the first patches with chronos-forecasting's own module, as the runtime's `witness`: ``[B, 2 H, Q]``."""
    patches = min(WITNESS_PATCHES, model.chronos_config.max_output_patches)
    rows = company(context[:, -model.chronos_config.context_length :], patches * model.chronos_config.output_patch_size)
    grouped = model(
        context=torch.from_numpy(rows.context),
        group_ids=torch.from_numpy(rows.groups),
        future_covariates=torch.from_numpy(rows.future),
        num_output_patches=patches,
    ).quantile_preds[: rows.targets]
    alone = model(context=torch.from_numpy(context.copy()), num_output_patches=patches).quantile_preds
    return torch.cat([grouped, alone], dim=-1).transpose(1, 2)


def witness(model: Any, context: FloatArray) -> FloatArray:
    """Return `response` as an array: what the runtime's `witness` returns."""
    return np.asarray(response(model, context).float().cpu().numpy())


def runtime_response(model: Chronos2Model, context: FloatArray) -> FloatArray:
    """Return `response` by the runtime."""
    return model.witness(context)


FAMILY = FamilyExport(
    name="chronos-2",
    parts=parts,
    frozen=FROZEN,
    describe=describe,
    witness=witness,
    response=response,
    runtime_response=runtime_response,
)
