"""A Python in which OpenVINO's plugin lists a device: this one on an Intel processor, else an emulated Intel one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CPUINFO = Path("/proc/cpuinfo")
# All that qemu-user emulates of a processor, up to AVX2: OpenVINO compiles for that. The plugin lists Intel's only.
EMULATED = ("-cpu", "max,vendor=GenuineIntel")


def openvino_python() -> list[str]:
    """Return the command of such a Python; skips the test, saying why, where there is none."""
    if find_spec("onnxruntime_ep_openvino") is None:
        pytest.skip("needs OpenVINO's plugin: pip install 'edge-tsfm[openvino]'")
    if "GenuineIntel" in CPUINFO.read_text():
        return [sys.executable]
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("OpenVINO's plugin lists Intel processors only; on others this needs apt-get install qemu-user")
    return [emulator, *EMULATED, sys.executable]


def run_device(python: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``edge-tsfm-device`` with an interpreter."""
    return subprocess.run(
        [*python, "-m", "device_runtime.cli", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
