"""What monitors may learn: judged by its evidence, signed, fetched, and taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.format import canonical
from device_runtime.format.learning import FORMAT_NAME, GRADIENT, LEARNING_FILE, SHIFTED
from device_runtime.format.manifest import Manifest
from device_runtime.monitor import installer_of
from device_runtime.update import envelope_store
from device_runtime.update.adapt_settings import AdaptSettings
from device_runtime.update.agent.poll import Agent
from device_runtime.update.disk import PosixDisk
from device_runtime.update.settings import DeviceConfig
from edge_tsfm.deploy.envelope import approve_envelope, withdraw_envelope
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.sbom import sbom_of
from edge_tsfm.errors import ConfigError, DataError, DeployError, GateRefusedError
from tests.simulators.publisher import BUNDLE, NOW, make_device, make_repository
from tests.support.head import NAME

RULES = AdaptRules(mode=Mode.ACTIVE, rate=0.003).at(3_600_000, 6)
FILE = """
enabled_by = ["A. Quality"]
[rules]
mode = "active"
rate = 0.003
[plan]
changes = "biases of named tensors, within caps; nothing else"
verification = "an anytime-valid test on stays that nothing was learnt from"
impact = "a forecast that is shown beside the measured values"
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder)
    manifest = Manifest.parse((folder / "bundle.json").read_bytes())
    files = {name: {"size": 1, "sha256": "0" * 64} for name in ("learning.onnx", "shifted.onnx")}
    graphs = {GRADIENT: {"file": "learning.onnx", "tensors": [0]}, SHIFTED: {"file": "shifted.onnx", "tensors": [0]}}
    value = {
        "format": FORMAT_NAME, "format_version": 1, "base_digest": manifest.digest.hex(), "learnable": "biases",
        "names": [NAME], "context_length": manifest.context_length, "prediction_length": manifest.prediction_length,
        "quantile_levels": list(manifest.quantile_levels), "graphs": graphs, "files": files,
    }  # fmt: skip
    (folder / LEARNING_FILE).write_bytes(canonical.dumps(value))
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path)


def evidence(folder: Path, /, **changes: Any) -> dict[str, Any]:
    line = {"name": "running", "patients": 300, "windows": 9_000, "wql": 0.1, "coverage": 0.8, "width": 5.0,
            "wql_percent": {"value": -1.2, "low": -1.6, "high": -0.8}, "worse": {"2": 0.02, "10": 0.0}}  # fmt: skip
    return {
        "bundle": Manifest.parse((folder / "bundle.json").read_bytes()).digest.hex(), "adapter": None, "split": "test",
        "mode": "active", "rules": asdict(RULES), "overall": [line],
        "lengths": {"context_length": 48, "prediction_length": 6},
        "stationary": {"wards": 200, "stays": 1_000, "promoted": 4, "spread": 0.02, "limit": 0.05}, **changes,
    }  # fmt: skip


@pytest.fixture
def approve(repository: Repository, bundle: Path, tmp_path: Path) -> Callable[..., Any]:
    def run(text: str = FILE, **changes: Any) -> Any:
        (tmp_path / "envelope.toml").write_text(text)
        (tmp_path / "eval.json").write_text(json.dumps(evidence(bundle, **changes)))
        return approve_envelope(
            repository, tmp_path / "envelope.toml", ring="icu", bundle=bundle, evidence=tmp_path / "eval.json",
            who="A. Quality", why="first",
        )  # fmt: skip

    return run


def monitor(tmp_path: Path, repository: Repository, bundle: Path) -> DeviceConfig:
    config = make_device(tmp_path / "bed", repository, "bed")
    adapt = AdaptSettings(mode=Mode.ACTIVE, enabled_by="A. Quality")
    return replace(config, bundle=bundle, adapt=adapt)


def poll(config: DeviceConfig) -> Any:
    return Agent(config, installer_of(config), clock=lambda: NOW.timestamp() + 60).poll()


