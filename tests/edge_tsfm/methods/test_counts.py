"""Numbers of parameters as "Beyond LoRA" (arXiv 2409.11302) states them for chronos-t5-tiny: 2,400 and 49,152."""

import copy
from typing import Any

import pytest
from transformers import T5Config, T5ForConditionalGeneration

from edge_tsfm.methods import Options, attach, find_method


@pytest.fixture(scope="module")
def t5_tiny() -> Any:
    """The published shape, random weights."""
    config = T5Config(
        d_model=256, d_ff=1024, d_kv=64, num_layers=4, num_decoder_layers=4, num_heads=4, vocab_size=4096,
        feed_forward_proj="relu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        chronos_config={
            "tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
            "context_length": 512, "prediction_length": 64, "n_tokens": 4096, "n_special_tokens": 2, "pad_token_id": 0,
            "eos_token_id": 1, "use_eos_token": True, "model_type": "seq2seq", "num_samples": 20, "temperature": 1.0,
            "top_k": 50, "top_p": 1.0,
        },
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("method", "options", "numbers", "tensors"),
    [
        ("fourierft", Options(), 2_400, 24),
        ("fourierft", Options(preset="qkvo50"), 2_400, 48),
        ("lora", Options(), 49_152, 48),
        ("bitfit", Options(), 256, 2),
        ("bitfit", Options(biases="added"), 19_712, 54),
        ("bitfit", Options(biases="added", target_modules=("v",)), 3_328, 14),
        ("norms", Options(), 5_632, 22),
        ("norms", Options(norms="attention"), 3_072, 12),
        ("ia3", Options(), 14_336, 32),
    ],
)
def test_chronos_t5_tiny(t5_tiny: Any, method: str, options: Options, numbers: int, tensors: int) -> None:
    model = copy.deepcopy(t5_tiny)
    assert len(attach(model, find_method(method), options)) == tensors
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == numbers


@pytest.mark.parametrize(
    ("method", "options", "numbers"),
    [
        ("fourierft", Options(), 2_400),
        ("bitfit", Options(), 2_496),
        ("bitfit", Options(biases="added"), 9_408),
        ("bitfit", Options(biases="added", target_modules=("v",)), 3_648),
        ("ia3", Options(), 4_992),
    ],
)
def test_edge_bolt_micro(method: str, options: Options, numbers: int) -> None:
    from edge_tsfm.models import load_base

    model = load_base("edge-bolt-micro").model
    attach(model, find_method(method), options)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == numbers
