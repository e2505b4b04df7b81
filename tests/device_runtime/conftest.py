"""The committed dummy bundle: d_model 8, a real Chronos-Bolt, small enough for git."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # adapters.py


@pytest.fixture(scope="session")
def dummy_bundle() -> Path:
    return HERE.parent / "dummy_bases" / "chronos-bolt-bundle"
