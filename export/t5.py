"""Chronos-T5 for the exporter: its two graphs (`export.t5_graphs`), its manifest, and torch's reference results."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_runtime.forecast.families.t5 import WITNESS_STEPS, T5Model
from device_runtime.forecast.families.tokenizer import Tokenizer
from device_runtime.format.manifest import Manifest
from export.errors import ExportError
from export.family import FamilyExport
from export.graph import Part
from export.t5_graphs import EncoderGraph, StepGraph

FloatArray = NDArray[np.float32]
COUNTS = ("n_tokens", "n_special_tokens", "pad_token_id", "eos_token_id", "num_samples", "top_k")
FROZEN = ("shared.weight", "lm_head.weight")  # embeddings of the tokens: no method tunes them
# Of the bins' range: closer to an edge, rounding decides. A mean over the context, a division and an edge, each rounded
# to the size of the range at most: 16 roundings are several times that.
EDGE = 16 * 2.0**-24
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
        **{name: int(chronos[name]) for name in COUNTS},
        **{name: float(chronos[name]) for name in ("temperature", "top_p")},
        "use_eos_token": bool(chronos["use_eos_token"]),
        "start_token_id": int(config.decoder_start_token_id),
        "num_layers": int(config.num_decoder_layers),
        "num_heads": int(config.num_heads),
        "d_kv": int(config.d_kv),
    }
    ours, torchs = Tokenizer.parse(parameters).boundaries, tokenizer(model).boundaries.numpy()
    if ours.shape != torchs.shape or not np.allclose(ours, torchs, rtol=0, atol=EDGE * parameters["high_limit"]):
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
    tokens, mask, scale = encode(model, context)
    own = tokens[:, : tokens.shape[1] - int(model.config.chronos_config["use_eos_token"])]
    fed = own[:, torch.arange(steps - 1) % own.shape[1]]
    start = torch.full_like(tokens[:, :1], model.config.decoder_start_token_id)
    out = model(input_ids=tokens, attention_mask=mask, decoder_input_ids=torch.cat([start, fed], dim=1))
    return out.logits, scale


def encode(model: Any, context: FloatArray) -> tuple[Tensor, Tensor, Tensor]:
    """Return chronos-forecasting's tokens ``[B, C]`` and mask ``[B, C]``, and scales ``[B]``.

    A value on a bin's edge falls as on the device: rounding decides, which depends on the processor that divides and
    says nothing about the graphs. Raises `ExportError` where the device's tokens differ otherwise.
    """
    tokens, mask, scale = tokenizer(model).context_input_transform(torch.from_numpy(context.copy()))
    device = Tokenizer.parse(describe(model)["parameters"])
    seen = context[:, -model.config.chronos_config["context_length"] :]
    ours, _, scales = device.encode(seen)
    theirs = tokens.numpy()
    same = ours.shape == theirs.shape
    if same and (odd := ours != theirs).any():
        rows, places = np.nonzero(odd[:, : seen.shape[1]])
        mine, other = ours[rows, places], theirs[rows, places]
        edges = device.boundaries[np.maximum(mine, other) - device.n_special_tokens - 1]
        near = np.abs(seen[rows, places] / scales[rows] - edges) <= EDGE * device.high_limit  # false for NaN
        same = bool(near.all() and (np.abs(mine - other) == 1).all() and not odd[:, seen.shape[1] :].any())
    if not same:
        raise ExportError(
            "this torch gives values other tokens than the device does",
            hint="the base's tokenizer or chronos-forecasting is not the one that the runtime was written for",
        )
    return torch.from_numpy(ours), mask, scale


def witness(model: Any, context: FloatArray) -> FloatArray:
    """Return the means that the next token's distribution has at every step: ``[B, steps, 1]``.

    In the context's unit, the decoder being fed the context's own tokens: what `T5Model.witness` returns.
    """
    numbers, scale = logits(model, context, _steps(model))
    chronos = model.config.chronos_config
    centres = tokenizer(model).centers.double()
    index = torch.arange(chronos["n_tokens"]) - chronos["n_special_tokens"] - 1
    mean = torch.softmax(numbers.double(), dim=-1) @ centres[index.clamp(0, len(centres) - 1)]
    return np.asarray((mean * scale[:, None])[..., None].float().numpy())


def response(model: Any, context: FloatArray) -> Tensor:
    """Return the logits behind `witness`, ``[B, steps, V]``: they show what a softmax near one token would hide."""
    return logits(model, context, _steps(model))[0]


def runtime_response(model: T5Model, context: FloatArray) -> FloatArray:
    """Return `response` by the runtime."""
    return model.logits(context, min(WITNESS_STEPS, model.prediction_length))


def _steps(model: Any) -> int:
    """Return how many steps torch and the runtime are compared on."""
    return int(min(WITNESS_STEPS, model.config.chronos_config["prediction_length"]))


def tokenizer(model: Any) -> Any:
    """Return chronos-forecasting's own tokenizer for a model."""
    from chronos.chronos import ChronosConfig

    return ChronosConfig(**model.config.chronos_config).create_tokenizer()


def operations(manifest: Manifest, batch: int, context_length: int, steps: int) -> int:
    """Count a forecast's operations in products of weights and in attention over the context."""
    weights = [entry for entry in manifest.tensors if len(entry.shape) == 2 and "relative" not in entry.name]
    context = context_length + int(manifest.parameters["use_eos_token"])
    inner = int(manifest.parameters["num_heads"]) * int(manifest.parameters["d_kv"])
    width = next(entry.shape[1] for entry in weights if entry.name.endswith("SelfAttention.q.weight"))
    first = ("encoder.", "EncDecAttention.k.", "EncDecAttention.v.")  # once for a context
    encoder = [entry for entry in weights if any(part in entry.name for part in first)]
    layers = sum(entry.name.endswith("SelfAttention.q.weight") for entry in encoder)
    per_context = context * sum(entry.size for entry in encoder) + layers * 2 * context * context * inner
    per_row = sum(entry.size for entry in weights) - sum(entry.size for entry in encoder)
    per_row += int(manifest.parameters["n_tokens"]) * width
    per_row += int(manifest.parameters["num_layers"]) * 2 * context * inner
    rows = int(manifest.parameters["num_samples"]) * steps
    return 2 * batch * (per_context + rows * per_row)


FAMILY = FamilyExport(
    name="chronos-t5",
    parts=parts,
    frozen=FROZEN,
    describe=describe,
    witness=witness,
    response=response,
    runtime_response=runtime_response,
    optimum=True,
    operations=operations,
)
