"""The committed dummy bundle: d_model 8, a real Chronos-Bolt, small enough for git."""

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def dummy_bundle() -> Path:
    return HERE.parent / "dummy_bases" / "chronos-bolt-bundle"
