"""Chronos-Bolt as one ONNX graph: the same function as chronos-forecasting's module, arranged for a small CPU.

The graph module *adopts* the model's own submodules, so every parameter keeps its torch name, and computes what
`ChronosBoltModelForForecasting.forward` computes (chronos-forecasting 2.3) with three exact rearrangements:

* q, k and v of a block are one product (ONNX Runtime folds the concatenated weight when a session opens);
* the decoder sees a single token, so its self-attention is ``o(v(x))``: q, k and the relative bias are dead;
* one query attends to the encoder through ``(q K_w) x`` instead of ``q (K_w x)``: no keys or values per patch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_runtime.forecast.families.bolt import BoltModel
from device_runtime.format.manifest import Manifest
from export import bolt_learning
from export.bolt_parts import BoltParts
from export.family import FamilyExport
from export.graph import Part
from export.layers import encode, feed_forward, norm, residual
from export.operators import reshaped
from export.repeat import Stack, traced_blocks

FloatArray = NDArray[np.float32]


class BoltGraph(BoltParts):
    """Context ``[B, L]`` (NaN for missing, L a multiple of the patch size) to quantiles ``[B, Q, H]``.

    To be traced it computes with the first blocks only where `export.repeat` writes the rest.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.encoder_blocks = traced_blocks(model.encoder.block)
        self.decoder_blocks = traced_blocks(model.decoder.block)

    def forward(self, context: Tensor) -> Tensor:
        """Return quantiles ``[B, Q, H]`` in the context's unit."""
        batch = context.shape[0]
        hidden, blocked, loc, scale = self.embedded(context, partial(residual, self.input_patch_embedding))
        hidden = encode(self.encoder, hidden, blocked, self.buckets, self.heads, self.width, self.encoder_blocks)
        out = residual(self.output_patch_embedding, self._decode(hidden, blocked))
        steps = out.shape[-1] // self.quantile_count
        quantiles = reshaped(out, (0, self.quantile_count, -1), (batch, self.quantile_count, steps))
        return quantiles * scale[:, :, None] + loc[:, :, None]

    def _decode(self, encoded: Tensor, blocked: Tensor) -> Tensor:
        """Run the decoder for its one token: ``[B, 1, D]``."""
        batch = encoded.shape[0]
        x = self.start()  # the first self-attention folds
        for block in self.decoder.block[: self.decoder_blocks]:
            own = block.layer[0].SelfAttention
            x = x + own.o(own.v(norm(block.layer[0].layer_norm, x)))
            cross = block.layer[1].EncDecAttention
            query = cross.q(norm(block.layer[1].layer_norm, x))
            query = reshaped(query, (-1, self.heads, 1, self.width), (x.shape[0], self.heads, 1, self.width))
            key = cross.k.weight.reshape(self.heads, self.width, -1)  # [heads, width, D]
            value = cross.v.weight.reshape(self.heads, self.width, -1)
            scores = (query @ key) @ encoded.transpose(1, 2)[:, None] + blocked  # [B, heads, 1, T]
            mixed = (torch.softmax(scores, dim=-1) @ encoded[:, None]) @ value.transpose(1, 2)  # [B, heads, 1, width]
            if cross.v.bias is not None:  # an added one; a key's is dead: it adds the same to every score
                mixed = mixed + cross.v.bias.reshape(self.heads, 1, self.width)  # weights add up to 1
            out = cross.o(reshaped(mixed, (0, 1, self.heads * self.width), (batch, 1, self.heads * self.width)))
            x = feed_forward(block, x + out)
        return norm(self.decoder.final_layer_norm, x)


FROZEN = ("shared.weight",)  # the start and [REG] tokens: no method tunes them


def describe(model: Any) -> dict[str, Any]:
    """Return the manifest's fields that depend on the family."""
    chronos = model.chronos_config
    apart = chronos.input_patch_stride == chronos.input_patch_size  # neither overlapping nor leaving steps out
    return {
        "context_length": chronos.context_length,
        "prediction_length": chronos.prediction_length,
        "quantile_levels": [float(level) for level in chronos.quantiles],
        "parameters": {
            "patch_size": chronos.input_patch_size,
            **({} if apart else {"patch_stride": chronos.input_patch_stride}),
        },
    }


def parts(model: Any) -> list[Part]:
    """Return the one graph, for any batch and any whole number of patches: a short context pays for no more."""
    module = BoltGraph(model)
    size = module.chronos.input_patch_size
    batch, steps = module.dimensions()
    return [
        Part(
            name="forecast",
            module=module,
            inputs=(torch.randn(2, 3 * size),),
            dynamic=({0: batch, 1: steps},),
            input_names=["context"],
            output_names=["quantiles"],
            stacks=tuple(
                Stack(
                    blocks=f"{name}.block",
                    depth=len(stack.block),
                    first_norm="layer.0.layer_norm.weight",
                    final_norm=f"{name}.final_layer_norm.weight",
                )
                for name, stack, traced in (
                    ("encoder", model.encoder, module.encoder_blocks),
                    ("decoder", model.decoder, module.decoder_blocks),
                )
                if traced < len(stack.block)
            ),
        )
    ]


def response(model: Any, context: FloatArray) -> Tensor:
    """Forecast with chronos-forecasting's own module: ``[B, L]`` to quantiles ``[B, H, Q]``."""
    quantiles: Tensor = model(context=torch.from_numpy(context.copy())).quantile_preds
    return quantiles.transpose(1, 2)


def witness(model: Any, context: FloatArray) -> FloatArray:
    """Return `response` as an array: what the runtime's `witness` returns."""
    return np.asarray(response(model, context).float().cpu().numpy())


def runtime_response(model: BoltModel, context: FloatArray) -> FloatArray:
    """Return `response` by the runtime."""
    return model.witness(context)


def operations(manifest: Manifest, batch: int, context_length: int, steps: int) -> int:
    """Count a forecast's operations in products of weights: two for each weight and row that it multiplies."""
    weights = [entry for entry in manifest.tensors if len(entry.shape) == 2 and "relative" not in entry.name]
    size = int(manifest.parameters["patch_size"])
    whole = -(-context_length // size) * size
    patches = (whole - size) // int(manifest.parameters.get("patch_stride", size)) + 2  # and the [REG] token
    once = sum(entry.size for entry in weights if not entry.name.startswith(("encoder.", "input_patch")))
    return 2 * batch * (once + patches * (sum(entry.size for entry in weights) - once))


FAMILY = FamilyExport(
    name="chronos-bolt",
    parts=parts,
    frozen=FROZEN,
    describe=describe,
    witness=witness,
    response=response,
    runtime_response=runtime_response,
    operations=operations,
    learning=bolt_learning.parts,
)
