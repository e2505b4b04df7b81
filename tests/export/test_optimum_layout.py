"""Optimum's folder of a Chronos-T5: opened with optimum's own class, decoded token for token as torch does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from device_runtime.format.delta import Dense, Numbers
from edge_tsfm.cli.export import command
from edge_tsfm.data.simulate import encode_table, simulate_ward
from edge_tsfm.models import Base, load_base
from edge_tsfm.runs.run import load_run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from export import ExportError, export_optimum
from export.contexts import synthetic_contexts
from export.float64 import allowed_error
from export.optimum_layout import ORIGIN_FILE, tokenize
from export.parity import replaced

DUMMY = Path(__file__).resolve().parents[1] / "dummy_bases" / "chronos-t5"
TABLE = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
NAMES = ["config.json", "decoder_model.onnx", "decoder_with_past_model.onnx", "encoder_model.onnx"]


@pytest.fixture(scope="module")
def t5() -> Base:
    return load_base(str(DUMMY))


def opened(folder: Path) -> Any:
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    return ORTModelForSeq2SeqLM.from_pretrained(folder)


def greedy(model: Any, like: Any, steps: int = 12) -> torch.Tensor:
    """Decode a few gappy contexts greedily: tokens ``[B, 1 + steps]``."""
    context = torch.from_numpy(synthetic_contexts(6, 24, missing=0.2, seed=4))
    ids, mask = tokenize(like, context)
    limits = {"min_new_tokens": steps, "max_new_tokens": steps}
    return model.generate(input_ids=ids, attention_mask=mask, do_sample=False, **limits)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_optimum_opens_it_and_decodes_the_same_tokens(t5: Base, tmp_path: Path) -> None:
    result = export_optimum(t5.model, family=t5.family, out=tmp_path / "o", provenance={"weights": t5.digest})
    assert set(NAMES) | {"decoder_model_merged.onnx"} < set(result.files)
    assert result.parity <= allowed_error(result.parity_float32, 1.0)
    model = opened(tmp_path / "o")
    assert model.config.chronos_config == t5.model.config.chronos_config
    assert torch.equal(greedy(model, t5.model), greedy(t5.model, t5.model))
    origin = json.loads((tmp_path / "o" / ORIGIN_FILE).read_text())
    assert (origin["weights"], origin["merged_tensors"]) == (t5.digest, [])


def test_heads_of_another_width_than_the_models_share_decode_too(t5: Base, tmp_path: Path) -> None:
    """As in Chronos-T5's Mini: 8 heads of 64 on 384."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    config = T5Config.from_dict({**t5.model.config.to_dict(), "d_model": 12, "num_heads": 2, "d_kv": 8})
    model = T5ForConditionalGeneration(config).eval()
    result = export_optimum(model, family=t5.family, out=tmp_path / "o", provenance={})
    assert "decoder_model_merged.onnx" not in result.files
    assert torch.equal(greedy(opened(tmp_path / "o"), model), greedy(model, model))


def test_an_adapter_is_merged_and_the_base_left_alone(t5: Base, tmp_path: Path) -> None:
    before = {name: parameter.clone() for name, parameter in t5.model.named_parameters()}
    rows, columns = before[TABLE].shape
    numbers = Numbers.of(np.random.default_rng(0).normal(0, 5, (rows, columns)))
    result = export_optimum(
        t5.model, family=t5.family, out=tmp_path / "o", provenance={}, deltas={TABLE: Dense(numbers)}
    )
    assert result.merged_tensors == 1
    assert all(torch.equal(parameter, before[name]) for name, parameter in t5.model.named_parameters())
    tokens = greedy(opened(tmp_path / "o"), t5.model)
    with replaced(t5.model, {TABLE: (before[TABLE].numpy() + numbers.values).astype(np.float32)}):
        assert torch.equal(tokens, greedy(t5.model, t5.model))
    assert not torch.equal(tokens, greedy(t5.model, t5.model)), "the adapter moves what is decoded"


def test_what_is_not_the_model_is_not_written(t5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.optimum_layout.allowed_error", lambda *_: -1.0)
    with pytest.raises(ExportError, match="optimum's logits differ"):
        export_optimum(t5.model, family=t5.family, out=tmp_path / "o", provenance={})
    with pytest.raises(ExportError, match="no parameter 'nobody'"):
        export_optimum(
            t5.model,
            family=t5.family,
            out=tmp_path / "o",
            provenance={},
            deltas={"nobody": Dense(Numbers.of(np.ones((1, 1))))},
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
def test_other_families_are_refused_with_the_reason(family: str, tmp_path: Path) -> None:
    result = invoke("base", "--base", DUMMY.parent / family, "--layout", "optimum", "--out", tmp_path / "o")
    assert isinstance(result.exception, ExportError)
    assert f"this is {family}" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    common = ["base", "--base", DUMMY, "--out", tmp_path / "o"]
    assert "quantise its folder" in invoke(*common, "--layout", "optimum", "--precision", "int8").output
    assert "--adapter is for --layout optimum" in invoke(*common, "--adapter", tmp_path).output
    assert "--keep is for --precision" in invoke(*common, "--layout", "optimum", "--keep", "bitfit").output


@pytest.mark.slow
def test_a_run_is_merged_through_the_command(redraw: Callable[..., None], tmp_path: Path) -> None:
    data, run = tmp_path / "ward.csv", tmp_path / "run"
    frame = simulate_ward(
        patients=60, hours=60, site="A", seed=1, interval="1h", signals=["MAP"], on_patient=lambda: None
    )
    data.write_bytes(encode_table(frame, data))
    config = TrainConfig(
        data=str(data), target="MAP", base="edge-t5-micro", method="bitfit", context_length=48, prediction_length=4,
        steps=2, batch_size=8, evaluate_every=1, warmup_steps=1,
    )  # fmt: skip
    train(config, run, force=True)
    redraw(run, lambda value: value + torch.randn_like(value))
    out = tmp_path / "o"
    written = invoke("base", "--base", "edge-t5-micro", "--layout", "optimum", "--adapter", run, "--out", out, "--json")
    assert written.exit_code == 0, written.exception
    assert json.loads(written.stdout)["merged_tensors"] == len(load_run(run).deltas())
    tuned, base = load_run(run).tuned_model(), load_base("edge-t5-micro").model
    tokens = greedy(opened(out), base)
    # Numbers are rounded to int16 as they are merged; greedy tokens of nearly equal weight may differ.
    assert (tokens == greedy(tuned, base)).float().mean() > 0.95
    assert not torch.equal(tokens, greedy(base, base))
