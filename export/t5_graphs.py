"""Chronos-T5 as two ONNX graphs: one encodes the context, one draws the next token of every sampled path.

The functions are those of `T5ForConditionalGeneration` and of ``generate`` (transformers 4.57, sampling as
chronos-forecasting 2.3 asks for it), arranged for a small CPU:

* the encoder graph ends with the decoder's cross-attention keys and values, so that they are made once for a series
  and read by all of its samples at every step;
* a step writes one row of each self-attention cache. ONNX Runtime does so in place when the same memory is bound to
  a cache's input and output, so no step copies what earlier steps wrote;
* temperature, top-k, top-p and the draw itself are in the graph: a step returns tokens, not 4,096 logits for each path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from export.layers import BLOCKED, buckets, encode, feed_forward, joined_projections, norm
from export.operators import counted, reshaped, thirds, written
from export.t5_draw import last_kept, nucleus

# ONNX Runtime's TopK keeps a heap of the largest tokens, and selects instead where more than the vocabulary to this
# power are asked for (its top_k.cc). Logits rise bin by bin towards the likely ones, so nearly every token enters the
# heap on the way: selecting is faster (docs/adr/0038).
SELECTED = 0.725
# Where neighbouring tokens come far apart, few enter the heap: for at most this part of the vocabulary it is faster.
HEAPED = 1 / 40


class EncoderGraph(nn.Module):
    """Tokens ``[B, C]`` and their mask to the cross-attention keys and values of every decoder block."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.shared: Any = model.shared
        self.encoder: Any = model.encoder
        self.decoder: Any = model.decoder
        self.heads, self.width = model.config.num_heads, model.config.d_kv
        longest = longest_context(model)
        distance = torch.arange(1 - longest, longest)
        self.rows: Tensor
        rows = buckets(model.encoder.block[0].layer[0].SelfAttention, distance, bidirectional=True)
        self.register_buffer("rows", rows, persistent=False)  # [2 * longest - 1]

    def forward(self, tokens: Tensor, observed: Tensor) -> tuple[Tensor, ...]:
        """Return, for every decoder block, keys ``[B, heads, width, C]`` and values ``[B, heads, C, width]``."""
        batch, length = tokens.shape
        blocked = ((1.0 - observed) * BLOCKED)[:, None, None, :]
        encoded = encode(self.encoder, self.shared(tokens), blocked, self.rows, self.heads, self.width)
        out: list[Tensor] = []
        for block in self.decoder.block:
            cross = block.layer[1].EncDecAttention
            out.append(cross.k(encoded).reshape(batch, length, self.heads, self.width).permute(0, 2, 3, 1))
            out.append(cross.v(encoded).reshape(batch, length, self.heads, self.width).permute(0, 2, 1, 3))
        return tuple(out)


