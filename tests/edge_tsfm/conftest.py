"""What several packages' tests share: a ward that a dummy base forecasts badly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.data.windows import Windows
from tests.support.forecasts import ward


@pytest.fixture(scope="session")
def make_ward(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Write patients of 36 hours each: slow waves, which the dummy base takes for noise around their mean."""

    def make(patients: int) -> Path:
        draw = np.random.default_rng(5)
        rows = []
        for patient in range(patients):
            wave = np.sin(np.arange(36) / 9 + draw.uniform(0, 6.3)) * draw.uniform(5, 15) + draw.normal(0, 1, 36)
            values = (80 + wave).round(1)
            values[draw.random(36) < 0.05] = np.nan
            rows.append(pd.DataFrame({"item_id": f"p{patient:03d}", "timestamp": range(36), "HR": values}))
        path = tmp_path_factory.mktemp("ward") / "ward.csv"
        pd.concat(rows).to_csv(path, index=False)
        return path

    return make


@pytest.fixture
def windows() -> Windows:
    """A ward's windows, for evaluation and its reports."""
    return ward()
