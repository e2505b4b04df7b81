"""Parity at the widths of published models, with random weights: every tunable tensor perturbed, torch beside runtime.

Heads, widths, feed-forward size, vocabulary and lengths are the published ones; layers are cut to two and two: each
kind of tensor once in a block with a position table and once in one without.
"""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.bundle import Bundle  # noqa: E402
from device_runtime.forecast.forecaster import Forecaster  # noqa: E402
from export.base import export_base  # noqa: E402
from export.contexts import synthetic_contexts  # noqa: E402
from export.float64 import allowed_error  # noqa: E402
from export.survey import SEEN  # noqa: E402
from tests.support.rounding import ANY_ORDER, FACTOR  # noqa: E402

PROVENANCE = {"source": "test", "licence": "none", "weights": "none"}
LAYERS = {"num_layers": 2, "num_decoder_layers": 2}
# heads × d_kv is 512 in Mini, and equal to d_model in Base.
T5_SHAPES = {
    "mini": {"d_model": 384, "d_ff": 1536, "d_kv": 64, "num_heads": 8},
    "base": {"d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12},
}
IDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def t5(shape: dict[str, int]) -> Any:
    """amazon/chronos-t5-mini and -base but for the number of layers."""
    from transformers import T5Config, T5ForConditionalGeneration

    chronos = {
        "tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "context_length": 512, "prediction_length": 64, "n_tokens": 4096, "n_special_tokens": 2, "pad_token_id": 0,
        "eos_token_id": 1, "use_eos_token": True, "model_type": "seq2seq", "num_samples": 20, "temperature": 1.0,
        "top_k": 50, "top_p": 1.0,
    }  # fmt: skip
    config = T5Config(
        **shape, **LAYERS, **IDS, vocab_size=4096, feed_forward_proj="relu", dropout_rate=0.1, initializer_factor=1.0,
        tie_word_embeddings=False, chronos_config=chronos,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def bolt() -> Any:
    """amazon/chronos-bolt-base but for the number of layers."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    chronos = {
        "context_length": 2048, "prediction_length": 64, "input_patch_size": 16, "input_patch_stride": 16,
        "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "use_reg_token": True,
    }  # fmt: skip
    config = T5Config(
        **T5_SHAPES["base"], **LAYERS, **IDS, reg_token_id=1, vocab_size=2, feed_forward_proj="relu", dropout_rate=0.1,
        initializer_factor=1.0, chronos_config=chronos,
    )  # fmt: skip
    return ChronosBoltModelForForecasting(config)


def alive(model: Any) -> Any:
    """Give a random model attention to several places, tables that bend it, logits that differ."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                parameter.normal_(std=0.7)
            elif name == "shared.weight":
                parameter.normal_(std=1.0)
            elif name.endswith(".q.weight"):
                parameter.normal_(std=(parameter.shape[1] * 64) ** -0.5)
            elif parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chronos-t5-mini", "chronos-t5-base", "chronos-bolt-base"])
def test_the_runtime_follows_torch_in_every_tensor(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    family = name.rsplit("-", 1)[0]
    model = alive(bolt() if family == "chronos-bolt" else t5(T5_SHAPES[name.rsplit("-", 1)[1]]))
    made = export_base(model, family=family, name=name, out=tmp_path / "bundle", provenance=PROVENANCE)
    assert made.parity.base <= FACTOR * made.parity.float32 + ANY_ORDER
    assert made.parity.redrawn <= allowed_error(made.parity.redrawn_float32, 1.0)
    assert made.parity.weakest_effect > SEEN * allowed_error(made.parity.redrawn_float32, 1.0)
    tunable = {entry.name for entry in Bundle.open(tmp_path / "bundle").manifest.tensors}
    sites = [n for n, p in model.named_parameters() if p.ndim == 2 and n.split(".")[-2] in {"q", "k", "v", "o"}]
    dead = {n for n in sites if n not in tunable}
    # Bolt's decoder sees one token: its self-attention q and k have no effect.
    assert len(dead) == (4 if family == "chronos-bolt" else 0)
    forecast = Forecaster.open(tmp_path / "bundle").forecast(synthetic_contexts(1, 600)[0], 64)
    assert forecast.quantiles.shape == (64, 9)
