"""Dummy bases of each family, and windows with gaps."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_tsfm.models import FAMILIES, Base, Family, load_base

DUMMIES = Path(__file__).resolve().parents[2] / "dummy_bases"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=list(FAMILIES))
def loaded(request: pytest.FixtureRequest) -> Base:
    return load_base(str(DUMMIES / request.param))


@pytest.fixture
def family(loaded: Base) -> Family:
    return FAMILIES[loaded.family]


@pytest.fixture
def model(loaded: Base) -> Any:
    return copy.deepcopy(loaded.model)


@pytest.fixture(scope="session")
def windows() -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts [8, 48] and targets [8, 6] with missing values."""
    generator = torch.Generator().manual_seed(3)
    series = 80 + torch.randn(8, 54, generator=generator).cumsum(-1)
    series[torch.rand(series.shape, generator=generator) < 0.1] = float("nan")
    series[0, :30] = float("nan")
    return series[:, :48].clone(), series[:, 48:].clone()


@pytest.fixture
def tune(family: Family, windows: tuple[torch.Tensor, torch.Tensor]) -> Callable[..., None]:
    """A few steps of training on those windows."""

    def train(model: Any, *, steps: int = 5, learning_rate: float = 3e-2) -> None:
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], learning_rate)
        for _ in range(steps):
            optimiser.zero_grad()
            family.loss(model, *windows).backward()
            optimiser.step()

    return train
