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

from typing import Any

import torch
from torch import Tensor, nn

from export.graph import OPSET
from export.layers import BLOCKED, buckets, encode, feed_forward, joined_projections, norm
from export.t5_draw import last_kept, nucleus


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
        self.end = config.chronos_config["eos_token_id"]
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
        length = memory[3].shape[1]  # T
        table = self.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
        by_step = table[self.rows].transpose(1, 2) + self.ahead * BLOCKED  # [step, heads, key]; folded
        bias = by_step[step][:, :, :length].unsqueeze(2)  # [1, heads, 1, T]
        blocked = ((1.0 - observed) * BLOCKED)[:, None, None, :]  # [B, 1, 1, C]
        path = torch.arange(memory[3].shape[0])[:, None]
        place = torch.cat([path, step.expand_as(path)], dim=1)  # [N * heads, 2]: where a cache takes this step
        caches: list[Tensor] = []
        for number, block in enumerate(self.decoder.block):
            cross_keys, cross_values, own_keys, own_values = memory[4 * number : 4 * number + 4]
            attention = block.layer[0].SelfAttention
            qkv = joined_projections(attention, norm(block.layer[0].layer_norm, x))
            q, k, v = thirds(qkv)  # [N, heads * width] each
            own_keys = written(own_keys, place, k.reshape(-1, self.width))  # [N * heads, T, width]
            own_values = written(own_values, place, v.reshape(-1, self.width))
            caches += [own_keys, own_values]
            scores = own_keys @ q.reshape(-1, self.width, 1)  # [N * heads, T, 1]
            scores = scores.reshape(-1, self.heads, 1, length) + bias
            weights = torch.softmax(scores, dim=-1).reshape(-1, 1, length)
            mixed = weights @ own_values  # [N * heads, 1, width]
            x = x + attention.o(mixed.reshape(-1, self.heads * self.width))
            cross = block.layer[1].EncDecAttention
            q = cross.q(norm(block.layer[1].layer_norm, x))
            q = q.reshape(observed.shape[0], -1, self.heads, self.width)  # [B, S, heads, width]
            weights = torch.softmax(q.transpose(1, 2) @ cross_keys + blocked, dim=-1)  # [B, heads, S, C]
            mixed = (weights @ cross_values).transpose(1, 2)  # [B, S, heads, width]
            x = x + cross.o(mixed.reshape(-1, self.heads * self.width))
            x = feed_forward(block, x)
        logits = self.lm_head(norm(self.decoder.final_layer_norm, x) * self.logit_scale)  # [N, V]
        return draw(logits, noise, temperature, top_k, top_p, self.end), logits, *caches


def written(cache: Tensor, place: Tensor, row: Tensor) -> Tensor:
    """Return ``cache`` ``[P, T, width]`` with ``row`` ``[P, width]`` at the (path, step) pairs ``place`` ``[P, 2]``.

    ONNX's ScatterND, named as such: torch's own ``index_put`` arrives in the graph between transposes that change
    nothing but copy the whole cache.
    """
    return torch.onnx.ops.symbolic(
        "ScatterND", (cache, place, row), dtype=cache.dtype, shape=cache.shape, version=OPSET
    )


def thirds(qkv: Tensor) -> tuple[Tensor, ...]:
    """Take ``qkv`` ``[N, 3 * M]`` apart: ``[N, M]`` each.

    ONNX's Split, named as such: torch's own arrives as a sequence, of which every element is copied once more.
    """
    shape = (qkv.shape[0], qkv.shape[1] // 3)
    parts: tuple[Tensor, ...] = tuple(
        torch.onnx.ops.symbolic_multi_out(
            "Split",
            (qkv,),
            {"axis": 1, "num_outputs": 3},
            dtypes=[qkv.dtype] * 3,
            shapes=[shape] * 3,
            version=OPSET,
        )
    )
    return parts


def draw(logits: Tensor, noise: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, end: int) -> Tensor:
    """Draw one token for each row of ``logits`` ``[N, V]`` by its ``noise``: ``[N]``.

    As transformers does for a forecast of fixed length: the end token is never drawn; then temperature, the ``top_k``
    largest, and of those the fewest whose probabilities reach ``top_p`` (Holtzman et al., ICLR 2020).
    """
    never = torch.zeros(logits.shape[1]).index_fill(0, torch.tensor([end]), BLOCKED)
    size: Any = top_k.item()
    torch._check(size >= 1)  # type: ignore[no-untyped-call]  # as torch ships it
    torch._check(size <= logits.shape[1])  # type: ignore[no-untyped-call]
    largest, tokens = torch.topk(logits + never, size, sorted=True)
    kept, reached = nucleus(largest, temperature, top_p)
    chosen = (reached <= noise[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
    chosen = torch.minimum(chosen, last_kept(kept))
    return tokens.gather(1, chosen)[:, 0]


def longest_context(model: Any) -> int:
    """Return the most tokens a context can have, its end token included."""
    chronos = model.config.chronos_config
    return int(chronos["context_length"]) + int(chronos["use_eos_token"])
