"""The T5 layers of which every Chronos family is built, written for a small CPU with the model's own parameters.

Each function computes what the module of the same name in transformers 4.57 computes, with the rearrangements that
`export.bolt` and `export.t5` name. Parameters are read from the model's submodules: a traced graph keeps their names.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from export.operators import counted, reshaped, thirds

BLOCKED = -1e9  # finite, so that a row without any observation stays finite too; exp() of it is zero all the same


def patched(values: Tensor, size: int, stride: int) -> Tensor:
    """Cut values ``[B, L]``, L a multiple of ``size``, into patches ``[B, P, size]``, each a ``stride`` after the last.

    Patches that overlap, or leave steps out, are put together from pieces of a length that divides both numbers.
    """
    if stride == size:
        return reshaped(values, (0, -1, size), (values.shape[0], values.shape[1] // size, size))
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
    zero, one = context.new_tensor(0.0), context.new_tensor(1.0)
    values = torch.where(observed, context, zero)
    count = mask.sum(dim=-1, keepdim=True)
    at_least_one = torch.maximum(count, one)
    loc = values.sum(dim=-1, keepdim=True) / at_least_one
    centred = torch.where(observed, context - loc, zero)
    scale = (centred.square().sum(dim=-1, keepdim=True) / at_least_one).sqrt()
    scale = torch.where(scale == 0, context.new_tensor(1e-5), scale)
    scale = torch.where(count == 0, one, scale)
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


def position_bias(stack: Any, x: Tensor, rows: Tensor) -> Tensor:
    """Return what an encoder stack adds to the scores of the T places of ``x`` ``[B, T, D]``: ``[heads, T, T]``.

    ``rows`` as `encode` has them.
    """
    table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
    by_distance = table[rows]  # [2 * N - 1, heads]; folded
    position = counted(x, 1)
    index = position - position[:, None] + rows.shape[0] // 2  # [query, key]
    return torch.nn.functional.embedding(index, by_distance).permute(2, 0, 1)


def encode(
    stack: Any, x: Tensor, blocked: Tensor, rows: Tensor, heads: int, width: int, depth: int | None = None
) -> Tensor:
    """Run an encoder stack, or its first ``depth`` blocks: ``[B, T, D]`` to ``[B, T, D]``.

    ``blocked`` ``[B, 1, 1, T]`` is added to every score; ``rows`` ``[2 * N - 1]`` are the `buckets` of the distances
    ``1 - N`` to ``N - 1``, N the longest T.
    """
    batch, length = x.shape[0], x.shape[1]
    bias = position_bias(stack, x, rows) + blocked  # [B, heads, T, T]
    for block in stack.block[:depth]:
        attention = block.layer[0].SelfAttention
        qkv = joined_projections(attention, norm(block.layer[0].layer_norm, x))
        qkv = reshaped(qkv, (0, 0, 3 * heads, width), (batch, length, 3 * heads, width))
        q, k, v = thirds(qkv.transpose(1, 2), 1)  # [B, heads, T, width] each
        mixed = torch.softmax(q @ k.transpose(-1, -2) + bias, dim=-1) @ v
        mixed = reshaped(mixed.transpose(1, 2), (0, 0, heads * width), (batch, length, heads * width))
        x = x + attention.o(mixed)
        x = feed_forward(block, x)
    return norm(stack.final_layer_norm, x)
