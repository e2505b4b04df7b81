"""CUDA and TensorRT-RTX: the same path as every provider, where a GPU, its driver and an onnxruntime with it are."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_runtime.errors import DeviceRuntimeError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.providers import choose
from tests.support.plugins import run_device

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("provider", ["cuda", "tensorrt-rtx"])
def test_a_gpu_is_proven_and_forecasts(provider: str, exported: Callable[[str], Any], tmp_path: Path) -> None:
    try:
        choose(provider)
    except DeviceRuntimeError as error:
        pytest.skip(f"{error.args[0]}: {error.hint}")
    from export import export_static

    base, float32 = exported("chronos-bolt")
    bundle = shutil.copytree(float32.path, tmp_path / "bundle")
    export_static(base.model, Bundle.open(bundle), context_length=64, batch=4)
    proven = run_device([sys.executable], "prove", bundle, "--provider", provider, "--json")
    assert proven.returncode == 0, proven.stderr
    proof = json.loads(proven.stdout)
    assert proof["exact"]  # TF32 is off
    assert proof["nodes_on_cpu"] == 0
