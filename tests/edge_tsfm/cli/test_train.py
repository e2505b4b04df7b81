import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

from edge_tsfm.cli.train import command
from edge_tsfm.errors import ConfigError, GateRefusedError
from edge_tsfm.runs.run import load_run

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 patients whose values are slow waves."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(5)
    rows = [
        pd.DataFrame(
            {
                "item_id": f"p{patient:03d}",
                "timestamp": range(30),
                "HR": 80 + 10 * np.sin(np.arange(30) / 9 + draw.uniform(0, 6)) + draw.normal(0, 1, 30),
            }
        )
        for patient in range(300)
    ]
    path = tmp_path_factory.mktemp("ward") / "ward.csv"
    pd.concat(rows).to_csv(path, index=False)
    return path


def train(ward: Path, out: Path, *options: str) -> Result:
    fixed = ("--target", "HR", "--interval", "1h", "--base", str(DUMMY), "--context-length", "24")
    small = ("--prediction-length", "4", "--steps", "40", "--batch-size", "32", "--n-frequency", "9")
    return CliRunner().invoke(command, [str(ward), "--out", str(out), *fixed, *small, *options])


def test_an_accepted_adapter_exits_0_and_says_what_was_done(ward: Path, tmp_path: Path) -> None:
    result = train(ward, tmp_path / "run", "--method", "bitfit", "--learning-rate", "0.03")
    assert result.exit_code == 0, result.output
    assert "Accepted by the gate on validation data: WQL" in result.stdout
    assert "the gate has 35 validation patients with" in result.stderr  # said before training
    lines = [line for line in result.stderr.splitlines() if line.startswith("train bitfit: step")]
    assert lines  # no terminal here: a line at each validation, and every half minute
    assert "of at most 40" in lines[0]
    quiet = train(ward, tmp_path / "quiet", "--method", "bitfit", "--learning-rate", "0.03", "--quiet")
    assert quiet.stderr == ""
    assert "bitfit on chronos-bolt" in result.output


def test_json_is_the_record(ward: Path, tmp_path: Path) -> None:
    result = train(ward, tmp_path / "run", "--target-modules", "v, patch", "--learning-rate", "1", "--json")
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["target_modules"] == ["v", "patch"]
    assert record["parameters"] == 9 * len(record["tensors"])


def test_a_refused_adapter_is_kept_and_exits_3_unless_forced(ward: Path, tmp_path: Path) -> None:
    result = train(ward, tmp_path / "run", "--method", "norms", "--learning-rate", "1e4")
    assert isinstance(result.exception, GateRefusedError)  # the entry point turns it into exit status 3
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["gate"]["accepted"]
    assert isinstance(result.exception.hint, str)
    advice = result.exception.hint.split("\nhint: ")
    assert any("never better than the frozen base's: try a lower rate, --learning-rate 3000" in one for one in advice)
    assert advice[-1].endswith("export adapter --force would mark the blob as forced")
    assert "NOT ACCEPTED: the gate refused this run on validation data: the adapter forecasts exactly" in result.stdout
    refused = load_run(tmp_path / "run")
    with pytest.raises(GateRefusedError, match="refused this run"):  # what export does with it
        refused.require_accepted(force=False)
    refused.require_accepted(force=True)
    forced = train(ward, tmp_path / "forced", "--method", "norms", "--learning-rate", "1e4", "--force")
    assert forced.exit_code == 0
    gate = json.loads((tmp_path / "forced" / "run.json").read_text())["gate"]
    assert (gate["accepted"], gate["forced"]) == (False, True)
    load_run(tmp_path / "forced").require_accepted(force=False)


def test_the_gate_does_not_call_an_accepted_adapter_forced(ward: Path, tmp_path: Path) -> None:
    train(ward, tmp_path / "run", "--method", "bitfit", "--learning-rate", "0.03", "--force")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["gate"]["forced"] is False


def test_an_unknown_method_is_a_configuration_error(ward: Path, tmp_path: Path) -> None:
    result = train(ward, tmp_path / "run", "--method", "magic")
    assert isinstance(result.exception, ConfigError)
    assert "fourierft" in str(result.exception.hint)


def test_a_second_target_is_refused_instead_of_taking_the_last(ward: Path, tmp_path: Path) -> None:
    done = train(ward, tmp_path / "run", "--target", "HR")
    assert isinstance(done.exception, ConfigError)
    assert "one target at a time" in str(done.exception)
    assert not (tmp_path / "run").exists()
