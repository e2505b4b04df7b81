"""A small ward and a study of it on the dummy base."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.study.config import StudyConfig, load_study
from edge_tsfm.study.study import run_study

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"
STUDY = """
targets = ["HR"]
bases = ["{base}"]
seeds = [0, 1]
interval = "1h"
methods = ["bitfit", {{ method = "full" }}]

[train]
context_length = 24
prediction_length = 4
steps = 20
batch_size = 32
evaluate_every = 10
warmup_steps = 3

[search]
factors = [1.0, 3.0]
steps = 10
batch_size = 16

[device]
bundle = false
"""


@pytest.fixture(scope="session")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 patients of 36 hours: slow waves, which the dummy base takes for noise around their mean."""
    draw = np.random.default_rng(5)
    rows = []
    for patient in range(200):
        wave = np.sin(np.arange(36) / 9 + draw.uniform(0, 6.3)) * draw.uniform(5, 15) + draw.normal(0, 1, 36)
        values = (80 + wave).round(1)
        values[draw.random(36) < 0.05] = np.nan
        rows.append(pd.DataFrame({"item_id": f"p{patient:03d}", "timestamp": range(36), "HR": values}))
    path = tmp_path_factory.mktemp("ward") / "ward.csv"
    pd.concat(rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def study(ward: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(STUDY.format(base=DUMMY))
    return load_study(path, str(ward))


@pytest.fixture(scope="session")
def finished(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study; not to be changed."""
    out = tmp_path_factory.mktemp("finished")
    run_study(study, out)
    return out
