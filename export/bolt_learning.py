"""Chronos-Bolt with a shift as input: its forecast, and training's loss with the gradient by the shift.

A shift moves biases, each by a number for each element, or weights by coefficients of their spectra (`export.waves`).

The backward pass is written out here as forward operations, so that it is traced like any graph: for any batch and any
number of patches, with every weight under its torch name. Each step returns its output and its backward step, which
maps the gradient by the output to the gradient by the input. The trace drops what the chosen tensors do not need.
`export.learning` compares the result with torch's automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.learning import FAR, GRADIENT, ROUNDED, SHIFTED, STATE
from export.bolt_parts import BoltParts
from export.errors import ExportError
from export.graph import Part
from export.layers import joined_projections, norm, position_bias, residual
from export.waves import Waves

Back = Callable[[Tensor], Tensor]


class Shiftable(BoltParts):
    """Chronos-Bolt whose tensors ``names`` are shifted by one row of numbers, or by one for each context.

    They are biases, or with ``fourier`` weights.
    """

    def __init__(self, model: Any, names: Sequence[str], fourier: FourierShift | None = None) -> None:
        super().__init__(model)
        if model.config.is_gated_act or model.config.dense_act_fn != "relu":
            raise ExportError(
                f"no learning graphs with feed_forward_proj {model.config.feed_forward_proj!r}: want relu",
                hint="export the base without --learnable; it takes adapters from a workstation",
            )
        self.names = tuple(names)
        if keys := [name for name in names if name.endswith("EncDecAttention.k.weight")]:
            raise ExportError(f"{keys[0]}: no learning graphs move a cross-attention's keys", hint="choose other sites")
        self.waves = None if fourier is None else Waves(model, names, fourier)
        self.sizes = [model.get_parameter(name).numel() if fourier is None else fourier.count for name in names]
        self.levels: Tensor
        levels = torch.tensor(self.chronos.quantiles, dtype=torch.float32)
        self.register_buffer("levels", levels, persistent=False)  # [Q]
        self._shift: dict[str, Tensor] = {}  # of one pass: tensor → [1 or B, 1, n]
        self._gradient: dict[str, Tensor] = {}  # of one pass: tensor → [n]

    def shifted(self, context: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor, Back]:
        """Return quantiles ``[B, Q, H]`` in units of the contexts' scale, loc, scale, and the step back.

        ``shift`` is ``[1, n]`` or ``[B, n]``; the step back takes the gradient by the quantiles and notes those of
        the shift.
        """
        parts = torch.split(shift[:, None], self.sizes, dim=-1)
        self._shift, self._gradient = dict(zip(self.names, parts, strict=True)), {}
        if self.waves is not None:
            self.waves.begin()
        embeddings: list[Back] = []

        def embed(patches: Tensor) -> Tensor:
            hidden, back = self._residual("input_patch_embedding", patches)
            embeddings.append(back)
            return hidden

        hidden, blocked, loc, scale = self.embedded(context, embed)
        encoded, back_encoded = self._encode(hidden, blocked)
        decoded, back_decoded = self._decode(encoded, blocked)
        out, back_out = self._residual("output_patch_embedding", decoded)  # [B, 1, Q * H]

        def back(d: Tensor) -> Tensor:
            d = back_encoded(back_decoded(back_out(d.reshape(d.shape[0], 1, -1))))
            return embeddings[0](d[:, :-1] if self.use_reg_token else d)

        return out.reshape(context.shape[0], self.quantile_count, -1), loc, scale, back

    def gradient(self) -> Tensor:
        """Return the noted gradients of all tensors as one row ``[n]``."""
        return torch.cat([self._gradient[name] for name in self.names])

    def _linear(self, name: str, x: Tensor) -> tuple[Tensor, Back]:
        """Apply the linear layer ``name`` to ``[B, T, n]``."""
        layer: Any = self.get_submodule(name)
        y, added = layer(x), self._added(name, x)
        if added is not None:
            y = y + added

        def back(d: Tensor) -> Tensor:
            self._note(name, x, d)
            return self._through(name, d @ layer.weight, d)

        return y, back

    def _added(self, name: str, x: Tensor) -> Tensor | None:
        """Return what the shift adds to a layer's output for its input ``[B, T, n]``; None: nothing."""
        if self.waves is not None and f"{name}.weight" in self._shift:
            return self.waves.added(f"{name}.weight", x, self._shift[f"{name}.weight"])
        return self._shift.get(f"{name}.bias")

    def _note(self, name: str, x: Tensor, d: Tensor) -> None:
        """Note the gradient by a layer's shift, if it has one, from its input and the gradient by its output."""
        if self.waves is not None and f"{name}.weight" in self._shift:
            self._gradient[f"{name}.weight"] = self.waves.gradient(f"{name}.weight", x, d)
        if f"{name}.bias" in self._shift:
            self._gradient[f"{name}.bias"] = d.sum((0, 1))

    def _through(self, name: str, product: Tensor, d: Tensor) -> Tensor:
        """Add to the gradient by a layer's input what its shifted weight has in it."""
        if self.waves is None or f"{name}.weight" not in self._shift:
            return product
        return product + self.waves.back(f"{name}.weight", d, self._shift[f"{name}.weight"])

    def _residual(self, name: str, x: Tensor) -> tuple[Tensor, Back]:
        """Apply a patch embedding, as `export.layers.residual`."""
        inner, back_inner = self._linear(f"{name}.hidden_layer", x)
        outer, back_outer = self._linear(f"{name}.output_layer", torch.relu(inner))
        straight, back_straight = self._linear(f"{name}.residual_layer", x)

        def back(d: Tensor) -> Tensor:
            return back_inner(back_outer(d) * (inner > 0)) + back_straight(d)

        return outer + straight, back

    @staticmethod
    def _norm(layer: Any, x: Tensor) -> tuple[Tensor, Back]:
        """Apply a root-mean-square norm."""

        def back(d: Tensor) -> Tensor:
            rate = (x.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon).rsqrt()
            g = d * layer.weight
            moved: Tensor = rate * (g - x * ((g * x).mean(-1, keepdim=True) * rate.square()))
            return moved

        return norm(layer, x), back

    def _feed_forward(self, name: str, x: Tensor) -> tuple[Tensor, Back]:
        """Add the feed-forward layer ``name`` of a block."""
        normed, back_norm = self._norm(self.get_submodule(f"{name}.layer_norm"), x)
        inner, back_inner = self._linear(f"{name}.DenseReluDense.wi", normed)
        outer, back_outer = self._linear(f"{name}.DenseReluDense.wo", torch.relu(inner))
        return x + outer, lambda d: d + back_norm(back_inner(back_outer(d) * (inner > 0)))

    def _attend(self, name: str, x: Tensor, bias: Tensor) -> tuple[Tensor, Back]:
        """Add the self-attention ``name`` of an encoder block; ``bias`` ``[B, heads, T, T]`` is added to the scores."""
        attention: Any = self.get_submodule(f"{name}.SelfAttention")
        layers = [f"{name}.SelfAttention.{part}" for part in "qkv"]
        batch, inner = x.shape[0], self.heads * self.width
        normed, back_norm = self._norm(self.get_submodule(f"{name}.layer_norm"), x)
        qkv = joined_projections(attention, normed)
        added = [self._added(layer, normed) for layer in layers]
        moved = [one for one in added if one is not None]
        if moved:
            still = torch.zeros_like(moved[0])
            qkv = qkv + torch.cat([still if one is None else one for one in added], dim=-1)
        q, k, v = qkv.reshape(batch, -1, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)  # [B, heads, T, width] each
        share = torch.softmax(q @ k.transpose(-1, -2) + bias, dim=-1)
        out, back_out = self._linear(f"{name}.SelfAttention.o", (share @ v).transpose(1, 2).reshape(batch, -1, inner))

        def back(d: Tensor) -> Tensor:
            mixed = back_out(d).reshape(batch, -1, self.heads, self.width).transpose(1, 2)
            scores = _back_softmax(share, mixed @ v.transpose(-1, -2))
            parts = torch.stack([scores @ k, scores.transpose(-1, -2) @ q, share.transpose(-1, -2) @ mixed], dim=0)
            joined = parts.permute(1, 3, 0, 2, 4).reshape(batch, -1, 3 * inner)
            by_normed = joined @ torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
            for layer, part in zip(layers, torch.split(joined, inner, dim=-1), strict=True):
                self._note(layer, normed, part)
                by_normed = self._through(layer, by_normed, part)
            return d + back_norm(by_normed)

        return x + out, back

    def _encode(self, x: Tensor, blocked: Tensor) -> tuple[Tensor, Back]:
        """Run the encoder: ``[B, T, D]``."""
        bias = position_bias(self.encoder, x, self.buckets) + blocked
        backs = []
        for number in range(len(self.encoder.block)):
            x, back_attention = self._attend(f"encoder.block.{number}.layer.0", x, bias)
            x, back_dense = self._feed_forward(f"encoder.block.{number}.layer.1", x)
            backs += [back_attention, back_dense]
        x, back_final = self._norm(self.encoder.final_layer_norm, x)
        return x, _chain([*backs, back_final])

    def _decode(self, encoded: Tensor, blocked: Tensor) -> tuple[Tensor, Back]:
        """Run the decoder for its one token: ``[B, 1, D]``; back to the gradient of ``encoded``."""
        x = self.start()
        blocks = []
        for number in range(len(self.decoder.block)):
            name = f"decoder.block.{number}.layer"
            normed, back_norm = self._norm(self.get_submodule(f"{name}.0.layer_norm"), x)
            value, back_value = self._linear(f"{name}.0.SelfAttention.v", normed)
            out, back_own = self._linear(f"{name}.0.SelfAttention.o", value)
            x = x + out
            across, back_across = self._look(f"{name}.1", x, encoded, blocked)
            x = (x.expand(encoded.shape[0], 1, -1) if number == 0 else x) + across
            x, back_dense = self._feed_forward(f"{name}.2", x)
            blocks.append((_chain([back_norm, back_value, back_own]), back_across, back_dense))
        x, back_final = self._norm(self.decoder.final_layer_norm, x)

        def back(d: Tensor) -> Tensor:
            d = back_final(d)
            by_encoded = torch.zeros_like(encoded)
            for back_own, back_across, back_dense in reversed(blocks):
                d = back_dense(d)
                by_x, part = back_across(d)
                by_encoded = by_encoded + part
                d = d + by_x
                d = d + back_own(d)
            return by_encoded

        return x, back

    def _look(
        self, name: str, x: Tensor, encoded: Tensor, blocked: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """Attend by ``name`` from the token ``x`` to the encoder; back to the gradients of both."""
        cross: Any = self.get_submodule(f"{name}.EncDecAttention")
        batch, layer = encoded.shape[0], f"{name}.EncDecAttention"
        normed, back_norm = self._norm(self.get_submodule(f"{name}.layer_norm"), x)
        query, back_query = self._linear(f"{layer}.q", normed)
        key = cross.k.weight.reshape(self.heads, self.width, -1)  # [heads, width, D]
        value = cross.v.weight.reshape(self.heads, self.width, -1)
        looked = (query.reshape(-1, self.heads, 1, self.width) @ key).reshape(-1, self.heads, encoded.shape[-1])
        share = torch.softmax(looked @ encoded.transpose(1, 2) + blocked[:, 0], dim=-1)  # [B, heads, T]
        seen = (share @ encoded)[:, :, None]  # [B, heads, 1, D]
        mixed = seen @ value.transpose(1, 2)  # [B, heads, 1, width]
        if cross.v.bias is not None:
            mixed = mixed + cross.v.bias.reshape(self.heads, 1, self.width)  # weights add up to 1
        if f"{layer}.v.bias" in self._shift:
            mixed = mixed + self._shift[f"{layer}.v.bias"].reshape(-1, self.heads, 1, self.width)
        if self.waves is not None and f"{layer}.v.weight" in self._shift:
            mixed = mixed + self.waves.added(f"{layer}.v.weight", seen, self._shift[f"{layer}.v.weight"], self.heads)
        out, back_out = self._linear(f"{layer}.o", mixed.reshape(batch, 1, self.heads * self.width))

        def back(d: Tensor) -> tuple[Tensor, Tensor]:
            d = back_out(d)
            split = d.reshape(batch, self.heads, 1, self.width)
            by_seen = split @ value  # [B, heads, 1, D]
            if self.waves is not None and f"{layer}.v.weight" in self._shift:
                weight, shift = f"{layer}.v.weight", self._shift[f"{layer}.v.weight"]
                self._gradient[weight] = self.waves.gradient(weight, seen, split, self.heads)
                by_seen = by_seen + self.waves.back(weight, split, shift, self.heads)
            elif f"{layer}.v.bias" in self._shift:
                self._gradient[f"{layer}.v.bias"] = d.sum((0, 1))
            by_mix = by_seen[:, :, 0]  # [B, heads, D]
            scores = _back_softmax(share, by_mix @ encoded.transpose(1, 2))
            by_looked = (scores @ encoded)[:, :, None]  # [B, heads, 1, D]
            by_query = back_query((by_looked @ key.transpose(1, 2)).reshape(batch, 1, self.heads * self.width))
            by_encoded = share.transpose(1, 2) @ by_mix + scores.transpose(1, 2) @ looked.expand(batch, -1, -1)
            return back_norm(by_query), by_encoded

        return out, back


class LearningGraph(Shiftable):
    """Context ``[B, L]``, target ``[B, H]`` (NaN for missing) and shift ``[n]`` to training's loss and its gradient."""

    def forward(self, context: Tensor, target: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean pinball loss per scored step, in units of the contexts' scale, and its gradient ``[n]``.

        As `edge_tsfm.models.bolt.Bolt.loss`: a target further than `FAR` scales away counts as that far, and a context
        that is constant but for rounding (`ROUNDED`) teaches nothing.
        """
        quantiles, loc, scale, back = self.shifted(context, shift[None])
        missing = torch.isnan(context)
        apart = (torch.where(missing, loc, context) - loc).abs().amax(-1, keepdim=True)
        told = ~torch.isnan(target) & (apart > ROUNDED * loc.abs())  # [B, H]
        far = ((torch.where(told, target, loc) - loc) / scale).clamp(-FAR, FAR)
        scored = told[:, None].to(quantiles.dtype)  # [B, 1, H]
        count = scored.sum().clamp(min=1.0)
        miss = far[:, None] - quantiles
        level = self.levels[None, :, None]
        gain = 2.0 / self.quantile_count / count
        loss = (torch.maximum(level * miss, (level - 1.0) * miss) * scored).sum() * gain
        over, under = (miss < 0).to(miss.dtype), (miss > 0).to(miss.dtype)
        back(((1.0 - level) * over - level * under) * scored * gain)
        return loss, self.gradient()


class ShiftedGraph(Shiftable):
    """Context ``[B, L]`` and a shift for each row ``[B, n]`` to quantiles ``[B, Q, H]`` in the context's unit."""

    def forward(self, context: Tensor, shift: Tensor) -> Tensor:
        """Return the quantiles."""
        quantiles, loc, scale, _ = self.shifted(context, shift)
        return quantiles * scale[:, :, None] + loc[:, :, None]


class StateGraph(Shiftable):
    """Context ``[B, L]`` to what the output patch block reads, the state ``[B, D]``, and to loc and scale ``[B, 1]``.

    Whoever learns that block's biases needs nothing else of the model: a learner in C computes the block itself.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, ())

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return state, loc and scale."""
        hidden, blocked, loc, scale = self.embedded(context, partial(residual, self.input_patch_embedding))
        decoded, _ = self._decode(self._encode(hidden, blocked)[0], blocked)
        return decoded[:, 0], loc, scale


def _back_softmax(share: Tensor, d: Tensor) -> Tensor:
    """Return the gradient by the scores from that by the shares."""
    return share * (d - (d * share).sum(-1, keepdim=True))


def _chain(backs: Sequence[Back]) -> Back:
    """Return the steps back of what was computed in this order."""

    def back(d: Tensor) -> Tensor:
        for step in reversed(backs):
            d = step(d)
        return d

    return back


def parts(model: Any, names: Sequence[str], fourier: FourierShift | None) -> list[Part]:
    """Return the graphs of a model's tensors ``names``, for any batch and any whole number of patches."""
    gradient, shifted = LearningGraph(model, names, fourier), ShiftedGraph(model, names, fourier)
    state = StateGraph(model)
    batch, steps = gradient.dimensions()
    context = torch.randn(2, 3 * gradient.chronos.input_patch_size)
    target = torch.randn(2, gradient.chronos.prediction_length)
    shift = torch.zeros(sum(gradient.sizes))
    return [
        Part(
            name=GRADIENT,
            module=gradient,
            inputs=(context, target, shift),
            dynamic=({0: batch, 1: steps}, {0: batch}, {}),
            input_names=["context", "target", "shift"],
            output_names=["loss", "gradient"],
        ),
        Part(
            name=SHIFTED,
            module=shifted,
            inputs=(context, shift.repeat(2, 1)),
            dynamic=({0: batch, 1: steps}, {0: batch}),
            input_names=["context", "shift"],
            output_names=["quantiles"],
        ),
        Part(
            name=STATE,
            module=state,
            inputs=(context,),
            dynamic=({0: batch, 1: steps},),
            input_names=["context"],
            output_names=["state", "loc", "scale"],
        ),
    ]
