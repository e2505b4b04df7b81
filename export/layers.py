"""The T5 layers of which every Chronos family is built, written for a small CPU with the model's own parameters.

Each function computes what the module of the same name in transformers 4.57 computes, with the rearrangements that
`export.bolt` and `export.t5` name. Parameters are read from the model's submodules: a traced graph keeps their names.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

BLOCKED = -1e9  # finite, so that a row without any observation stays finite too; exp() of it is zero all the same


def patched(values: Tensor, size: int, stride: int) -> Tensor:
    """Cut values ``[B, L]``, L a multiple of ``size``, into patches ``[B, P, size]``, each a ``stride`` after the last.

    Patches that overlap, or leave steps out, are put together from pieces of a length that divides both numbers.
    """
    if stride == size:
        return values.reshape(values.shape[0], -1, size)
    piece = math.gcd(size, stride)
    each, ahead = size // piece, stride // piece  # pieces of a patch, and from one patch to the next
    pieces = values.reshape(values.shape[0], -1, piece)  # [B, L / piece, piece]
    last = pieces.shape[1] - each + 1
    return torch.cat([pieces[:, first : last + first : ahead] for first in range(each)], dim=-1)


def standardise(context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scale ``context`` ``[B, L]``: return it in units of its deviation, its mask, and loc and scale ``[B, 1]``.

    NaN becomes 0. As chronos's instance norm: without observations the scale is 1, of a constant it is the smallest.
    """
    observed = ~torch.isnan(context)
    mask = observed.to(context.dtype)
    values = torch.where(observed, context, torch.zeros_like(context))
    count = mask.sum(dim=-1, keepdim=True)
    loc = values.sum(dim=-1, keepdim=True) / count.clamp(min=1.0)
    centred = torch.where(observed, context - loc, torch.zeros_like(context))
    scale = (centred.square().sum(dim=-1, keepdim=True) / count.clamp(min=1.0)).sqrt()
    scale = torch.where(scale == 0, torch.full_like(scale, 1e-5), scale)
    scale = torch.where(count == 0, torch.ones_like(scale), scale)
    return centred / scale, mask, loc, scale


def residual(block: Any, x: Tensor) -> Tensor:
    """Apply a patch embedding: one hidden layer around a linear shortcut."""
    out: Tensor = block.output_layer(activated(block, block.hidden_layer(x))) + block.residual_layer(x)
    return out


def norm(layer: Any, x: Tensor) -> Tensor:
    """Root-mean-square norm, written the way ONNX Runtime recognises."""
    out: Tensor = layer.weight * (x / (x.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon).sqrt())
    return out


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """Add a block's feed-forward layer."""
    dense, normed = block.layer[-1].DenseReluDense, norm(block.layer[-1].layer_norm, x)
    if hasattr(dense, "wi"):
        inner = activated(dense, dense.wi(normed))
    else:
        inner = activated(dense, dense.wi_0(normed)) * dense.wi_1(normed)
    out: Tensor = x + dense.wo(inner)
    return out


def activated(layer: Any, x: Tensor) -> Tensor:
    """Apply a layer's activation; ReLU by its own name, as the graphs of released bases have it."""
    out: Tensor = torch.relu(x) if isinstance(layer.act, nn.ReLU) else layer.act(x)
    return out


def buckets(attention: Any, distance: Tensor, *, bidirectional: bool) -> Tensor:
    """Return the row of an attention's bias table for each ``distance`` (key minus query)."""
    rows: Tensor = attention._relative_position_bucket(
        distance,
        bidirectional=bidirectional,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return rows


def joined_projections(attention: Any, x: Tensor) -> Tensor:
    """Return q, k and v of ``x`` ``[..., D]`` as one product ``[..., 3 * heads * width]``, their biases added.

    ONNX Runtime folds the concatenated weight when a session opens.
    """
    layers = (attention.q, attention.k, attention.v)
    product = torch.nn.functional.linear(x, torch.cat([layer.weight for layer in layers]))
    if all(layer.bias is None for layer in layers):
        return product
    # Added biases (a key's is dead in most families, and not there): zeros stand for those that are not.
    return product + torch.cat(
        [torch.zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    )


def position_bias(stack: Any, length: int, rows: Tensor) -> Tensor:
    """Return what an encoder stack adds to the scores of T = ``length`` places ``[1, heads, T, T]``; see `encode`."""
    table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
    by_distance = table[rows].transpose(0, 1)  # [heads, 2 * N - 1]; folded
    position = torch.arange(length, device=rows.device)
    index = position[None, :] - position[:, None] + (rows.shape[0] // 2)  # [query, key]
    bias: Tensor = by_distance[:, index][None]
    return bias


def encode(
    stack: Any, x: Tensor, blocked: Tensor, rows: Tensor, heads: int, width: int, depth: int | None = None
) -> Tensor:
    """Run an encoder stack, or its first ``depth`` blocks: ``[B, T, D]`` to ``[B, T, D]``.

    ``blocked`` ``[B, 1, 1, T]`` is added to every score; ``rows`` ``[2 * N - 1]`` are the `buckets` of the distances
    ``1 - N`` to ``N - 1``, N the longest T.
    """
    batch, length = x.shape[0], x.shape[1]
    bias = position_bias(stack, length, rows) + blocked  # [B, heads, T, T]
    for block in stack.block[:depth]:
        attention = block.layer[0].SelfAttention
        qkv = joined_projections(attention, norm(block.layer[0].layer_norm, x))
        qkv = qkv.reshape(batch, -1, 3, heads, width).permute(2, 0, 3, 1, 4)  # [3, B, heads, T, width]
        scores = qkv[0] @ qkv[1].transpose(-1, -2) + bias
        mixed = torch.softmax(scores, dim=-1) @ qkv[2]
        x = x + attention.o(mixed.transpose(1, 2).reshape(batch, -1, heads * width))
        x = feed_forward(block, x)
    return norm(stack.final_layer_norm, x)
