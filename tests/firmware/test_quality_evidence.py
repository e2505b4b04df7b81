"""Evidence in C: on the same losses the same as the Python runtime's, on every processor."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from device_runtime.quality.evidence import Drift, Trial, difference

from .conftest import SOURCE, need, run
from .quality_core import FIELD_C, PROBE, VERDICTS, built_core
from .test_processors import PROCESSORS


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return built_core(tmp_path_factory.mktemp("quality"))


def losses(seed: int, count: int = 600) -> tuple[float, np.ndarray, np.ndarray]:
    """Give what is allowed, and losses of units: with nothing lost here and there, and some that become worse."""
    rng = np.random.default_rng(seed)
    own = np.exp(rng.normal((-0.06, 0.0, 0.06)[seed // 2], 0.078, count)) * rng.uniform(0.1, 900, count)
    other = own * np.exp(rng.normal(0, 0.05, count))
    own[::97], other[::97], own[5], other[7] = 0.0, 0.0, 0.0, 0.0
    if seed // 2 == 2:
        own[300:] *= 1.1
    return (1.0, 1.02, 0.9)[seed % 3], own, other


def evidence(allowed: float, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The Python runtime's, in the probe's order, after each unit."""
    trial, drift, out = Trial.at(allowed), Drift.none(), []
    for a, b in zip(own.tolist(), other.tolist(), strict=True):
        trial.add(a, b)
        drift.add(difference(a, b))
        rows = zip(trial.worse.logs, trial.better.logs, drift.logs, strict=True)
        logs = [one for row in rows for one in row]
        out.append([*logs, trial.worse.log, VERDICTS[trial.verdict], float(drift.flagged)])
    return np.array(out)


@pytest.mark.parametrize("seed", range(6))
def test_evidence_on_the_same_losses_agrees_to_the_last_digits(core: ctypes.CDLL, seed: int) -> None:
    allowed, own, other = losses(seed)
    got = np.zeros((len(own), 18))
    core.trial(allowed, own, other, len(own), got)
    wanted = evidence(allowed, own, other)
    assert wanted[-1, 16] > 0 or allowed == 1.0
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


MAIN = r"""
#include <stdio.h>
int main(void)
{
    static double allowed, own[600], other[600], out[600 * 18];
    size_t read = fread(&allowed, sizeof allowed, 1, stdin) + fread(own, sizeof own, 1, stdin);
    if (read + fread(other, sizeof other, 1, stdin) != 3) return 1;
    trial(allowed, own, other, 600, out);
    return fwrite(out, sizeof out, 1, stdout) == 1 ? 0 : 1;
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_evidence_agrees_on_every_processor(processor: str, tmp_path: Path) -> None:
    compiler, emulator = PROCESSORS[processor]
    need(compiler, *([emulator] if emulator else []))
    source, binary, quality = tmp_path / "main.c", tmp_path / "main", SOURCE / "quality"
    source.write_text(PROBE + MAIN)
    sources = [source, *(quality / name for name in FIELD_C)]
    done = run(compiler, "-std=c99", "-O2", "-static", "-I", quality, *sources, "-o", binary, "-lm")
    assert done.returncode == 0, done.stderr
    for seed in range(6):
        allowed, own, other = losses(seed)
        sent = struct.pack("<d", allowed) + own.tobytes() + other.tobytes()
        command = [*([emulator] if emulator else []), str(binary)]
        out = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=120).stdout
        got = np.frombuffer(out).reshape(600, 18)
        np.testing.assert_allclose(got, evidence(allowed, own, other), rtol=1e-12, atol=1e-12)
