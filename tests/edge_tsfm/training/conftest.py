"""A ward of series that a dummy base forecasts badly, and its training configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_tsfm.training.config import TrainConfig

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ward(make_ward: Callable[[int], Path]) -> Path:
    """300 patients of 36 hours."""
    return make_ward(300)


@pytest.fixture
def config(ward: Path) -> Callable[..., TrainConfig]:
    def make(**changes: Any) -> TrainConfig:
        small: dict[str, Any] = {
            "data": str(ward),
            "target": "HR",
            "interval": "1h",
            "base": str(DUMMY),
            "method": "bitfit",
            "context_length": 24,
            "prediction_length": 4,
            "steps": 30,
            "batch_size": 32,
            "evaluate_every": 10,
            "warmup_steps": 3,
            "learning_rate": 0.03,
            "n_frequency": 10,
        }
        return TrainConfig(**small | changes)

    return make
