import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_tsfm.errors import ModelError
from edge_tsfm.models import BUNDLED, load_base, weights_digest
from edge_tsfm.models import base as base_module

DUMMIES = Path(__file__).resolve().parents[2] / "dummy_bases"


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5", "chronos-2"])
def test_a_local_folder_is_loaded_frozen_in_float32_and_in_evaluation_mode(family: str) -> None:
    base = load_base(str(DUMMIES / family))
    assert base.family == family
    assert not base.model.training
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in base.model.parameters())


def test_the_digest_is_of_every_weight_and_of_nothing_else() -> None:
    one, other = (load_base(str(DUMMIES / "chronos-bolt")) for _ in range(2))
    assert one.digest == other.digest == weights_digest(one.model)
    with torch.no_grad():
        other.model.encoder.final_layer_norm.weight[3] += 1e-6
    assert weights_digest(other.model) != one.digest


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_bases_open_and_carry_the_pinned_digest(name: str) -> None:
    base = load_base(name)
    assert (base.name, base.source, base.licence) == (name, name, "Apache-2.0")


def test_a_damaged_bundled_base_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(DUMMIES / "chronos-bolt", tmp_path / "ours")
    (tmp_path / "digests.json").write_text(json.dumps({"ours": "0" * 64}))
    monkeypatch.setattr(base_module, "BUNDLED_FOLDER", tmp_path)
    monkeypatch.setattr(base_module, "BUNDLED", ("ours",))
    with pytest.raises(ModelError, match="SHA-256") as caught:
        load_base("ours")
    assert "install" in str(caught.value.hint)


def test_what_is_not_a_base_is_refused_with_the_bundled_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_base(str(tmp_path))
    assert "edge-bolt-micro" in str(caught.value.hint)


@pytest.mark.parametrize("source", ["edge-bolt-mikro", "./mine", "/nowhere/base", "runs/a/base"])
def test_what_cannot_be_a_hub_id_is_refused_without_asking_the_hub(source: str) -> None:
    with pytest.raises(ModelError, match="no hub id") as caught:
        load_base(source)
    assert "edge-bolt-micro" in str(caught.value.hint)


def test_without_a_network_a_hub_id_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="hub id") as caught:
        load_base("amazon/chronos-bolt-nowhere")
    assert "no network" in str(caught.value.hint)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    shutil.copytree(DUMMIES / "chronos-bolt", tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    del config["chronos_config"]
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_base(str(tmp_path / "odd"))


def test_the_dummy_bases_are_small_and_move() -> None:
    for family in ("chronos-bolt", "chronos-t5", "chronos-2"):
        assert sum(file.stat().st_size for file in (DUMMIES / family).iterdir()) < 200_000
    model = load_base(str(DUMMIES / "chronos-bolt")).model
    quantiles = model(context=torch.arange(48.0)[None]).quantile_preds[0]
    assert np.all(np.diff(quantiles.mean(-1).numpy()) > 0)


def test_what_a_bundle_says_of_a_local_base_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    bases = []
    for name in ("one", "amazon/two"):
        shutil.copytree(DUMMIES / "chronos-bolt", tmp_path / name)
        bases.append(load_base(str(tmp_path / name)))
    assert bases[0].bundle_name == bases[1].bundle_name == f"chronos-bolt-{bases[0].digest[:12]}"
    assert bases[0].provenance == bases[1].provenance
    assert str(tmp_path) not in str(bases[0].provenance)
    ours = load_base("edge-bolt-micro")
    assert ours.bundle_name == "edge-bolt-micro"
    assert ours.provenance == {"source": "edge-bolt-micro", "weights": ours.digest, "licence": "Apache-2.0"}
