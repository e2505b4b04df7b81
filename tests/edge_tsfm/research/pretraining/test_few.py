"""Continued pre-training: a few parameters learn, the base itself does not move, and the result is the merged base."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge_tsfm.errors import ConfigError
from edge_tsfm.models import load_base
from edge_tsfm.models.artefact import save_base
from edge_tsfm.research.pretraining.build import build_model
from edge_tsfm.research.pretraining.config import PretrainConfig
from edge_tsfm.research.pretraining.few import Continued
from edge_tsfm.research.pretraining.run import pretrain

Tiny = Callable[..., PretrainConfig]


@pytest.fixture
def base(tiny: Tiny, tmp_path: Path) -> str:
    save_base(build_model(tiny()), tmp_path / "base")
    return str(tmp_path / "base")


@pytest.mark.parametrize("method", ["bitfit", "norms"])
def test_a_method_moves_only_its_own_numbers(tiny: Tiny, tmp_path: Path, base: str, method: str) -> None:
    outcome = pretrain(tiny(), tmp_path / "run", continued=Continued(base=base, method=method), device="cpu")
    before = dict(load_base(base).model.named_parameters())
    after = dict(load_base(str(tmp_path / "run" / "base")).model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    own = {name for name in before if name.endswith("bias") or "relative_attention" in name}
    assert moved <= own if method == "bitfit" else all("layer_norm" in name for name in moved)
    assert 0 < outcome.trainable < sum(p.numel() for p in before.values())


def test_everything_continues_without_a_method(tiny: Tiny, tmp_path: Path, base: str) -> None:
    outcome = pretrain(tiny(), tmp_path / "run", continued=Continued(base=base), device="cpu")
    assert outcome.trainable == sum(p.numel() for p in load_base(base).model.parameters())


def test_a_base_of_another_family_is_refused(tiny: Tiny, tmp_path: Path, base: str) -> None:
    other = replace(tiny(), family="chronos-t5")
    with pytest.raises(ConfigError, match="the configuration is for chronos-t5"):
        pretrain(other, tmp_path / "run", continued=Continued(base=base), device="cpu")
