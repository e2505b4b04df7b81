"""Runs on the hub, a stub of its API on 127.0.0.1: pushed, opened by PEFT, forecast with by the repository's name."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import AutoPeftModel

import edge_tsfm as et
from device_runtime.forecast.bundle import Bundle, read_manifest
from device_runtime.format.manifest import MANIFEST_FILE
from device_runtime.format.static import STATIC_FILE
from edge_tsfm.errors import ConfigError
from edge_tsfm.models import load_base
from edge_tsfm.runs.card import MODULES, peft_card
from edge_tsfm.runs.hub import is_repository
from edge_tsfm.runs.hub import push as share
from edge_tsfm.runs.run import Run
from export.static import export_static
from tests.support.hub import TOKEN, Hub, hub

BOLT = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"
REPO = "my-hospital/hr-icu"
FORECAST = """
import json, sys, edge_tsfm as et
frame = et.forecast(sys.argv[1], sys.argv[2], target="HR", interval="1h")
print(json.dumps({"median": frame["predictions"].tolist(), **{k: frame.attrs[k] for k in ("base", "adapter")}}))
"""


@pytest.fixture(scope="module")
def ward(make_ward: Callable[[int], Path]) -> Path:
    return make_ward(80)


@pytest.fixture(scope="module")
def run(ward: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return et.train(
        ward, target="HR", method="bitfit", base=str(BOLT), out=tmp_path_factory.mktemp("hub") / "run", force=True,
        interval="1h", steps=60, evaluate_every=20, prediction_length=3, context_length=16, min_observed=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def device(run: Run, ward: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of the run's base, and its blob."""
    folder = tmp_path_factory.mktemp("device")
    bundle = et.export_base(BOLT, out=folder / "bundle")
    et.export_adapter(run, bundle, data=ward, out=folder / "hr.etsa", force=True)
    return bundle, folder / "hr.etsa"


@pytest.fixture
def served() -> Iterator[Hub]:
    with hub() as state:
        yield state


def asked(served: Hub, tmp_path: Path, words: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a hub of its own; the hub's client reads its settings when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": served.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0", **changes,
    }  # fmt: skip
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)


def push(served: Hub, tmp_path: Path, run: Run, *words: object, **changes: str) -> subprocess.CompletedProcess[str]:
    said = ["-m", "edge_tsfm.cli", "push", str(run.path), "--repo", REPO, "--force", *map(str, words)]
    return asked(served, tmp_path, said, **changes)


def paths_of(machine: Run) -> tuple[bytes, ...]:
    """What no shared file may name: where the run, its data and its base lie."""
    return tuple(str(path).encode() for path in (machine.path.parent, Path(machine.config.data).parent, BOLT.parent))


def test_a_pushed_run_is_what_peft_opens_and_names_no_path(served: Hub, tmp_path: Path, run: Run) -> None:
    done = push(served, tmp_path, run, "--json")
    assert done.returncode == 0, done.stderr
    files = served.files[REPO]
    assert json.loads(done.stdout) == {"repo": REPO, "files": sorted(files)}
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "run.json"}
    assert served.private == {REPO: True}
    assert served.messages == ["HR: bitfit on chronos-bolt"]
    assert served.by_lfs == ["adapter_model.safetensors"]
    assert files["adapter_model.safetensors"] == (run.path / "peft" / "adapter_model.safetensors").read_bytes()
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "chronos-bolt"
    assert json.loads(files["run.json"])["gate"] == run.record["gate"]
    for path in paths_of(run):
        assert not [name for name, data in files.items() if path in data]
    assert push(served, tmp_path, run, "--public").returncode == 0  # again: the repository is there
    assert served.private == {REPO: True}  # who may see it is not changed by the way


