"""OpenVINO's plugin, from its package on PyPI: the device's own commands, on an Intel processor or an emulated one.

``make openvino`` installs it and runs this file; elsewhere the tests say why they are skipped.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.plugins import CPUINFO, ROOT, openvino_python, run_device

pytestmark = pytest.mark.slow

DUMMY = ROOT / "tests" / "dummy_bases"
BLOB = DUMMY / "chronos-bolt.etsa"
BFLOAT16 = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}})


@pytest.fixture(scope="module")
def python() -> list[str]:
    return openvino_python()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(DUMMY / "chronos-bolt-bundle", tmp_path_factory.mktemp("openvino") / "bundle")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    path.write_text("timestamp,target\n" + "\n".join(f"{step},{80 + step % 5}" for step in range(40)) + "\n")
    return path


def test_it_is_listed_refused_until_proven_and_then_forecasts_as_the_processor(
    python: list[str], bundle: Path, series: Path
) -> None:
    before = run_device(python, "providers", bundle, "--json")
    assert before.returncode == 0, before.stderr
    state = {one["provider"]: one["proof"] for one in json.loads(before.stdout)}
    assert state["openvino:cpu"] == "not proven"

    forecast = ["forecast", bundle, "--adapter", BLOB, "--input", series, "--json"]
    refused = run_device(python, *forecast, "--provider", "openvino")
    assert refused.returncode == 1
    assert "nobody has proven this base on openvino with" in refused.stderr
    assert "so it is not loaded" in refused.stderr  # its code would run
    assert f"edge-tsfm-device prove {bundle} --provider openvino" in refused.stderr

    proven = run_device(
        python, "prove", bundle, "--adapter", BLOB, "--provider", "openvino", "--threads", "1", "--json"
    )
    assert proven.returncode == 0, proven.stderr
    proof = json.loads(proven.stdout)
    assert proof["exact"]
    assert proof["tolerance_ppm"] == 0
    assert proof["nodes_on_cpu"] == 0
    assert proof["tensors"] == 53
    assert proof["weakest_margin"] >= 1
    assert proof["effect_kept"] > 0.9999
    assert '"openvino:cpu"' in (bundle / "providers.json").read_text()

    here, there = (json.loads(run_device(python, *forecast, *more).stdout) for more in ((), ("--provider", "openvino")))
    for one, other in zip(here[0]["quantiles"], there[0]["quantiles"], strict=True):
        assert other == pytest.approx(one, abs=1e-3)
    tested = run_device(python, "selftest", bundle, "--adapter", BLOB, "--provider", "openvino", "--json")
    assert tested.returncode == 0, tested.stderr
    answer = json.loads(tested.stdout)["known_answer"]
    assert answer["off_by"] <= answer["allowed"]

    timed = run_device(
        python,
        "bench",
        bundle,
        "--provider",
        "cpu",
        "--provider",
        "openvino",
        "--runs",
        "3",
        "--threads",
        "1",
        "--json",
    )
    assert timed.returncode == 0, timed.stderr
    assert list(json.loads(timed.stdout)["providers"]) == ["cpu", "openvino"]

    other = run_device(python, *forecast, "--provider", "openvino", "--provider-option", "num_streams=1")
    assert other.returncode == 1  # other options, which nobody has measured
    assert "nobody has proven" in other.stderr


def test_in_bfloat16_it_is_not_proven(python: list[str], tmp_path: Path) -> None:
    if not {"avx512_bf16", "amx_bf16"} & set(CPUINFO.read_text().split()):
        pytest.skip("this processor has no bfloat16, so OpenVINO computes in float32 whatever it is told")
    if len(python) > 1:
        pytest.skip("qemu-user emulates no bfloat16")
    copy = shutil.copytree(DUMMY / "chronos-bolt-bundle", tmp_path / "bundle")
    done = run_device(python, "prove", copy, "--provider", "openvino", "--provider-option", f"load_config={BFLOAT16}")
    assert done.returncode == 1
    assert "that is not float32" in done.stderr
    assert not (copy / "providers.json").exists()
