"""A ward of series that a dummy base forecasts badly, and its training configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from edge_tsfm.training.config import TrainConfig

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 patients, 36 hours each: slow waves, which the dummy base takes for noise around their mean."""
    draw = np.random.default_rng(5)
    rows = []
    for patient in range(300):
        wave = np.sin(np.arange(36) / 9 + draw.uniform(0, 6.3)) * draw.uniform(5, 15) + draw.normal(0, 1, 36)
        values = (80 + wave).round(1)
        values[draw.random(36) < 0.05] = np.nan
        rows.append(pd.DataFrame({"item_id": f"p{patient:03d}", "timestamp": range(36), "HR": values}))
    path = tmp_path_factory.mktemp("ward") / "ward.csv"
    pd.concat(rows).to_csv(path, index=False)
    return path


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
