"""One binary with another ONNX Runtime, as the oldest supported: its path is in EDGE_TSFM_OTHER_ONNXRUNTIME."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.blob import encode

from .conftest import run
from .dummy import make_adapter
from .samples import quantiles, same

LIBRARY = os.environ.get("EDGE_TSFM_OTHER_ONNXRUNTIME")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LIBRARY is None, reason="EDGE_TSFM_OTHER_ONNXRUNTIME names no libonnxruntime.so"),
]

SERIES = 75 + 9 * np.cos(np.arange(40, dtype=np.float32) / 4)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_forecasts_are_those_of_this_version(built: Path, bundle: Bundle, tmp_path: Path, with_adapter: bool) -> None:
    """Merged tensors and known answer included: the adapter's forecast is not the base's."""
    adapter = tmp_path / "map.etsa"
    adapter.write_bytes(encode(make_adapter(bundle)))
    series = tmp_path / "series.csv"
    series.write_text("".join(f"{value}\n" for value in SERIES))
    options = ["--adapter", adapter] if with_adapter else []
    done = run(built / "forecast_ort" / "etsa-forecast", "--library", LIBRARY, bundle.path, series, *options)
    assert done.returncode == 0, done.stderr
    same(quantiles(done.stdout), Forecaster.open(bundle, adapter if with_adapter else None).forecast(SERIES).quantiles)


def test_a_wrong_answer_is_refused(built: Path, bundle: Bundle, tmp_path: Path) -> None:
    """The older library fails the known-answer test as the newer one does."""
    adapter = make_adapter(bundle)
    answer = adapter.known_answer
    assert answer is not None
    wrong = replace(adapter, known_answer=replace(answer, expected=answer.expected + np.float32(0.1)))
    path = tmp_path / "wrong.etsa"
    path.write_bytes(encode(wrong))
    done = run(
        built / "forecast_ort" / "etsa-forecast", "--library", LIBRARY, bundle.path, "--adapter", path, stdin="80\n"
    )
    assert done.returncode == 1
    assert "[320] SelfTestError" in done.stderr
