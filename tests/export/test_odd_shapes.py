"""Shapes that no published Chronos has and chronos-forecasting computes all the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.bundle import Bundle  # noqa: E402
from device_runtime.forecast.forecaster import Forecaster  # noqa: E402
from edge_tsfm.models.family import FAMILIES  # noqa: E402
from edge_tsfm.models.parts import AHEAD, find_parts  # noqa: E402
from export import ExportError, export_base  # noqa: E402
from export.bolt_learning import parts as learning_parts  # noqa: E402

PROVENANCE = {"source": "test", "licence": "none", "weights": "none"}
SHAPE = {
    "d_model": 16, "d_ff": 24, "d_kv": 4, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 1, "pad_token_id": 0,
    "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip


def bolt(feed_forward: str = "relu", **chronos: Any) -> Any:
    """A Chronos-Bolt as transformers draws it."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    own = {
        "context_length": 50, "prediction_length": 5, "input_patch_size": 7, "input_patch_stride": 7,
        "quantiles": [0.1, 0.5, 0.9], "use_reg_token": True,
    }  # fmt: skip
    torch.manual_seed(0)
    config = T5Config(
        **SHAPE, vocab_size=2, reg_token_id=1, feed_forward_proj=feed_forward, chronos_config=own | chronos
    )
    return ChronosBoltModelForForecasting(config).eval()


def t5(feed_forward: str) -> Any:
    """A Chronos-T5 as transformers draws it."""
    from transformers import T5Config, T5ForConditionalGeneration

    chronos = {
        "tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "context_length": 24, "prediction_length": 5, "n_tokens": 64, "n_special_tokens": 2, "pad_token_id": 0,
        "eos_token_id": 1, "use_eos_token": True, "model_type": "seq2seq", "num_samples": 5, "temperature": 1.0,
        "top_k": 50, "top_p": 1.0,
    }  # fmt: skip
    torch.manual_seed(0)
    config = T5Config(
        **SHAPE, vocab_size=64, feed_forward_proj=feed_forward, tie_word_embeddings=False, chronos_config=chronos
    )
    return T5ForConditionalGeneration(config).eval()


@pytest.mark.parametrize(
    ("family", "model"),
    [("chronos-bolt", lambda: bolt("gated-gelu")), ("chronos-t5", lambda: t5("gated-silu"))],
    ids=["chronos-bolt", "chronos-t5"],
)
def test_gated_layers_are_exported_and_tunable(family: str, model: Any, tmp_path: Path) -> None:
    made = export_base(model(), family=family, name="gated", out=tmp_path / "bundle", provenance=PROVENANCE)
    tunable = {entry.name for entry in Bundle.open(tmp_path / "bundle").manifest.tensors}
    dense = [f"{stack}.block.0.layer.{layer}.DenseReluDense" for stack, layer in (("encoder", 1), ("decoder", 2))]
    assert {f"{one}.{part}.weight" for one in dense for part in ("wi_0", "wi_1", "wo")} <= tunable
    assert not made.silent


def test_a_base_that_forecasts_few_steps_is_searched_for_dead_parts() -> None:
    """More steps than the model's own come without gradients, or not at all."""
    model = bolt()
    assert model.chronos_config.prediction_length < AHEAD
    parts = find_parts(model, FAMILIES["chronos-bolt"])
    assert "encoder.block.0.layer.0.SelfAttention.v.weight" in parts.linear["v"]
    assert "decoder.block.0.layer.0.SelfAttention.q.weight" in parts.dead


@pytest.mark.parametrize(
    ("size", "stride", "with_token"), [(7, 3, True), (8, 4, False), (8, 6, True), (4, 6, True), (6, 1, True)]
)
def test_patches_that_overlap_or_leave_steps_out(size: int, stride: int, with_token: bool, tmp_path: Path) -> None:
    model = bolt(input_patch_size=size, input_patch_stride=stride, use_reg_token=with_token)
    export_base(model, family="chronos-bolt", name="odd", out=tmp_path / "b", provenance=PROVENANCE)
    forecaster = Forecaster.open(tmp_path / "b")
    for length in (size, 13, 30, 50):
        context = (80 + 5 * np.random.default_rng(length).standard_normal((2, length))).astype(np.float32)
        context[0, 2] = np.nan
        wanted = model(context=torch.from_numpy(context)).quantile_preds.detach().numpy().transpose(0, 2, 1)
        got = forecaster.forecast(context, 5).quantiles
        np.testing.assert_allclose(got, np.sort(wanted, axis=-1), rtol=1e-5)


def test_what_is_not_computed_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match="gated-gelu"):
        learning_parts(bolt("gated-gelu"), ["output_patch_embedding.output_layer.bias"], None)
