"""The dummy Chronos-Bolt, its float32 bundle, and a finished run on it."""

from pathlib import Path

import pytest

from device_runtime.bundle import Bundle
from edge_tsfm.models import Base, load_base
from export import export_base

DUMMY = Path(__file__).resolve().parents[1] / "dummy_bases" / "chronos-bolt"


@pytest.fixture(scope="session")
def dummy() -> Base:
    return load_base(str(DUMMY))


@pytest.fixture(scope="session")
def float32_bundle(dummy: Base, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("float32") / "bundle"
    provenance = {"source": "test", "weights": dummy.digest, "licence": dummy.licence}
    export_base(dummy.model, family=dummy.family, name="dummy", out=out, provenance=provenance)
    return Bundle.open(out)
