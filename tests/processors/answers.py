"""Print what this processor makes of blobs that another made: known answers and forecasts, as JSON.

    python tests/processors/answers.py FOLDER [THREADS]

``FOLDER`` is what `blobs.py` wrote. The device runtime alone is imported, so that this runs wherever numpy and
onnxruntime do, an emulated processor included.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.blob import decode
from device_runtime.errors import SelfTestError
from device_runtime.forecaster import Forecaster
from device_runtime.session import SessionSettings

STEPS = 8


def answer(pair: Path, threads: int) -> dict[str, Any]:
    """Open one pair: how far its known answer is off, what is allowed, and numbers that its weights decide."""
    data = (pair / "adapter.etsa").read_bytes()
    test = decode(data).known_answer
    assert test is not None
    settings = SessionSettings(threads=threads)
    try:
        forecaster = Forecaster.open(pair / "bundle", data, settings=settings)
    except SelfTestError as error:
        return {"refused": str(error), "allowed": test.tolerance}
    draw = np.random.default_rng(3)
    context = np.round(80 + 10 * draw.normal(size=(4, 30)).cumsum(axis=1) / 4, 1).astype(np.float32)
    numbers = np.concatenate([forecaster._model.witness(row[None]) for row in context])
    probe = forecaster._model.probe(test.context, len(test.expected))
    return {
        "off": forecaster.self_test(), "allowed": test.tolerance, "numbers": numbers.ravel().tolist(),
        "probe": probe.tolist(), "spread": float(context.std(axis=1).min()),
    }  # fmt: skip


if __name__ == "__main__":
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    pairs = sorted(path.parent for path in Path(sys.argv[1]).glob("*/adapter.etsa"))
    json.dump({"machine": platform.machine(), "pairs": {one.name: answer(one, number) for one in pairs}}, sys.stdout)
