"""What was exported here passes its known answer elsewhere, and the numeric tests pass with other instructions.

Emulated processors come from qemu-user; AVX-512 is beyond it, so that is for whoever runs the tests on one. ``make
test-processors`` runs this file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.rounding import ANY_ORDER

pytest.importorskip("torch", reason="makes the blobs")
pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# SSE4.2; AVX; AVX2 with fused multiply-add: qemu's name and OpenBLAS's, which under qemu takes a later one's kernels.
X86 = {"Nehalem": "Nehalem", "SandyBridge": "Sandybridge", "Haswell": "Haswell"}
ARM = ["cortex-a72", "max"]  # NEON; all that qemu has: dot products, i8mm, SVE, SME
INSTRUCTIONS = {
    "SSE": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41",
            "OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "1"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2",
             "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2"},
}  # fmt: skip
NUMERIC = [
    "tests/support",
    "tests/edge_tsfm/models/test_t5_paths.py::test_logits_are_those_of_transformers_whatever_was_tuned",
    "tests/edge_tsfm/models/test_t5_paths.py::test_tied_embeddings_are_scaled_as_transformers_does",
    "tests/edge_tsfm/models/test_families.py",
    "tests/edge_tsfm/methods/test_method_matrix.py::test_merged_forecasts_as_tuned",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blobs")
    subprocess.run([sys.executable, HERE / "blobs.py", out], cwd=ROOT, env=environment(), check=True)
    return out


@pytest.fixture(scope="module")
def here(folder: Path) -> dict[str, Any]:
    return answers([sys.executable], folder, 2)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def answers(python: list[str], folder: Path, threads: int, **more: str) -> dict[str, Any]:
    """Run answers.py with an interpreter; its findings by pair."""
    done = subprocess.run(
        [*python, HERE / "answers.py", folder, str(threads)],
        cwd=ROOT, env=environment(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["pairs"]
    return found


def compare(there: dict[str, Any], here: dict[str, Any]) -> None:
    """Every known answer passes, and forecasts differ by what an order of summation decides."""
    assert set(there) == set(here)
    refused = {name: one["refused"] for name, one in there.items() if "refused" in one}
    assert not refused
    for name, one in there.items():
        assert one["off"] <= one["allowed"]
        a, b = np.array(one["numbers"]), np.array(here[name]["numbers"])
        if not name.endswith("int8"):  # an activation on the other side of a tie: the known answer's to judge
            assert np.abs(a - b).max() <= 2 * ANY_ORDER * np.abs(b).max(), name


def test_one_thread_answers_as_two_do(folder: Path, here: dict[str, Any]) -> None:
    assert len(here) == 14
    compare(answers([sys.executable], folder, 1), here)


@pytest.mark.parametrize("processor", X86)
def test_known_answers_pass_on_older_processors(processor: str, folder: Path, here: dict[str, Any]) -> None:
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("needs qemu-x86_64: apt-get install qemu-user")
    python = [emulator, "-cpu", processor, sys.executable]
    compare(answers(python, folder, 1, OPENBLAS_CORETYPE=X86[processor]), here)


@pytest.mark.parametrize("processor", ARM)
def test_known_answers_pass_on_aarch64(processor: str, folder: Path, here: dict[str, Any]) -> None:
    emulator, made = shutil.which("qemu-aarch64-static"), os.environ.get("EDGE_TSFM_AARCH64")
    if emulator is None or made is None:
        pytest.skip("needs qemu-aarch64-static, and in EDGE_TSFM_AARCH64 the folder that aarch64.sh makes")
    root, site = Path(made).resolve() / "root", Path(made).resolve() / "site"
    places = {"QEMU_LD_PREFIX": str(root), "PYTHONHOME": str(root / "usr"), "PYTHONPATH": f"{site}:{ROOT}"}
    compare(answers([emulator, "-cpu", processor, str(root / "usr/bin/python3.11")], folder, 1, **places), here)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_numeric_tests_pass_with_other_instructions(instructions: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NUMERIC],
        cwd=ROOT, env=environment(**INSTRUCTIONS[instructions]), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3_000:]