def test_nothing_is_uploaded_to_a_public_repository_unless_it_is_meant(served: Hub, tmp_path: Path, run: Run) -> None:
    assert push(served, tmp_path, run, "--public").returncode == 0
    assert served.private == {REPO: False}
    before, said = dict(served.files[REPO]), len(served.messages)
    done = push(served, tmp_path, run)
    assert done.returncode == 1
    assert f"{REPO} is public: everybody could see this run; nothing was uploaded" in done.stderr
    assert "hint: --public uploads it all the same" in done.stderr
    assert (served.files[REPO], len(served.messages)) == (before, said)
    assert push(served, tmp_path, run, "--public").returncode == 0
    assert len(served.messages) == said + 1


def test_a_repository_forecasts_by_its_name(
    served: Hub, tmp_path: Path, run: Run, ward: Path, device: tuple[Path, Path]
) -> None:
    bundle, blob = device
    done = push(served, tmp_path, run, "--bundle", bundle, "--adapter", blob)
    assert done.returncode == 0, done.stderr
    assert "bundle/bundle.json" in done.stdout
    assert served.files[REPO]["adapter.etsa"] == blob.read_bytes()
    card = served.files[REPO]["README.md"].decode()
    assert f'et.forecast("{REPO}", frame, target="HR")' in card
    here = et.forecast(bundle, ward, target="HR", interval="1h", adapter=blob)
    first = asked(served, tmp_path, ["-c", FORECAST, REPO, str(ward)])
    assert first.returncode == 0, first.stderr
    there = json.loads(first.stdout)
    assert (there["base"], there["adapter"]) == (here.attrs["base"], here.attrs["adapter"])
    np.testing.assert_array_equal(np.float32(there["median"]), here["predictions"].to_numpy())
    fetched = {one.split("/", 5)[5] for one in served.requests if one.startswith(f"GET /{REPO}/resolve/")}
    assert fetched == {name for name in served.files[REPO] if name.startswith("bundle/") or name == "adapter.etsa"}
    again = asked(served, tmp_path, ["-c", FORECAST, REPO, str(ward)], HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout, again.stderr
    command = ["-m", "edge_tsfm.cli", "forecast", REPO, str(ward), "--target", "HR", "--interval", "1h", "--json"]
    by_command = asked(served, tmp_path, command, HF_HUB_OFFLINE="1")
    assert by_command.returncode == 0, by_command.stderr
    record = json.loads(by_command.stdout)
    assert (record["base"], record["adapter"]) == (there["base"], there["adapter"])
    np.testing.assert_array_equal(np.float32([row["0.5"] for row in record["forecasts"]]), np.float32(there["median"]))


def test_only_what_the_manifest_pins_is_shared_and_nothing_of_an_earlier_run_stays(
    served: Hub, tmp_path: Path, run: Run, device: tuple[Path, Path]
) -> None:
    bundle, blob = tmp_path / "bundle", device[1]
    shutil.copytree(device[0], bundle)
    export_static(load_base(str(BOLT)).model, Bundle.open(bundle), context_length=64, batch=1)
    (bundle / "notes.csv").write_text("bed 7, MAP 61\n")
    done = push(served, tmp_path, run, "--bundle", bundle, "--adapter", blob)
    assert done.returncode == 0, done.stderr
    shared = {name.removeprefix("bundle/") for name in served.files[REPO] if name.startswith("bundle/")}
    assert shared == {MANIFEST_FILE, *read_manifest(bundle).files, STATIC_FILE, "static.onnx"}
    done = push(served, tmp_path, run)
    assert done.returncode == 0, done.stderr
    assert set(served.files[REPO]) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "run.json"}


