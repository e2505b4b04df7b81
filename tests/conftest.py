"""What several test packages share."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long one example takes says how busy the machine is, not whether the code is right.
settings.register_profile("edge-tsfm", deadline=None)
settings.load_profile("edge-tsfm")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real vital signs; never committed, so a test that wants it is skipped without it."""
    folder = Path(os.environ.get("EDGE_TSFM_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "physionet2019_hospital_a.parquet").exists():
        pytest.skip("real data not found: set EDGE_TSFM_DATA to a folder with physionet2019_hospital_a.parquet")
    return folder


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of small files that once went wrong; never committed, so a test that wants it is skipped without."""
    folder = Path(os.environ.get("EDGE_TSFM_CASES", ROOT.parent / "shared" / "cases"))
    if not (folder / "data").is_dir():
        pytest.skip("case files not found: set EDGE_TSFM_CASES to their folder")
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Load a family's dummy base and write its bundle, once in a session: ``exported("chronos-t5")`` → base, bundle.

    ``added_biases=True``: with zero biases where it has none.
    """
    pytest.importorskip("torch", reason="exporting needs torch")

    @cache
    def export(family: str, *, added_biases: bool = False) -> Any:
        from device_runtime.forecast.bundle import Bundle
        from edge_tsfm.models import load_base
        from edge_tsfm.models.biases import with_added_biases
        from export import export_base

        base = load_base(str(ROOT / "tests" / "dummy_bases" / family))
        if added_biases:
            base = with_added_biases(base)
        out = tmp_path_factory.mktemp(family) / "bundle"
        provenance = {"source": "test", "weights": base.digest, "licence": "Apache-2.0"}
        export_base(base.model, family=base.family, name="dummy", out=out, provenance=provenance)
        return base, Bundle.open(out)

    return export


@pytest.fixture(scope="session")
def long_t5(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A Chronos-T5 whose caches grow twice: its bundles by precision (int8: adapted for v and norms)."""
    pytest.importorskip("torch", reason="exporting needs torch")
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.methods.sites import touched_tensors
    from edge_tsfm.models import load_base
    from export import export_base, export_precision

    base = load_base(str(ROOT / "tests" / "dummy_bases" / "chronos-t5"))
    model = base.model
    model.config.chronos_config["prediction_length"] = 40
    folder = tmp_path_factory.mktemp("long")
    provenance = {"source": "test", "weights": base.digest, "licence": "Apache-2.0"}
    export_base(model, family=base.family, name="long", out=folder / "float32", provenance=provenance)
    bundles = {"float32": Bundle.open(folder / "float32")}
    adapted = touched_tensors(model, ["*.v.weight", "norms"])
    for precision in ("int8", "float16"):
        export_precision(bundles["float32"], out=folder / precision, precision=precision, adapted=adapted, allowed=0.05)
        bundles[precision] = Bundle.open(folder / precision)
    return bundles
