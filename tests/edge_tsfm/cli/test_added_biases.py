"""Added biases through the commands: train, export base, export adapter, forecast; and what is refused on the way."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from peft import PeftModel

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.blob import decode
from edge_tsfm.cli.export import command as export
from edge_tsfm.cli.train import command as train
from edge_tsfm.errors import ConfigError, ModelError
from edge_tsfm.models import load_base
from export.errors import ExportError

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-t5"


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def trained(make_ward: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("added") / "run"
    common = ("--target", "HR", "--interval", "1h", "--base", DUMMY, "--context-length", 24, "--prediction-length", 4)
    small = ("--steps", 30, "--batch-size", 32, "--learning-rate", 0.1, "--force", "--json")
    result = run(
        train, make_ward(300), "--out", out, "--method", "bitfit", "--biases", "added", "--target-modules", "v,ffn",
        *common, *small,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("added") / "bundle"
    result = run(export, "base", "--base", DUMMY, "--added-biases", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parity"]["redrawn"] < 1e-5
    return out


def test_the_roles_decide_which_layers_get_one(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    names = record["tensors"]
    assert sum(name.endswith("relative_attention_bias.weight") for name in names) == 2
    roles = {name.split(".")[-2] for name in names if name.endswith(".bias")}
    assert roles == {"v", "wi", "wo"}
    own = dict(load_base(str(DUMMY)).model.named_parameters())
    assert not [name for name in names if name.endswith(".bias") and name in own]


def test_an_adapter_goes_from_training_to_the_device(trained: Path, bundle: Path, tmp_path: Path) -> None:
    blob = tmp_path / "a.etsa"
    result = run(export, "adapter", trained, "--bundle", bundle, "--out", blob, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parity"] < 1e-4
    opened = Bundle.open(bundle)
    names = {opened.manifest.tensors[index].name for index in decode(blob.read_bytes()).deltas}
    assert names == set(json.loads((trained / "run.json").read_text())["tensors"])
    context = [80.0 + i % 7 for i in range(20)]
    base, adapted = (Forecaster.open(opened, one).forecast(context, 4).quantiles for one in (None, blob))
    assert abs(adapted - base).max() > 0


def test_a_bundle_without_them_is_refused_with_a_hint(trained: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    assert run(export, "base", "--base", DUMMY, "--out", plain).exit_code == 0
    result = run(export, "adapter", trained, "--bundle", plain, "--out", tmp_path / "a.etsa")
    assert isinstance(result.exception, ExportError)
    assert "--added-biases" in str(result.exception.hint)
    assert not (tmp_path / "a.etsa").exists()


def test_peft_opens_the_run_and_refuses_to_merge_it(trained: Path) -> None:
    opened = PeftModel.from_pretrained(load_base(str(DUMMY)).model, str(trained / "peft"))
    with pytest.raises(RuntimeError, match="base layer has no bias"):
        opened.merge_and_unload()


def test_optimum_and_other_methods_have_no_use_for_them(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(export, "base", "--layout", "optimum", "--added-biases", "--out", out).exit_code == 2
    result = run(train, "x.csv", "--out", out, "--method", "norms", "--biases", "added")
    assert isinstance(result.exception, ConfigError)
    int8 = ("--precision", "int8", "--keep", "bitfit", "--run", trained)
    result = run(export, "base", "--base", DUMMY, *int8, "--out", out)
    assert isinstance(result.exception, ModelError)
    assert result.exception.hint == "--added-biases"