def test_from_evidence_to_a_monitor_and_back(
    approve: Callable[..., Any], repository: Repository, bundle: Path, tmp_path: Path
) -> None:
    permit = approve()
    assert (permit.sequence, permit.most) == (1, "active")
    record = json.loads(Path(permit.record).read_text())
    assert record["predicate"]["envelope"]["rules"]["rate"] == 0.003
    assert all(check["passed"] for check in record["predicate"]["checks"])
    assert Path(permit.record).with_suffix(".html").exists()
    config = monitor(tmp_path, repository, bundle)
    assert poll(config).envelope == ""  # not published yet
    repository.publish()
    outcome = poll(config)
    assert (outcome.action, outcome.envelope) == ("nothing", "accepted 1, active at most")
    held, problem, _ = envelope_store.read(PosixDisk(config.state), config)
    assert (held and held.tensors, problem) == ((NAME,), "")
    assert poll(config).envelope == ""  # the same
    assert approve(FILE.replace('"active"', '"shadow"'), mode="shadow").sequence == 2
    repository.publish()
    assert poll(config).envelope == "accepted 2, shadow at most"
    withdraw_envelope(repository, ring="icu", who="A. Quality", why="enough")
    repository.publish()
    assert poll(config).envelope == "withdrawn"
    assert envelope_store.read(PosixDisk(config.state), config)[0] is None
    assert approve().sequence == 3  # a number is never given twice
    assert "envelope" not in sbom_of(repository)
    with pytest.raises(DeployError, match="has no envelope"):
        withdraw_envelope(repository, ring="other", who="A", why="b")


def test_a_monitor_that_does_not_learn_asks_for_none(
    approve: Callable[..., Any], repository: Repository, bundle: Path, tmp_path: Path
) -> None:
    approve()
    repository.publish()
    config = replace(monitor(tmp_path, repository, bundle), adapt=AdaptSettings())
    assert poll(config).envelope == ""
    assert envelope_store.digest(PosixDisk(config.state)) is None


def test_an_envelope_for_another_signal_keeps_nothing_else_from_being_read(
    approve: Callable[..., Any], repository: Repository, bundle: Path, tmp_path: Path
) -> None:
    approve()
    repository.publish()
    config = replace(monitor(tmp_path, repository, bundle), signal="HR", unit="/min")
    outcome = poll(config)
    assert (outcome.action, outcome.code) == ("nothing", 0)
    assert "the envelope is for MAP every 1h, this monitor forecasts HR" in outcome.envelope


LINE = {
    "name": "running",
    "patients": 300,
    "wql_percent": {"value": -1.0, "low": -2.0, "high": -0.1},
    "worse": {"2": 0.0},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bundle": "0" * 64}, "the base that was evaluated"),
        ({"rules": {**asdict(RULES), "rate": 0.01}}, "are others: rate"),
        ({"split": "validation"}, "of the validation split"),
        ({"mode": "shadow"}, "is shadow, the envelope's is active"),
        ({"overall": []}, "has no figures"),
        ({"overall": [{**LINE, "patients": 49}]}, "49, at least 50"),
        ({"overall": [{**LINE, "wql_percent": {"value": 0, "low": -1, "high": 0.2}}]}, "upper end: 0.2, at most 0"),
        ({"overall": [{**LINE, "worse": {"2": 0.04}}]}, "worse by more than 2 %: 0.04, at most 0.03"),
        ({"overall": [{**LINE, "worse": {}}]}, "not known"),
        ({"stationary": None}, "0, at least 200"),
        ({"stationary": {"wards": 200, "promoted": 11}}, "promoted: 0.055, at most 0.05"),
    ],
)
def test_evidence_that_does_not_carry_it_is_refused_and_recorded(
    approve: Callable[..., Any], repository: Repository, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(GateRefusedError, match="is not sufficient") as refused:
        approve(**changes)
    assert said in str(refused.value)
    (path,) = (repository.folder / "records").glob("*-refused.json")
    assert json.loads(path.read_text())["predicate"]["decision"] == "refused"
    assert not [target for target in repository.approved() if "envelope" in target]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("changes", "change"), "change"),
        (FILE + "[bounds]\nworse_share = 0.5\n", "want at most"),
        (FILE + "[bounds]\nsimulated = 5\n", "want at least 200"),
        (FILE.replace("[rules]", 'tensors = ["x"]\n[rules]'), "is not moved by"),
        (FILE.replace("rate = 0.003", "rate = 3.0"), "rate 3"),
        (FILE.replace("[rules]", "[rules]\ncolour = 1"), "unknown key 'colour'"),
    ],
)
def test_a_file_that_means_nothing_is_refused(approve: Callable[..., Any], text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        approve(text)


def test_evidence_that_is_none_is_refused(approve: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="overall"):
        approve(overall="good")
    with pytest.raises(DataError, match="wards"):
        approve(stationary={"promoted": 1})


def test_shadow_wants_only_that_it_is_about_this(approve: Callable[..., Any]) -> None:
    text = FILE.replace('"active"', '"shadow"')
    assert approve(text, split="validation", mode="shadow", stationary=None, overall=[]).most == "shadow"
