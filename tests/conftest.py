"""What several test packages share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real vital signs; never committed, so a test that wants it is skipped without it."""
    folder = Path(os.environ.get("EDGE_TSFM_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "physionet2019_hospital_a.parquet").exists():
        pytest.skip("real data not found: set EDGE_TSFM_DATA to a folder with physionet2019_hospital_a.parquet")
    return folder
