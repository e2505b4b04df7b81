"""Sampled paths of many Chronos-T5 contexts in torch: the device's arithmetic, for training and evaluation.

``generate`` copies the encoder's output for every sample, makes the cross-attention keys of each copy, and draws from
all tokens with an exponential number for each. Here the keys are made once for a series, a first step once for all of
its samples, caches have their full length from the start, and a token is drawn as on the device: the inverse of the
cumulative distribution, largest probabilities first, at a given uniform number. With the device's uniform numbers the
tokens are the device's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from export.t5_draw import last_kept, nucleus

PATHS_AT_ONCE = 2_560  # bounds the logits in memory: 42 MB over 4,096 tokens
CACHED_AT_ONCE = 1 << 27  # numbers in all caches: 512 MB; a path of 64 steps of Chronos-T5 Base keeps 1.2 million


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How a token is drawn, as the base's configuration says."""

    temperature: float
    top_k: int
    top_p: float
    never: int  # the end token: a forecast has a fixed length

    def __call__(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Draw from each row of ``logits`` ``[R, V]`` as many tokens as it has ``noise`` ``[R, K]``: ``[R, K]``."""
        logits[:, self.never] = -torch.inf
        largest, tokens = logits.topk(min(self.top_k, logits.shape[1]), dim=-1)
        kept, reached = nucleus(largest, self.temperature, self.top_p)
        chosen = torch.searchsorted(reached, noise * reached[:, -1:], right=True)
        return tokens.gather(1, torch.minimum(chosen, last_kept(kept)))


def merged(model: Any) -> Any:
    """Return ``model`` with what PEFT's layers add merged into their weights: a copy where there are such layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    return model


def series_at_once(model: Any, samples: int, steps: int) -> int:
    """Say how many series to draw ``samples`` paths of ``steps`` tokens of at a time: what fits in bounded memory."""
    config = model.config
    cached: int = 2 * config.num_decoder_layers * config.num_heads * config.d_kv * steps  # of a path
    paths = min(PATHS_AT_ONCE, CACHED_AT_ONCE // cached)
    return max(1, paths // samples)


def sample_tokens(model: Any, tokens: Tensor, mask: Tensor, noise: Tensor, draw: Draw) -> Tensor:
    """Draw paths that continue ``tokens`` ``[B, C]``, observed where ``mask`` ``[B, C]``, by ``noise`` ``[B, S, H]``.

    Returns tokens ``[B, S, H]``. ``noise`` is uniform in [0, 1).
    """
    batch, samples, steps = noise.shape
    decoder = _Decoder(model, tokens, mask, steps)
    token = torch.full((batch, 1), model.config.decoder_start_token_id, device=tokens.device)
    out = []
    for step in range(steps):
        logits = decoder.step(token, step).flatten(0, 1)  # [B * S, V]; at the first step all samples are one: [B, V]
        now = noise[:, :, step]
        token = draw(logits, now if step == 0 else now.reshape(-1, 1)).reshape(batch, samples)
        if step == 0:
            decoder.spread(samples)
        out.append(token)
    return torch.stack(out, dim=-1)


def logits_of(model: Any, tokens: Tensor, mask: Tensor, fed: Tensor) -> Tensor:
    """Return the logits ``[B, S, H, V]`` of each next token, the decoder being fed ``fed`` ``[B, S, H]`` in turn."""
    decoder = _Decoder(model, tokens, mask, fed.shape[-1])
    decoder.spread(fed.shape[1])
    return torch.stack([decoder.step(fed[:, :, step], step) for step in range(fed.shape[-1])], dim=2)


class _Decoder:
    """The decoder of a `T5ForConditionalGeneration`, a step of all paths at a time; modules are called, not copied."""

    def __init__(self, model: Any, tokens: Tensor, mask: Tensor, steps: int) -> None:
        self.model, self.blocks = model, model.decoder.block
        self.heads, self.width = model.config.num_heads, model.config.d_kv
        encoded = model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        lowest = torch.finfo(encoded.dtype).min  # not infinity: a series with nothing observed is no error
        self.blocked = encoded.new_zeros(mask.shape).masked_fill(~mask.bool(), lowest)[:, None, None, :]
        self.cross = []
        for block in self.blocks:
            attention = block.layer[1].EncDecAttention
            self.cross.append((self._heads(attention.k(encoded)).mT, self._heads(attention.v(encoded))))
        first = self.blocks[0].layer[0].SelfAttention
        self.bias = first.compute_bias(steps, steps)  # [1, heads, steps, steps]
        shape = (len(tokens), 1, self.heads, steps, self.width)
        # Per block keys and values of the path so far: [B, S, heads, steps, width].
        self.caches = [[encoded.new_empty(shape) for _ in range(2)] for _ in self.blocks]

    def spread(self, samples: int) -> None:
        """Expand to so many paths of each series, which are equal so far."""
        self.caches = [[cache.repeat(1, samples, 1, 1, 1) for cache in pair] for pair in self.caches]

    def step(self, token: Tensor, step: int) -> Tensor:
        """Take a token of each path ``[B, S]`` to the logits of its next one, ``[B, S, V]``."""
        batch, samples = token.shape
        x = self.model.shared(token)  # [B, S, D]
        bias = self.bias[:, :, step, None, : step + 1]  # [1, heads, 1, step + 1]
        for block, (keys, values), (cross_keys, cross_values) in zip(self.blocks, self.caches, self.cross, strict=True):
            own, cross = block.layer[0], block.layer[1]
            attention, y = own.SelfAttention, own.layer_norm(x)
            projections = (attention.q, attention.k, attention.v)
            q, k, v = (part(y).view(batch, samples, self.heads, self.width) for part in projections)
            keys[:, :, :, step], values[:, :, :, step] = k, v
            scores = q.unsqueeze(3) @ keys[:, :, :, : step + 1].mT + bias  # [B, S, heads, 1, step + 1]
            mixed = torch.softmax(scores, dim=-1) @ values[:, :, :, : step + 1]
            x = x + attention.o(mixed.reshape(batch, samples, -1))
            attention = cross.EncDecAttention
            q = self._heads(attention.q(cross.layer_norm(x)))  # [B, heads, S, width]
            mixed = torch.softmax(q @ cross_keys + self.blocked, dim=-1) @ cross_values
            x = x + attention.o(mixed.transpose(1, 2).reshape(batch, samples, -1))
            x = block.layer[2](x)
        x = self.model.decoder.final_layer_norm(x)
        if self.model.config.tie_word_embeddings:
            x = x * self.model.model_dim**-0.5
        logits: Tensor = self.model.lm_head(x)
        return logits

    def _heads(self, x: Tensor) -> Tensor:
        """Split ``[B, N, heads * width]`` into ``[B, heads, N, width]``."""
        return x.view(*x.shape[:2], self.heads, self.width).transpose(1, 2)
