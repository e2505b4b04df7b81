"""Print what this processor makes of blobs that another made: known answers and forecasts, as JSON.

    python tests/processors/answers.py FOLDER [THREADS]

``FOLDER`` is what `blobs.py` wrote; the committed pairs are opened too. The device runtime alone is imported, so that
this runs wherever numpy and onnxruntime do, an emulated processor included.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.errors import SelfTestError
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.blob import blob_size, decode

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = {
    "dummy": (ROOT / "tests/dummy_bases/chronos-bolt-bundle", ROOT / "tests/dummy_bases/chronos-bolt.etsa"),
    "sample": (ROOT / "firmware_examples/sample_data/bundle", ROOT / "firmware_examples/sample_data/ward.etsa"),
}


def answer(bundle: Path, adapter: Path, threads: int) -> dict[str, Any]:
    """Open one pair: how far its known answer is off, what is allowed, and numbers that its weights decide."""
    data = adapter.read_bytes()
    test = decode(data[: blob_size(data)]).known_answer
    assert test is not None
    settings = SessionSettings(threads=threads)
    try:
        forecaster = Forecaster.open(bundle, data, settings=settings)
    except SelfTestError as error:
        return {"refused": str(error), "allowed": test.tolerance}
    draw = np.random.default_rng(3)
    context = np.round(80 + 10 * draw.normal(size=(4, 30)).cumsum(axis=1) / 4, 1).astype(np.float32)
    numbers = np.concatenate([forecaster._model.witness(row[None]) for row in context])
    spread = float(context.std(axis=1).min())
    return {
        "off": forecaster.self_test(), "allowed": test.tolerance, "numbers": numbers.ravel().tolist(), "spread": spread,
    }  # fmt: skip


if __name__ == "__main__":
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    pairs = {path.parent.name: (path.parent / "bundle", path) for path in Path(sys.argv[1]).glob("*/adapter.etsa")}
    found = {name: answer(*pair, number) for name, pair in sorted({**COMMITTED, **pairs}.items())}
    json.dump({"machine": platform.machine(), "pairs": found}, sys.stdout)
