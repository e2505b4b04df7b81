"""Make the dummy bases: real families with true Chronos configurations at d_model 8, so that a test takes milliseconds.

``python tests/dummy_bases/make.py`` writes one folder for each family beside this file. Their weights are
random, arranged so that every live tensor visibly moves the forecast and the quantiles are in order: nothing
here has learnt anything, but adapters of it can.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from device_runtime.files import write_atomic

HERE = Path(__file__).resolve().parent
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHAPE = {"d_model": 8, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 2}


def main() -> None:
    """Write every dummy base."""
    _write(make_bolt(), HERE / "chronos-bolt")
    _write(make_t5(), HERE / "chronos-t5")
    _write(make_chronos2(), HERE / "chronos-2")


def make_bolt() -> Any:
    """Build a Chronos-Bolt: context 64, prediction 16, patches of 8."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    torch.manual_seed(0)
    config = T5Config(
        **SHAPE, vocab_size=2, feed_forward_proj="relu", dropout_rate=0.1, initializer_factor=0.3,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, reg_token_id=1,
        architectures=["ChronosBoltModelForForecasting"], chronos_pipeline_class="ChronosBoltPipeline",
        chronos_config={
            "context_length": 64, "prediction_length": 16, "input_patch_size": 8, "input_patch_stride": 8,
            "quantiles": list(LEVELS), "use_reg_token": True,
        },
    )  # fmt: skip
    model = ChronosBoltModelForForecasting(config)
    _liven(model)
    with torch.no_grad():
        # A spread-out forecast of the context's mean, plus what the random network says.
        spread = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
        model.output_patch_embedding.residual_layer.bias.copy_(spread.repeat_interleave(16))
    return model.eval()


def make_t5() -> Any:
    """Build a Chronos-T5: 64 tokens, context 32, prediction 8."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        **SHAPE, vocab_size=64, feed_forward_proj="relu", dropout_rate=0.1, initializer_factor=0.3,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=True,
        architectures=["T5ForConditionalGeneration"], chronos_pipeline_class="ChronosPipeline",
        chronos_config={
            "tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -3.0, "high_limit": 3.0},
            "context_length": 32, "prediction_length": 8, "n_tokens": 64, "n_special_tokens": 2, "pad_token_id": 0,
            "eos_token_id": 1, "use_eos_token": True, "model_type": "seq2seq", "num_samples": 20, "temperature": 1.0,
            "top_k": 50, "top_p": 1.0,
        },
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    _liven(model)
    with torch.no_grad():
        model.shared.weight.copy_(torch.randn(model.shared.weight.shape))
    return model.eval()


def make_chronos2() -> Any:
    """Build a Chronos-2: context 64, up to 4 output patches of 8."""
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    torch.manual_seed(0)
    shape = {key: value for key, value in SHAPE.items() if key != "num_decoder_layers"}
    config = Chronos2CoreConfig(
        **shape, vocab_size=2, feed_forward_proj="relu", dropout_rate=0.1, initializer_factor=0.3, pad_token_id=0,
        reg_token_id=1, architectures=["Chronos2Model"], chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": 64, "output_patch_size": 8, "input_patch_size": 8, "input_patch_stride": 8,
            "quantiles": [0.01, 0.05, *LEVELS, 0.95, 0.99], "use_reg_token": True, "use_arcsinh": True,
            "max_output_patches": 4,
        },
    )  # fmt: skip
    model = Chronos2Model(config)
    _liven(model)
    with torch.no_grad():
        spread = torch.tensor([NormalDist().inv_cdf(level) for level in model.chronos_config.quantiles])
        model.output_patch_embedding.residual_layer.bias.copy_(spread.repeat_interleave(8))
    return model.eval()


def _liven(model: nn.Module) -> None:
    """Give what starts at zero, one or nearly zero values that matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif "layer_norm" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
            elif "relative_attention_bias" in name or name.endswith((".q.weight", ".k.weight")):
                parameter.normal_(std=0.7)
            elif name.endswith((".v.weight", ".o.weight")):
                parameter.normal_(std=0.5)


def _write(model: Any, folder: Path) -> None:
    """Write what `from_pretrained` reads, nothing that depends on the day or the machine."""
    config = model.config.to_diff_dict() | {"torch_dtype": "float32"}
    for key in ("_name_or_path", "dtype"):
        config.pop(key, None)
    folder.mkdir(exist_ok=True)
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    write_atomic(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main()
