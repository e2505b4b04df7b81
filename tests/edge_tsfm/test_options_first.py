"""What is wrong in the options is said before data are read or anything is forecast."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import edge_tsfm as et
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.models import load_base
from edge_tsfm.runs.prepare import _try_method
from edge_tsfm.training.config import TrainConfig

DUMMY = Path(__file__).resolve().parents[1] / "dummy_bases"


@pytest.fixture
def _unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as soon as data are read."""
    for module in ("edge_tsfm.runs.run", "edge_tsfm.data.beside"):
        monkeypatch.setattr(f"{module}.read_dataset", lambda *_, **__: pytest.fail("data were read"))


@pytest.mark.usefixtures("_unread")
@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"method": "fourieft"}, "no method 'fourieft'", "did you mean fourierft?"),
        ({"method": "bitfit+bitfit"}, r"no method 'bitfit\+bitfit'", "combine different ones"),
        ({"method": "lora", "target_modules": ("w",)}, "lora: no role 'w'", "roles: "),
        ({"method": "fourierft", "entries": "gradient", "n_frequency": 10**6}, "n_frequency", ""),
        ({"season": "1 fortnight"}, "fortnight", ""),
        ({"log_to": "tensorbord"}, "tensorbord", "did you mean tensorboard?"),
        ({"context_length": 10**6}, "reads at most 64 steps", ""),
    ],
)
def test_training(options: dict[str, Any], message: str, hint: str, tmp_path: Path) -> None:
    base = {"target": "HR", "base": str(DUMMY / "chronos-bolt"), "context_length": 24, "prediction_length": 4}
    with pytest.raises(ConfigError, match=message) as refused:
        et.train("ward.csv", out=tmp_path / "run", **{**base, **options})
    assert hint in str(refused.value.hint)


def test_a_trial_of_the_method_takes_no_random_number_from_the_run() -> None:
    config = TrainConfig(data="ward.csv", method="lora", base=str(DUMMY / "chronos-bolt"))
    base, before = load_base(config.base), torch.random.get_rng_state()
    _try_method(config, base)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all("lora" not in name for name, _ in base.model.named_parameters())


@pytest.mark.usefixtures("_unread")
def test_forecasting() -> None:
    with pytest.raises(ConfigError, match="reads at most 64 steps"):
        et.forecast(DUMMY / "chronos-bolt-bundle", "ward.csv", target="HR", context_length=65)


def test_evaluating(make_ward: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = et.train(
        make_ward(80), target="HR", method="bitfit", base=str(DUMMY / "chronos-bolt"), out=tmp_path / "run", force=True,
        interval="1h", steps=2, evaluate_every=2, prediction_length=3, context_length=16, min_observed=4,
    )  # fmt: skip
    monkeypatch.setattr("edge_tsfm.runs.evaluate._forecasts", lambda *_: pytest.fail("forecast"))
    with pytest.raises(DataError, match="no patient has an attribute 'Gendr'"):
        et.evaluate(run, subgroups=("Gendr",))
