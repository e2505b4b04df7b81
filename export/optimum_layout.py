"""`export_optimum`: a Chronos-T5 as the folder that Hugging Face optimum opens, an adapter merged into it on request.

For users of optimum, not for the device: every graph contains the weights, so an adapter cannot be added or removed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from device_runtime.format.delta import Delta, apply_delta
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.families import FAMILIES, find_family
from export.float64 import allowed_error, in_float64
from export.folder import appearing
from export.quiet import quiet
from export.t5 import tokenizer

TASK = "text2text-generation-with-past"
ORIGIN_FILE = "edge_tsfm.json"  # what optimum does not ask: where the weights come from
CONTEXTS = 4  # of each length
STEPS = 16  # tokens decoded from each


@dataclass(frozen=True, kw_only=True)
class OptimumExport:
    """What was written, and the proof that optimum decodes as torch does."""

    path: Path
    files: tuple[str, ...]
    bytes: int
    parity: float  # largest error of a logit under greedy decoding with the cache, of the largest logit
    parity_float32: float  # torch's own, against float64 as well
    tokens: int  # decoded for it
    merged_tensors: int


def export_optimum(
    model: nn.Module,
    *,
    family: str,
    out: Path,
    provenance: Mapping[str, Any],
    deltas: Mapping[str, Delta] | None = None,
) -> OptimumExport:
    """Write ``model`` with ``deltas`` (torch parameter name → delta) merged to the new folder ``out``.

    The folder is optimum's own: ``encoder_model.onnx``, ``decoder_model.onnx``, ``decoder_with_past_model.onnx``,
    ``config.json``, ``generation_config.json`` and, where optimum can run it, both decoders in one
    ``decoder_model_merged.onnx``; ``provenance`` goes into `ORIGIN_FILE`. Raises `ExportError` for another family, and
    when optimum's decoding of the folder differs from torch's; then nothing is written.
    """
    if not find_family(family).optimum:
        known = [name for name, record in FAMILIES.items() if record.optimum]
        raise ExportError(
            f"the optimum layout is for {' and '.join(known)}, this is {family}",
            hint=f"optimum has no class that would open a {family}; leave out --layout",
        )
    from optimum.exporters.onnx import onnx_export_from_model

    merged = _merged(model, deltas or {})
    with appearing(out) as scratch, quiet("optimum"):
        onnx_export_from_model(
            _fresh(merged),  # the exporter changes the configuration of the model it is given
            output=scratch,
            task=TASK,
            no_post_process=not _mergeable(merged),
            do_validation=False,
        )
        parity, parity_float32, tokens = _check(merged, scratch)
        tools = {tool: version(tool) for tool in ("edge-tsfm", "optimum", "optimum-onnx", "torch", "transformers")}
        origin = {**provenance, "merged_tensors": sorted(deltas or {}), "tools": tools}
        (scratch / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    files = sorted(out.iterdir())
    return OptimumExport(
        path=out,
        files=tuple(file.name for file in files),
        bytes=sum(file.stat().st_size for file in files),
        parity=parity,
        parity_float32=parity_float32,
        tokens=tokens,
        merged_tensors=len(deltas or {}),
    )


def _merged(model: nn.Module, deltas: Mapping[str, Delta]) -> Any:
    """Return a copy of ``model`` with the deltas added as a device merges them: in double, rounded once."""
    merged = _fresh(model)
    parameters = dict(merged.named_parameters())
    for name, delta in deltas.items():
        if name not in parameters:
            raise ExportError(
                f"the base has no parameter {name!r} to merge into",
                hint="optimum's graphs have no room for added biases: train with --biases native, or export a bundle"
                if name.endswith(".bias")
                else "export the adapter of a run on this base",
            )
        total = apply_delta(parameters[name].detach().numpy(), delta)
        if not np.isfinite(total).all():
            raise ExportError(f"{name}: merged, a weight is not finite")
        with torch.no_grad():
            parameters[name].copy_(torch.from_numpy(total))
    return merged


def _fresh(model: Any) -> Any:
    """Return a model of the same weights and nothing else: `generate` leaves wrappers that a copy would carry."""
    fresh = type(model)(copy.deepcopy(model.config)).eval()
    fresh.load_state_dict(model.state_dict())
    return fresh


def _mergeable(model: Any) -> bool:
    """Return whether optimum can run both decoders merged into one graph.

    It then starts from an empty cache whose heads it takes to be d_model / heads wide, which those of Chronos-T5's Mini
    are not (huggingface/optimum issue 1523). Two graphs do without.
    """
    return bool(model.config.num_heads * model.config.d_kv == model.config.d_model)


def _check(model: Any, folder: Path) -> tuple[float, float, int]:
    """Decode greedily with optimum, cache and all, and compare every logit on the way with torch in float64.

    Logits rather than tokens: where two bins are equally likely, rounding may choose. Returns the largest errors of
    optimum and of torch in float32, and how many tokens were decoded. Raises `ExportError` where optimum errs by more
    than `allowed_error`.
    """
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    opened = ORTModelForSeq2SeqLM.from_pretrained(folder)
    length = int(model.config.chronos_config["context_length"])
    worst, worst_float32, tokens = 0.0, 0.0, 0
    for steps in sorted({min(16, length), length}):
        ids, mask = tokenize(model, torch.from_numpy(synthetic_contexts(CONTEXTS, steps, missing=0.1, seed=steps)))
        decoded = opened.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=STEPS,
            max_new_tokens=STEPS,
            return_dict_in_generate=True,
            output_logits=True,
        )
        feed = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoded.sequences[:, :-1]}
        with in_float64():
            float64 = model(**feed).logits
        with torch.no_grad():
            float32 = float((model(**feed).logits - float64).abs().max() / float64.abs().max())
        error = float((torch.stack(decoded.logits, dim=1) - float64).abs().max() / float64.abs().max())
        allowed = allowed_error(float32, 1.0)
        if not error <= allowed:
            raise ExportError(
                f"parity: optimum's logits differ from torch's by {error:.3g} of the largest, allowed {allowed:.3g} "
                f"(torch's own rounding: {float32:.3g})"
            )
        worst, worst_float32, tokens = max(worst, error), max(worst_float32, float32), tokens + CONTEXTS * STEPS
    return worst, worst_float32, tokens


def tokenize(model: Any, context: Tensor) -> tuple[Tensor, Tensor]:
    """Turn contexts ``[B, L]`` into the model's tokens and their mask, ``[B, L + 1]`` with an end token."""
    ids, mask, _ = tokenizer(model).context_input_transform(context)
    return ids, mask