@pytest.mark.slow
def test_what_the_hub_refuses_is_told_with_what_to_do(served: Hub, tmp_path: Path, run: Run, ward: Path) -> None:
    wrong = push(served, tmp_path, run, HF_TOKEN="hf_wrong")  # noqa: S106 - opens nothing
    gone = push(served, tmp_path, run, HF_ENDPOINT="http://127.0.0.1:9")
    for done, hint in ((wrong, "hf auth login"), (gone, "check the network")):
        assert done.returncode == 1
        assert done.stderr.startswith(f"edge-tsfm: error: {REPO}: "), done.stderr
        assert f"hint: {hint}" in done.stderr
    assert "the hub at 127.0.0.1:9 cannot be reached: Connection refused" in gone.stderr
    assert "Max retries" not in gone.stderr
    none = asked(served, tmp_path, ["-c", FORECAST, "nobody/nothing", str(ward)])
    assert "HubError: nobody/nothing: " in none.stderr
    offline = asked(served, tmp_path, ["-c", FORECAST, "nobody/nothing", str(ward)], HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set, and the hub's cache here does not hold it" in offline.stderr
    assert push(served, tmp_path, run).returncode == 0
    bare = asked(served, tmp_path, ["-c", FORECAST, REPO, str(ward)])
    assert f"HubError: {REPO} holds no bundle/bundle.json and adapter.etsa" in bare.stderr


def test_what_cannot_be_shared_is_refused_before_anything_is_sent(
    tmp_path: Path, run: Run, device: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ConfigError, match="want OWNER/NAME"):
        share(run, "hr")
    for one in ({"bundle": device[0]}, {"adapter": device[1]}):
        with pytest.raises(ConfigError, match="a bundle and a blob go together"):
            share(run, REPO, **one)
    with pytest.raises(ConfigError, match="has no PEFT checkpoint"):
        share(Run(path=tmp_path, record=run.record), REPO)


def test_peft_opens_the_run_as_its_card_says(run: Run) -> None:
    card = (run.path / "peft" / "README.md").read_text()
    assert 'PeftModel.from_pretrained(base.model, "RUN/peft")' in card
    contexts = torch.from_numpy(run.held_out_contexts(limit=8))
    opened = AutoPeftModel.from_pretrained(str(run.path / "peft"), import_allowlist=["chronos.chronos_bolt"])
    tuned, frozen = run.tuned_model(), run.frozen_model()
    with torch.no_grad():
        got, wanted, before = (model(context=contexts).quantile_preds for model in (opened, tuned, frozen))
    scale = float(wanted.abs().max())
    assert float((got - wanted).abs().max()) < 1e-4 * scale  # factors and sums of float32
    assert float((before - wanted).abs().max()) > 1e-3 * scale  # it is the adapted model, not the base


def test_a_base_of_the_hub_is_named_and_opened_by_peft_alone(run: Run) -> None:
    base = {**run.record["base"], "source": "amazon/chronos-bolt-tiny", "licence": "Apache-2.0"}
    card = peft_card({**run.record, "base": base}, place=REPO)
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "amazon/chronos-bolt-tiny"
    assert front["license"] == "apache-2.0"
    assert f'AutoPeftModel.from_pretrained("{REPO}", import_allowlist=["chronos.chronos_bolt"])' in card


@pytest.mark.parametrize("name", ["chronos-bolt", "chronos-t5", "chronos-2"])
def test_the_card_allows_peft_the_module_that_it_imports(name: str) -> None:
    base = load_base(str(BOLT.parent / name))
    module = type(base.model).__module__
    assert MODULES.get(base.family, module) == module
    assert base.family in MODULES or module.startswith("transformers.")


def test_the_card_is_filled_in(run: Run) -> None:
    card = (run.path / "peft" / "README.md").read_text()
    front: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "peft"
    assert front["license"] == "other"  # of a folder nobody knows
    assert "base_model" not in front
    for heading in ("Evidence", "Data", "Intended use", "Limits", "Licence", "How to load it"):
        assert f"\n## {heading}\n\n" in card
    gate = run.gate
    shares = (gate["difference"], *gate["interval"])
    for figure in (f"{gate['base']:.5f}", f"{gate['adapter']:.5f}", *(f"{one:+.1%}" for one in shares)):
        assert figure in card
    assert run.record["data"]["fingerprint"] in card
    for path in paths_of(run):
        assert path not in card.encode()


def test_every_file_of_a_run_is_for_the_same_readers(run: Run) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.path.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o644}, modes


def test_a_folder_here_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-hospital" / "hr-icu").mkdir(parents=True)
    assert not is_repository(REPO)
    assert is_repository("my-hospital/map-icu")
    assert not is_repository(Path("my-hospital/map-icu"))
    assert not is_repository("bundle")
