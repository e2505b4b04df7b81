"""One small Chronos-Bolt three ways: merged in torch, by the Python runtime and by the C core; forecasts by each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import encode
from device_runtime.format.delta import Delta, Numbers
from tests.support.adapters import every_kind
from tests.support.rounding import assert_near, noise

from .conftest import run
from .core import Core

torch = pytest.importorskip("torch", reason="the third way is torch")
pytest.importorskip("chronos", reason="the third way is chronos-forecasting")
pytest.importorskip("onnxscript", reason="exports a base")

KINDS = tuple(every_kind(2, 2, lambda *shape: Numbers.of(np.ones(shape)), np.random.default_rng(0)))


def tiny_bolt() -> torch.nn.Module:
    """A random Chronos-Bolt of width 8, biases and all."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        d_model=8, d_kv=4, d_ff=16, num_heads=2, num_layers=2, num_decoder_layers=2, vocab_size=2, dropout_rate=0.0,
        feed_forward_proj="relu", initializer_factor=0.05, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    config.reg_token_id = 1
    config.chronos_config = {
        "context_length": 64, "input_patch_size": 8, "input_patch_stride": 8, "prediction_length": 8,
        "quantiles": [0.1, 0.5, 0.9], "use_reg_token": True,
    }  # fmt: skip
    torch.manual_seed(0)
    model = ChronosBoltModelForForecasting(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tiny_bolt()


@pytest.fixture(scope="module")
def exported(model: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from export.base import export_base

    out = tmp_path_factory.mktemp("bolt") / "bundle"
    provenance = {"source": "random", "licence": "none", "weights": "0" * 64}
    export_base(model, family="chronos-bolt", name="tiny", out=out, provenance=provenance)
    return Bundle.open(out)


def adapter_of(bundle: Bundle, kind: str) -> Adapter:
    """One kind of delta on every tensor that it can be put on."""
    draw = np.random.default_rng(5)

    def numbers(*shape: int) -> Numbers:
        return Numbers.of(draw.normal(size=shape) * 0.2)

    deltas: dict[int, Delta] = {}
    for index, entry in enumerate(bundle.manifest.tensors):
        possible = every_kind(*entry.rows_columns, numbers, draw)
        if kind in possible:
            deltas[index] = possible[kind]
    return Adapter(base_digest=bundle.digest, version=1, deltas=deltas)


@pytest.mark.parametrize("kind", KINDS)
def test_three_ways(
    kind: str, model: torch.nn.Module, exported: Bundle, built: Path, library: Path, tmp_path: Path
) -> None:
    from export.families import torch_witness
    from export.parity import replaced

    adapter = adapter_of(exported, kind)
    blob = encode(adapter)
    python = merge(exported.manifest, exported.tensor, adapter)
    core = Core(tmp_path)
    c = core.merge(blob, {index: np.asarray(exported.tensor(index)).reshape(-1) for index in python})
    for index, weights in python.items():
        assert c[index].tobytes() == weights.tobytes(), exported.manifest.tensors[index].name

    context = (50 + 10 * np.sin(np.arange(60, dtype=np.float32) / 5)).astype(np.float32)
    (tmp_path / "series.csv").write_text("".join(f"{value:.9g}\n" for value in context))
    (tmp_path / "a.etsa").write_bytes(blob)
    binary = built / "forecast_ort" / "etsa-forecast"
    done = run(binary, "--library", library, exported.path, tmp_path / "series.csv", "--adapter", tmp_path / "a.etsa")
    assert done.returncode == 0, done.stderr
    by_c = np.array([[float(cell) for cell in line.split(",")[1:]] for line in done.stdout.splitlines()[1:]])
    forecaster = Forecaster.open(exported, blob, allow_unproven=True)
    by_python = forecaster.forecast(context).quantiles
    with replaced(model, {exported.manifest.tensors[i].name: weights for i, weights in python.items()}):
        by_torch = torch_witness("chronos-bolt", model, context[None])[0]
    base = torch_witness("chronos-bolt", model, context[None])[0]
    allowed = noise(lambda one: forecaster.forecast(one).quantiles, context)
    assert_near(by_c, by_python, allowed)
    assert (np.diff(by_torch) < 0).any()  # it crosses its levels: both runtimes put them in order
    assert_near(by_python, np.sort(by_torch), allowed)
    assert np.abs(by_torch - base).max() > 10 * allowed  # the adapter is felt at all
