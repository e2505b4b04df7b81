"""What bench times, and what it refuses before it begins."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from device_runtime.forecast.session import SessionSettings
from edge_tsfm.cli.bench import command
from edge_tsfm.errors import ConfigError
from edge_tsfm.models import FAMILIES
from edge_tsfm.research import peak
from edge_tsfm.research.bench import Case, cases, check_timed, forecast_timing, in_turn, operations, optimum_pipeline
from edge_tsfm.research.profiling import profile_forecast
from export import export_optimum

BASES = Path(__file__).resolve().parents[2] / "dummy_bases"


def test_both_are_called_as_often_and_in_turn() -> None:
    calls: list[str] = []
    in_turn([lambda: calls.append("a"), lambda: calls.append("b")], 4, block=2)
    assert "".join(calls) == "aaabbbaaabbb"  # the first of each block is not counted


@pytest.mark.parametrize(("name", "expected"), [("chronos-bolt", 2), ("chronos-t5", 2), ("chronos-2", 2)])
def test_a_forecast_of_each_family_is_timed_beside_its_pipeline(exported, name: str, expected: int) -> None:
    base, bundle = exported(name)
    timed = cases(bundle)
    assert len(timed) == expected
    assert all(case.context_length <= bundle.manifest.context_length for case in timed)
    case = Case(context_length=16, prediction_length=4)
    timing = forecast_timing(base, bundle, case, SessionSettings(threads=1), runs=1)
    assert timing.torch_ms > 0
    assert timing.ratio == timing.torch_ms / timing.runtime_ms


def test_optimum_is_timed_beside_them_with_the_same_samples(exported, tmp_path: Path) -> None:
    pytest.importorskip("optimum.onnxruntime", reason="the other runtime")
    base, bundle = exported("chronos-t5")
    provenance = {"source": "test", "weights": base.digest, "licence": "none"}
    export_optimum(base.model, family=base.family, out=tmp_path / "optimum", provenance=provenance)
    settings = SessionSettings(threads=1)
    pipeline = optimum_pipeline(base, tmp_path / "optimum", settings)
    assert pipeline.model.model.use_cache
    assert pipeline.predict(torch.ones(16), prediction_length=4).shape == (1, 20, 4)
    case = Case(context_length=16, prediction_length=4)
    timing = forecast_timing(base, bundle, case, settings, 1, tmp_path / "optimum")
    assert timing.optimum_ms is not None
    assert timing.optimum_ratio == timing.optimum_ms / timing.runtime_ms


def test_what_is_not_timed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_timed("chronos-t5", optimum=True)
    monkeypatch.setattr(FAMILIES["chronos-2"], "timed", None)
    with pytest.raises(ConfigError, match="chronos-2 is not timed"):
        check_timed("chronos-2")
    with pytest.raises(ConfigError, match="no class for chronos-bolt"):
        check_timed("chronos-bolt", optimum=True)


def test_operations_of_a_chronos_t5_are_those_of_its_layers(exported) -> None:
    """Counted by hand for d_model 8, d_ff 16, 2 heads of 4, 2 + 2 layers, 64 tokens, 20 samples."""
    base, bundle = exported("chronos-t5")
    config = base.model.config
    d, ff, inner = config.d_model, config.d_ff, config.num_heads * config.d_kv
    context, rows = 17, 20 * 4
    encoder = config.num_layers * (4 * d * inner + 2 * d * ff + 2 * context * inner)
    cross = config.num_decoder_layers * 2 * d * inner
    step = config.num_decoder_layers * (6 * d * inner + 2 * d * ff + 2 * context * inner) + 64 * d
    counted = operations(bundle.manifest, Case(context_length=16, prediction_length=4))
    assert counted == 2 * (context * (encoder + cross) + rows * step)


@pytest.mark.parametrize(("stride", "patches"), [(4, 4), (2, 7), (1, 13), (6, 3)])
def test_patches_that_overlap_are_counted_each(exported, stride: int, patches: int) -> None:
    """A context of 15 steps is 16 with what is missing in front: so many patches of 4, and the [REG] token."""
    manifest = exported("chronos-bolt")[1].manifest
    case = Case(context_length=15, prediction_length=4)

    def counted(**parameters: int) -> int:
        return operations(dataclasses.replace(manifest, parameters={"patch_size": 4, **parameters}), case)

    weights = [entry for entry in manifest.tensors if len(entry.shape) == 2 and "relative" not in entry.name]
    each = sum(entry.size for entry in weights if entry.name.startswith(("encoder.", "input_patch")))
    once = sum(entry.size for entry in weights) - each
    assert counted(patch_stride=stride) == 2 * (once + (patches + 1) * each)
    assert counted() == counted(patch_stride=4)


@pytest.mark.parametrize(("seconds", "above"), [(0.0, 1e9), (0.5, 2 * peak.SIZE**3 / 500)])
def test_the_peak_is_that_of_the_faster_library(monkeypatch, seconds: float, above: float) -> None:
    """ONNX Runtime's product at once, and then slower than torch's: in operations a millisecond."""

    class Product:
        def run(self, *_: object) -> None:
            time.sleep(seconds)

    monkeypatch.setattr(peak, "_product", lambda *_: Product())
    monkeypatch.setattr(peak, "ROUNDS", 2)
    assert peak.operations_per_ms(1) > above


def test_onnx_runtimes_product_is_torchs() -> None:
    a, b = torch.randn(5, 5), torch.randn(5, 5)
    (product,) = peak._product(b.numpy(), 1).run(None, {"x": a.numpy()})
    torch.testing.assert_close(torch.from_numpy(product), a @ b)


def test_a_profile_names_the_graphs_of_a_chronos_t5(exported, tmp_path: Path) -> None:
    shares = profile_forecast(exported("chronos-t5")[1], tmp_path / "trace.json", threads=1)
    assert sum(shares.values()) == pytest.approx(1)
    assert {name.split(":")[0] for name in shares} == {"encoder", "step"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["trace-encoder.json", "trace-step.json"]
    assert json.loads((tmp_path / "trace-step.json").read_text())


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
def test_a_profile_of_one_graph_is_one_trace(exported, family: str, tmp_path: Path) -> None:
    shares = profile_forecast(exported(family)[1], tmp_path / "trace.json", threads=1)
    assert sum(shares.values()) == pytest.approx(1)
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


def test_a_shape_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    config = json.loads((BASES / "chronos-t5" / "config.json").read_text()) | {"architectures": ["T5EncoderModel"]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    result = CliRunner().invoke(command, ["--config", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert "T5EncoderModel" in str(result.exception)
