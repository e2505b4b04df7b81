"""``evaluate --bundle``: what the device forecasts, scored beside torch's forecasts."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result

from device_runtime.errors import SettingsError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.adapter import Calibration
from device_runtime.format.delta import Numbers
from device_runtime.format.manifest import MANIFEST_FILE
from edge_tsfm.cli.evaluate import command
from edge_tsfm.cli.export_adapter import export_adapter_command
from edge_tsfm.data.simulate import encode_table, simulate_ward
from edge_tsfm.errors import ConfigError, ModelError
from edge_tsfm.models import load_base
from edge_tsfm.runs.on_device import device_quantiles
from edge_tsfm.runs.run import load_run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from export import export_base, with_calibration

# Enough to leave the base behind: a blob that changes nothing is refused.
TRAINED = {
    "chronos-bolt": {"method": "fourierft", "n_frequency": 16, "learning_rate": 0.1, "steps": 60, "batch_size": 64},
    "chronos-t5": {"method": "norms", "learning_rate": 0.1, "steps": 10, "batch_size": 16, "warmup_steps": 1},
}
BASES = Path(__file__).resolve().parents[2] / "dummy_bases"


class Exported(NamedTuple):
    run: Path
    other: Path  # a run of the same base, data and method with another seed
    bundle: Path
    blob: Path
    others_blob: Path


@pytest.fixture(scope="module", params=list(TRAINED))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp(request.param)
    frame = simulate_ward(
        patients=100, hours=48, site="B", seed=0, interval="1h", signals=["MAP"], on_patient=lambda: None
    )
    data = folder / "ward.csv"
    data.write_bytes(encode_table(frame, data))
    base = load_base(str(BASES / request.param))
    bundle = folder / "bundle"
    export_base(
        base.model, family=base.family, name=base.name, out=bundle, provenance={"weights": base.digest, "source": "-"}
    )
    for seed, name in enumerate(("run", "other")):
        config = TrainConfig(
            data=str(data), target="MAP", base=str(BASES / request.param), context_length=24, prediction_length=4,
            evaluate_every=10, seed=seed, **TRAINED[request.param],
        )  # fmt: skip
        train(config, folder / name, force=True)
        arguments = [folder / name, "--bundle", bundle, "--out", folder / f"{name}.etsa", "--force"]
        result = CliRunner().invoke(export_adapter_command, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
    return Exported(folder / "run", folder / "other", bundle, folder / "run.etsa", folder / "other.etsa")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--resamples", "100"])


def test_the_devices_forecasts_score_as_torchs(exported: Exported) -> None:
    result = invoke(exported.run, "--bundle", exported.bundle, "--adapter", exported.blob, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    models = record["models"]
    for here, there in (("adapter", "device"), ("base", "device_base")):
        for metric in ("mse", "wql"):
            # The blob's numbers are rounded to int16, and a sampled token may fall on the other side of an edge.
            assert models[there][metric]["value"] == pytest.approx(models[here][metric]["value"], rel=5e-3)
    effect = models["adapter"]["wql"]["value"] - models["base"]["wql"]["value"]
    gap = models["adapter"]["wql"]["value"] - models["device"]["wql"]["value"]
    assert abs(gap) < 0.2 * abs(effect)
    assert record["adapter_minus_device"]["wql"]["value"] == pytest.approx(gap)
    assert set(record["adapter_minus_baselines"]) <= {
        "persistence", "window_mean", "linear_trend", "exponential_smoothing"
    }  # fmt: skip
    text = invoke(exported.run, "--bundle", exported.bundle, "--adapter", exported.blob).stdout
    assert "on the device" in text
    assert "best simple baseline, on the device" not in text


def test_a_calibrated_blob_is_scored_as_it_forecasts_and_named(exported: Exported, tmp_path: Path) -> None:
    run, bundle = load_run(exported.run), Bundle.open(exported.bundle)
    levels = len(run.quantile_levels())
    offsets = np.linspace(-0.5, 0.5, levels)[:, None] * np.ones((1, run.config.prediction_length))
    calibration = Calibration(offsets=Numbers.of(offsets, "int16"))
    blob = tmp_path / "calibrated.etsa"
    blob.write_bytes(with_calibration(bundle, exported.blob.read_bytes(), calibration))
    result = invoke(exported.run, "--bundle", exported.bundle, "--adapter", blob, "--json")
    record = json.loads(result.stdout)
    assert record["device"]["adapter"] == hashlib.sha256(blob.read_bytes()).hexdigest()
    assert record["device"]["bundle"] == bundle.digest.hex()
    assert record["device"]["calibrated"]
    assert "--calibrate" in record["notes"][-1]
    windows = run.windows("test")
    quantiles = device_quantiles(Forecaster.open(bundle, blob), windows.context, run.config.prediction_length)
    seen = ~np.isnan(windows.target)
    inside = (quantiles[..., 0] <= windows.target) & (windows.target <= quantiles[..., -1])
    assert record["models"]["device"]["coverage"]["value"] == pytest.approx(inside[seen].mean())
    assert record["models"]["device"]["width"]["value"] > 1.5 * record["models"]["adapter"]["width"]["value"]


def test_bundle_and_adapter_go_together(exported: Exported) -> None:
    for one in (["--bundle", exported.bundle], ["--adapter", exported.blob]):
        result = invoke(exported.run, *one)
        assert result.exit_code == 2
        assert "go together" in result.output


def test_a_provider_is_for_the_bundle_and_must_be_proven(exported: Exported) -> None:
    alone = invoke(exported.run, "--provider", "openvino")
    assert alone.exit_code == 2
    assert "--provider is for --bundle" in alone.output
    place = ("--provider", "CPUExecutionProvider:cpu", "--cpu-fallback")
    result = invoke(exported.run, "--bundle", exported.bundle, "--adapter", exported.blob, *place)
    assert isinstance(result.exception, SettingsError)
    assert "nobody has proven" in str(result.exception)


def test_another_runs_blob_is_refused(exported: Exported) -> None:
    result = invoke(exported.run, "--bundle", exported.bundle, "--adapter", exported.others_blob)
    assert isinstance(result.exception, ConfigError)
    assert "was exported from run" in str(result.exception)


def test_another_bases_bundle_is_refused(exported: Exported, tmp_path: Path) -> None:
    other = shutil.copytree(exported.bundle, tmp_path / "bundle")
    manifest = other / MANIFEST_FILE
    weights = json.loads(manifest.read_text())["base"]["weights"]
    manifest.write_text(manifest.read_text().replace(weights, "0" * 64))
    result = invoke(exported.run, "--bundle", other, "--adapter", exported.blob)
    assert isinstance(result.exception, ModelError)
    assert "is of weights 0000" in str(result.exception)
