"""int8 and float16 of the bundled base, through the command, and a run's adapter on it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from edge_tsfm.cli.export import command
from edge_tsfm.data.simulate import encode_table, simulate_ward
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from export import ExportError

pytestmark = pytest.mark.slow


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, redraw: Callable[..., None]) -> Path:
    """A run on the bundled base, its numbers drawn: two steps of training have none that matter."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "ward.csv"
    frame = simulate_ward(
        patients=60, hours=60, site="A", seed=1, interval="1h", signals=["MAP"], on_patient=lambda: None
    )
    data.write_bytes(encode_table(frame, data))
    config = TrainConfig(data=str(data), target="MAP", steps=2, batch_size=8, evaluate_every=1, warmup_steps=1)
    train(config, folder / "run", force=True)
    redraw(folder / "run", torch.randn_like)
    return folder / "run"


@pytest.mark.parametrize(
    ("precision", "size", "deviation"),
    [("int8", 0.55, 0.005), ("int8-merged", 0.47, 0.01), ("fp16", 0.70, 1e-6)],
    ids=["int8", "int8-merged", "fp16"],
)
def test_the_bundled_base_shrinks_and_an_adapter_survives(
    run: Path, tmp_path: Path, precision: str, size: float, deviation: float
) -> None:
    written = invoke("base", "--out", tmp_path / "b", "--precision", precision, "--run", run, "--json")
    assert written.exit_code == 0, written.output
    record = json.loads(written.stdout)
    assert record["bytes"] < size * record["float32_bytes"]
    assert 0 < record["data"]["mean"] < deviation
    assert record["synthetic"]["mean"] < deviation
    assert record["effect_kept"] > 0.98
    assert record["digest"] == Bundle.open(tmp_path / "b").digest.hex()
    exported = invoke("adapter", run, "--bundle", tmp_path / "b", "--out", tmp_path / "a.etsa", "--json")
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.stdout)["effect_kept"] > 0.98
    forecast = Forecaster.open(tmp_path / "b", tmp_path / "a.etsa").forecast([80.0 + i % 5 for i in range(48)], 6)
    assert forecast.quantiles.shape == (6, 9)


def test_the_command_refuses_before_and_after(run: Path, tmp_path: Path) -> None:
    idle = invoke("base", "--out", tmp_path / "b", "--keep", "bitfit")
    assert idle.exit_code == 2
    assert "--keep is for --precision int8, int8-merged or float16" in idle.output
    strict = invoke("base", "--out", tmp_path / "b", "--precision", "int8", "--max-deviation", 0.0005)
    assert isinstance(strict.exception, ExportError)
    assert "allowed 0.0005" in str(strict.exception)
    other = invoke("base", "--out", tmp_path / "b", "--precision", "int8", "--keep", "norms", "--run", run)
    assert isinstance(other.exception, ExportError)
    assert "which would be int8" in str(other.exception)
    assert not (tmp_path / "b").exists()