class StepGraph(nn.Module):
    """One step of every path: the token before to the token after, N = B series × S samples rows."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.shared: Any = model.shared
        self.decoder: Any = model.decoder
        self.lm_head: Any = model.lm_head
        self.heads, self.width = config.num_heads, config.d_kv
        # As T5 does where input and output embeddings are one matrix.
        self.logit_scale = config.d_model**-0.5 if config.tie_word_embeddings else 1.0
        self.rows: Tensor
        self.ahead: Tensor
        self.chronos: Any = config.chronos_config
        steps = config.chronos_config["prediction_length"]
        position = torch.arange(steps)
        back = position[:, None] - position  # [query, key]
        rows = buckets(model.decoder.block[0].layer[0].SelfAttention, -back.clamp(min=0), bidirectional=False)
        self.register_buffer("rows", rows, persistent=False)  # [prediction_length, prediction_length]
        ahead = (back < 0).float()[:, None]  # times BLOCKED in the graph: no float16 holds that
        self.register_buffer("ahead", ahead, persistent=False)  # [prediction_length, 1, prediction_length]

    def forward(
        self,
        token: Tensor,  # [N]
        step: Tensor,  # [1], int64
        noise: Tensor,  # [N], uniform in [0, 1)
        observed: Tensor,  # [B, C]
        temperature: Tensor,  # [1]
        top_k: Tensor,  # [1], int64
        top_p: Tensor,  # [1]
        *memory: Tensor,  # per block: cross keys, cross values, own keys, own values
    ) -> tuple[Tensor, ...]:
        """Return the next tokens ``[N]``, the logits ``[N, V]`` and per block the caches with this step's row."""
        x = self.shared(token)  # [N, D]
        rows, heads, width, length = token.shape[0], self.heads, self.width, memory[3].shape[1]  # N, …, T
        inner, batch, context = heads * width, observed.shape[0], observed.shape[1]
        table = self.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
        by_step = table[self.rows].transpose(1, 2) + self.ahead * BLOCKED  # [step, heads, key]; folded
        bias = by_step.index_select(0, step)[:, :, :length]  # [1, heads, T]
        blocked = reshaped((1.0 - observed) * BLOCKED, (0, 1, 1, -1), (batch, 1, 1, context))
        place = self._place(memory[2], step, rows)
        caches: list[Tensor] = []
        for number, block in enumerate(self.decoder.block):
            cross_keys, cross_values, own_keys, own_values = memory[4 * number : 4 * number + 4]
            attention = block.layer[0].SelfAttention
            qkv = joined_projections(attention, norm(block.layer[0].layer_norm, x))
            qkv = reshaped(qkv, (0, 3 * heads, width), (rows, 3 * heads, width))
            q, k, v = thirds(qkv, 1)  # [N, heads, width] each
            own_keys, own_values = written(own_keys, place, k), written(own_values, place, v)
            caches += [own_keys, own_values]
            q = reshaped(q, (-1, 1, width), (rows * heads, 1, width))
            scores = q @ own_keys.transpose(1, 2)  # [N * heads, 1, T]
            scores = reshaped(scores, (-1, heads, 0), (rows, heads, length)) + bias
            weights = reshaped(torch.softmax(scores, dim=-1), (-1, 1, 0), (rows * heads, 1, length))
            mixed = weights @ own_values  # [N * heads, 1, width]
            x = x + attention.o(reshaped(mixed, (-1, inner), (rows, inner)))
            cross = block.layer[1].EncDecAttention
            q = cross.q(norm(block.layer[1].layer_norm, x)).reshape(batch, -1, heads, width)  # [B, S, heads, width]
            weights = torch.softmax(q.transpose(1, 2) @ cross_keys + blocked, dim=-1)  # [B, heads, S, C]
            mixed = (weights @ cross_values).transpose(1, 2)  # [B, S, heads, width]
            x = x + cross.o(reshaped(mixed, (-1, inner), (rows, inner)))
            x = feed_forward(block, x)
        logits = self.lm_head(norm(self.decoder.final_layer_norm, x) * self.logit_scale)  # [N, V]
        return draw(logits, noise, temperature, top_k, top_p, self.chronos), logits, *caches

    def _place(self, cache: Tensor, step: Tensor, rows: Any) -> Tensor:
        """Return where ``cache`` ``[N * heads, T, width]`` takes this step, as (path, step) pairs ``[N, heads, 2]``."""
        path = counted(cache, 0)[:, None]
        pairs = torch.cat([path, step.expand_as(path)], dim=1)
        return reshaped(pairs, (-1, self.heads, 2), (rows, self.heads, 2))


def draw(
    logits: Tensor, noise: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, chronos: Mapping[str, Any]
) -> Tensor:
    """Draw one token for each row of ``logits`` ``[N, V]`` by its ``noise``: ``[N]``.

    As transformers does for a forecast of fixed length: the end token is never drawn; then temperature, the ``top_k``
    largest, and of those the fewest whose probabilities reach ``top_p`` (Holtzman et al., ICLR 2020). ``chronos`` is
    the base's configuration: how its ``top_k`` are found fastest.
    """
    vocabulary = logits.shape[1]
    size: Any = top_k.item()
    torch._check(size >= 1)  # type: ignore[no-untyped-call]  # as torch ships it
    torch._check(size <= vocabulary)  # type: ignore[no-untyped-call]
    logits = logits + torch.zeros(vocabulary).index_fill(0, torch.tensor([chronos["eos_token_id"]]), BLOCKED)
    across = between(vocabulary) if chronos["top_k"] <= HEAPED * vocabulary else 1
    if across > 1:  # token i * ahead + j becomes place j * across + i
        ahead, rows = vocabulary // across, logits.shape[0]
        logits = reshaped(logits, (0, across, ahead), (rows, across, ahead)).transpose(1, 2)
        logits = reshaped(logits, (0, vocabulary), (rows, vocabulary))
        largest, places = torch.topk(logits, size, sorted=True)
    else:
        asked: Any = torch.sym_max(size, selected(vocabulary))  # type: ignore[no-untyped-call]
        largest, places = torch.topk(logits, asked, sorted=True)
        largest = largest[:, :size]
    kept, reached = nucleus(largest, temperature, top_p)
    chosen = (reached <= noise.unsqueeze(1) * reached[:, -1:]).sum(-1, keepdim=True)
    place = places.gather(1, torch.minimum(chosen, last_kept(kept))).squeeze(1)
    if across == 1:
        return place
    return place % across * (vocabulary // across) + torch.div(place, across, rounding_mode="trunc")


def selected(vocabulary: int) -> int:
    """Return how many tokens must be asked for, at least, so that ONNX Runtime selects them and keeps no heap."""
    return min(vocabulary, math.ceil(math.pow(vocabulary, SELECTED)) + 1)


def between(vocabulary: int) -> int:
    """Return the largest divisor of ``vocabulary`` up to its square root: tokens in steps of that are far apart."""
    return next(size for size in range(math.isqrt(vocabulary), 0, -1) if vocabulary % size == 0)


def longest_context(model: Any) -> int:
    """Return the most tokens a context can have, its end token included."""
    chronos = model.config.chronos_config
    return int(chronos["context_length"]) + int(chronos["use_eos_token"])
