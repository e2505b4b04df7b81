"""A small ward and a study of it on the dummy base."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_tsfm.research.study.config import StudyConfig, load_study
from edge_tsfm.research.study.study import run_study

DUMMY = Path(__file__).resolve().parents[3] / "dummy_bases" / "chronos-bolt"
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


BY_TIME = """
targets = ["load"]
bases = ["{base}"]
seeds = [0]
methods = ["bitfit"]

[train]
split_by = "time"
block_length = 8
season = "1d"
context_length = 24
prediction_length = 4
steps = 4
batch_size = 8
evaluate_every = 2
warmup_steps = 1

[device]
bundle = false
"""


@pytest.fixture(scope="session")
def ward(make_ward: Callable[[int], Path]) -> Path:
    """200 patients of 36 hours."""
    return make_ward(200)


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
