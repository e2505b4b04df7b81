"""Qualcomm's HTP by the simulator in the x86-64 package of its plugin: a static graph, whole, without the processor."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.plugins import ROOT, run_device

pytestmark = pytest.mark.slow

DUMMY = ROOT / "tests" / "dummy_bases"
# Of a Snapdragon X Elite: without one the simulator compiles for a processor with less memory, and fails.
SIMULATED = ("--provider", "qnn", "--provider-option", "soc_model=60", "--threads", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="exporting a static graph needs torch")
    if find_spec("onnxruntime_qnn") is None:
        pytest.skip("needs Qualcomm's plugin: pip install 'edge-tsfm[qnn]'")
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.models import load_base
    from export import export_base, export_static

    base, out = load_base(str(DUMMY / "chronos-bolt")), tmp_path_factory.mktemp("qnn") / "bundle"
    provenance = {"source": "test", "weights": base.digest, "licence": "Apache-2.0"}
    export_base(base.model, family=base.family, name="dummy", out=out, provenance=provenance)
    export_static(base.model, Bundle.open(out), context_length=64, batch=1)
    return out


def test_the_whole_graph_runs_there_in_float16(bundle: Path, tmp_path: Path) -> None:
    strict = run_device([sys.executable], "prove", bundle, *SIMULATED)
    assert strict.returncode == 1
    assert "that is not float32" in strict.stderr  # HTP has no float32: a person has to allow that

    proven = run_device([sys.executable], "prove", bundle, *SIMULATED, "--max-deviation", "0.02", "--json")
    assert proven.returncode == 0, proven.stderr
    proof = json.loads(proven.stdout)
    assert proof["nodes_on_cpu"] == 0
    assert proof["nodes"] > 50
    assert proof["shape"] == "64x1"
    assert proof["graphs"] == ["static"]
    assert not proof["exact"]
    assert 0 < proof["mean_deviation_ppm"] < 20_000
    assert proof["effect_kept"] > 0.9

    series = tmp_path / "series.csv"
    series.write_text("timestamp,target\n" + "\n".join(f"{step},{80 + step % 5}" for step in range(40)) + "\n")
    forecast = ["forecast", bundle, "--input", series, "--json"]
    here, there = (json.loads(run_device([sys.executable], *forecast, *more).stdout) for more in ((), SIMULATED))
    for one, other in zip(here[0]["quantiles"], there[0]["quantiles"], strict=True):
        assert other == pytest.approx(one, abs=0.2)


def test_a_bundle_without_a_static_graph_is_refused_by_the_command_that_adds_one(bundle: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in bundle.iterdir():
        if not file.name.startswith(("static", "providers")):
            shutil.copy(file, plain)
    done = run_device([sys.executable], "prove", plain, *SIMULATED)
    assert done.returncode == 1
    assert f"edge-tsfm export static {plain} --shape 64x1" in done.stderr
