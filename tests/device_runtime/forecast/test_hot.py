"""Many adapters on one base in one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.errors import (
    BaseMismatchError,
    FormatError,
    InputError,
    SelfTestError,
    SignalMismatchError,
    UnsupportedError,
)
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.hot import HotForecaster
from device_runtime.format.adapter import Adapter, Calibration
from device_runtime.format.binding import Use
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Numbers
from tests.support.adapters import example_binding
from tests.support.biased import BASES, biased, learning_bundle

RNG = np.random.default_rng(1)
CONTEXT = (80 + np.cumsum(RNG.normal(size=(5, 50)), axis=1)).astype(np.float32)
CONTEXT[0, :11] = np.nan
SCALE = np.nanstd(CONTEXT, axis=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learning_bundle(tmp_path_factory.mktemp("hot") / "bundle")


@pytest.fixture(scope="module")
def hot(bundle: Path) -> HotForecaster:
    return HotForecaster.open(bundle)


@pytest.fixture(scope="module")
def blobs(bundle: Path) -> list[bytes]:
    offsets = Calibration(offsets=Numbers.of(np.random.default_rng(2).normal(0, 0.1, (9, 6)), "int8"))
    return [
        biased(bundle, 1),
        biased(bundle, 2, calibration=offsets),
        biased(bundle, 3, binding=example_binding(context_length=20, prediction_length=5)),
        biased(bundle, 4, binding=example_binding(), calibration=offsets),
    ]


def test_each_row_is_what_its_own_forecaster_says(bundle: Path, hot: HotForecaster, blobs: list[bytes]) -> None:
    adapters = [*map(hot.load, blobs), None]
    forecasts = hot.forecast(CONTEXT, adapters, quantile_levels=[0.1, 0.25, 0.5])
    for row, (blob, got) in enumerate(zip([*blobs, None], forecasts, strict=True)):
        own = Forecaster.open(bundle, blob).forecast(CONTEXT[row], quantile_levels=[0.1, 0.25, 0.5])
        assert got.quantiles.shape == own.quantiles.shape
        assert np.abs(got.quantiles - own.quantiles).max() < 1e-5 * SCALE[row] + 2e-7 * 100, row
        assert replace(got, quantiles=own.quantiles).__dict__ | {"quantiles": 0} == own.__dict__ | {"quantiles": 0}
    base = Forecaster.open(bundle).forecast(CONTEXT, 6).quantiles
    moved = np.stack([one.quantiles for one in hot.forecast(CONTEXT[:2], adapters[:2], 6)])
    assert np.abs((moved - base[:2]) / SCALE[:2, None, None]).max() > 0.1  # the comparison could fail


def test_beyond_one_run_too(bundle: Path, hot: HotForecaster, blobs: list[bytes]) -> None:
    steps = hot.bundle.manifest.prediction_length + 5
    adapters = [hot.load(blobs[0]), hot.load(blobs[1]), None]
    for row, got in enumerate(hot.forecast(CONTEXT[:3], adapters, steps)):
        own = Forecaster.open(bundle, [*blobs[:2], None][row]).forecast(CONTEXT[row], steps).quantiles
        assert np.abs(got.quantiles - own).max() < 2e-5 * SCALE[row] + 2e-7 * 100


def test_an_adapter_takes_kilobytes(hot: HotForecaster, blobs: list[bytes]) -> None:
    adapter = hot.load(blobs[0])
    assert adapter.shift.nbytes == 4 * hot.size
    assert not adapter.shift.flags.writeable


def test_an_adapter_that_changes_more_than_biases_is_refused(hot: HotForecaster) -> None:
    with pytest.raises(UnsupportedError, match=r"changes \S+weight by Fourier; in a batch only biases") as refused:
        hot.load(BASES / "chronos-bolt.etsa")
    assert "chronos-bolt.etsa" in str(refused.value)
    assert "Forecaster" in str(refused.value.hint)


def test_a_known_answer_is_asked_of_the_shifted_graph(hot: HotForecaster, blobs: list[bytes]) -> None:
    good = decode(blobs[0])
    assert good.known_answer is not None
    wrong = replace(good.known_answer, expected=good.known_answer.expected + np.float32(0.01))
    with pytest.raises(SelfTestError, match=r"off by 0.01"):
        hot.load(encode(replace(good, known_answer=wrong)))
    with pytest.raises(SelfTestError, match="no known-answer test"):
        hot.load(encode(replace(good, known_answer=None)))


def test_what_an_adapter_is_for_is_checked(hot: HotForecaster, blobs: list[bytes]) -> None:
    with pytest.raises(SignalMismatchError):
        hot.load(blobs[3], use=Use(signal="HR"))
    with pytest.raises(SignalMismatchError, match="prediction length"):
        hot.forecast(CONTEXT[:1], [hot.load(blobs[2])], 6)


def test_an_adapter_of_another_base_is_refused(hot: HotForecaster, blobs: list[bytes]) -> None:
    adapter = decode(blobs[0])
    other = Adapter(base_digest=bytes(32), version=1, deltas=adapter.deltas, known_answer=adapter.known_answer)
    with pytest.raises(BaseMismatchError):
        hot.load(encode(other))
    with pytest.raises(BaseMismatchError, match="row 0: the adapter was loaded on base"):
        hot.forecast(CONTEXT[:1], [replace(hot.load(blobs[0]), base="00" * 32)])


def test_a_damaged_blob_is_refused(hot: HotForecaster, blobs: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "cut.etsa").write_bytes(blobs[0][:-9])
    with pytest.raises(FormatError, match=r"cut.etsa"):
        hot.load(tmp_path / "cut.etsa")


@pytest.mark.parametrize(
    ("context", "count", "message"),
    [
        (CONTEXT, 2, r"want \[2, L\], a row for each adapter"),
        (CONTEXT[0], 1, r"want \[1, L\]"),
        (CONTEXT[:1] * np.nan, 1, "row 0 has no observed value"),
        (CONTEXT[:1] * np.inf, 1, "infinite"),
        ("text", 1, "want numbers"),
        (np.zeros((0, 5)), 0, "want"),
    ],
)
def test_a_batch_that_cannot_be_forecast_is_an_error(hot: HotForecaster, context, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hot.forecast(context, [None] * count)
    for steps in (0, 1_025):
        with pytest.raises(InputError, match="prediction_length"):
            hot.forecast(CONTEXT[:1], [None], steps)
