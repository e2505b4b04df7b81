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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from device_runtime.t5 import PROBE_STEPS
from device_runtime.tokenizer import COUNTS, Tokenizer
from export.errors import ExportError
from export.graph import OPSET, Part
from export.layers import BLOCKED, buckets, check_layers, encode, feed_forward, joined_projections, norm

FloatArray = NDArray[np.float32]


class EncoderGraph(nn.Module):
    """Tokens ``[B, C]`` and their mask to cross-attention keys ``[B, layers, heads, width, C]`` and values."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        check_layers(model.config, "Chronos-T5")
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
        self.end = config.chronos_config["eos_token_id"]
        steps = config.chronos_config["prediction_length"]
        rows = buckets(model.decoder.block[0].layer[0].SelfAttention, -torch.arange(steps), bidirectional=False)
        self.register_buffer("rows", rows, persistent=False)  # [prediction_length], by distance back

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
        back = step - torch.arange(memory[3].shape[1])  # [T]
        table = self.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]
        by_distance = table[self.rows].transpose(0, 1)  # [heads, prediction_length]; folded
        ahead = ((back < 0).to(x.dtype) * BLOCKED)[None]
        bias = (by_distance[:, back.clamp(min=0)] + ahead)[None, :, None, :]  # [1, heads, 1, T]
        blocked = ((1.0 - observed) * BLOCKED)[:, None, None, :]  # [B, 1, 1, C]
        path = torch.arange(memory[3].shape[0])[:, None]
        place = torch.cat([path, step.expand_as(path)], dim=1)  # [N * heads, 2]: where a cache takes this step
        caches: list[Tensor] = []
        for number, block in enumerate(self.decoder.block):
            cross_keys, cross_values, own_keys, own_values = memory[4 * number : 4 * number + 4]
            attention = block.layer[0].SelfAttention
            qkv = joined_projections(attention, norm(block.layer[0].layer_norm, x))
            q, k, v = qkv.reshape(-1, 3, self.heads, self.width).unbind(1)  # [N, heads, width] each
            own_keys = written(own_keys, place, k.reshape(-1, self.width))  # [N * heads, T, width]
            own_values = written(own_values, place, v.reshape(-1, self.width))
            caches += [own_keys, own_values]
            scores = own_keys @ q.reshape(-1, self.width, 1)  # [N * heads, T, 1]
            scores = scores.reshape(-1, self.heads, 1, back.shape[0]) + bias
            weights = torch.softmax(scores, dim=-1).reshape(-1, 1, back.shape[0])
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
    p = torch.softmax(largest / temperature, dim=-1)
    reached = torch.cumsum(p, dim=-1)
    # A token stays while those before it fall short of top_p; the first always does.
    kept = torch.where(reached - p < top_p, p, torch.zeros_like(p))
    reached = torch.cumsum(kept, dim=-1)
    chosen = (reached <= noise[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
    # Rounding may leave noise beyond the last kept token.
    chosen = torch.minimum(chosen, (kept > 0).sum(-1, keepdim=True) - 1)
    return tokens.gather(1, chosen)[:, 0]


def longest_context(model: Any) -> int:
    """Return the most tokens a context can have, its end token included."""
    chronos = model.config.chronos_config
    return int(chronos["context_length"]) + int(chronos["use_eos_token"])


FROZEN = ("shared.weight", "lm_head.weight")  # embeddings of the tokens: no method tunes them
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # what a forecast reads off its samples unless asked for others


def describe(model: Any) -> dict[str, Any]:
    """Return the manifest's fields that depend on the family.

    Raises `ExportError` for a tokenizer that the device does not have, or that it would compute otherwise.
    """
    config, chronos = model.config, model.config.chronos_config
    if chronos["tokenizer_class"] != "MeanScaleUniformBins" or chronos["model_type"] != "seq2seq":
        raise ExportError(f"Chronos-T5 with {chronos['tokenizer_class']}, {chronos['model_type']}: not supported")
    parameters = {
        **{name: float(chronos["tokenizer_kwargs"][name]) for name in ("low_limit", "high_limit")},
        **{name: int(chronos[name]) for name in (*COUNTS, "num_samples", "top_k")},
        **{name: float(chronos[name]) for name in ("temperature", "top_p")},
        "use_eos_token": bool(chronos["use_eos_token"]),
        "start_token_id": int(config.decoder_start_token_id),
        "num_layers": int(config.num_decoder_layers),
        "num_heads": int(config.num_heads),
        "d_kv": int(config.d_kv),
    }
    ours, torchs = Tokenizer.parse(parameters).boundaries, _tokenizer(model).boundaries.numpy()
    if ours.shape != torchs.shape or not np.allclose(ours, torchs, rtol=1e-6, atol=1e-6 * parameters["high_limit"]):
        raise ExportError("this torch places the tokenizer's bins elsewhere than the device does")
    return {
        "context_length": int(chronos["context_length"]),
        "prediction_length": int(chronos["prediction_length"]),
        "quantile_levels": list(LEVELS),
        "parameters": parameters,
    }


def parts(model: Any) -> list[Part]:
    """Return both graphs, for any batch, context, number of samples and number of steps."""
    config = model.config
    heads, width, blocks = config.num_heads, config.d_kv, range(config.num_decoder_layers)
    series, samples, length, steps = 2, 3, 7, 5  # of the example
    any_size = torch.export.Dim.AUTO
    tokens, observed = torch.randint(2, 9, (series, length)), torch.ones(series, length)
    cross = (torch.randn(series, heads, width, length), torch.randn(series, heads, length, width))
    cache = torch.randn(series * samples * heads, steps, width)
    path = torch.zeros(series * samples)
    cross_names = [f"cross_{kind}_{block}" for block in blocks for kind in ("keys", "values")]
    memory = [
        f"{whose}_{kind}_{block}" for block in blocks for whose in ("cross", "own") for kind in ("keys", "values")
    ]
    return [
        Part(
            name="encoder",
            module=EncoderGraph(model),
            inputs=(tokens, observed),
            dynamic=({0: any_size, 1: any_size}, {0: any_size, 1: any_size}),
            input_names=["tokens", "observed"],
            output_names=cross_names,
        ),
        Part(
            name="step",
            module=StepGraph(model),
            inputs=(
                path.long(), torch.tensor([3]), path, observed, torch.ones(1), torch.tensor([4]), torch.ones(1),
                # Each a tensor of its own: one given twice would be traced as one input.
                *(tensor.clone() for _ in blocks for tensor in (*cross, cache, cache)),
            ),
            dynamic=(
                {0: any_size}, None, {0: any_size}, {0: any_size, 1: any_size}, None, None, None,
                tuple(
                    dims
                    for _ in blocks
                    for dims in (
                        {0: any_size, 3: any_size}, {0: any_size, 2: any_size},
                        {0: any_size, 1: any_size}, {0: any_size, 1: any_size},
                    )
                ),
            ),
            input_names=["token", "step", "noise", "observed", "temperature", "top_k", "top_p", *memory],
            output_names=[
                "next_token",
                "logits",
                *(f"own_{kind}_{block}_next" for block in blocks for kind in ("keys", "values")),
            ],
        ),
    ]  # fmt: skip


def logits(model: Any, context: FloatArray, steps: int) -> tuple[Tensor, Tensor]:
    """Return logits ``[B, steps, V]`` of the first tokens, fed the context's own in turn, and scales ``[B]``."""
    tokens, mask, scale = _tokenizer(model).context_input_transform(torch.from_numpy(context.copy()))
    own = tokens[:, : tokens.shape[1] - int(model.config.chronos_config["use_eos_token"])]
    fed = own[:, torch.arange(steps - 1) % own.shape[1]]
    start = torch.full_like(tokens[:, :1], model.config.decoder_start_token_id)
    out = model(input_ids=tokens, attention_mask=mask, decoder_input_ids=torch.cat([start, fed], dim=1))
    return out.logits, scale


def witness(model: Any, context: FloatArray) -> FloatArray:
    """Return the means that the next token's distribution has at every step: ``[B, steps, 1]``.

    In the context's unit, the decoder being fed the context's own tokens: what `T5Model.witness` returns.
    """
    steps = min(PROBE_STEPS, model.config.chronos_config["prediction_length"])
    numbers, scale = logits(model, context, steps)
    chronos = model.config.chronos_config
    centres = _tokenizer(model).centers.double()
    index = torch.arange(chronos["n_tokens"]) - chronos["n_special_tokens"] - 1
    mean = torch.softmax(numbers.double(), dim=-1) @ centres[index.clamp(0, len(centres) - 1)]
    return np.asarray((mean * scale[:, None])[..., None].float().numpy())


def _tokenizer(model: Any) -> Any:
    """Return chronos-forecasting's own tokenizer for a model."""
    from chronos.chronos import ChronosConfig

    return ChronosConfig(**model.config.chronos_config).create_tokenizer()
