"""FourierFT in a base's learning graphs: a gradient by coefficients, and many such adapters in one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.errors import UnsupportedError
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.hot import HotForecaster
from device_runtime.forecast.learning import LearningSession
from device_runtime.format.adapter import Calibration
from device_runtime.format.blob import decode
from device_runtime.format.delta import Dense, Fourier, Gain, Numbers
from tests.support.adapters import example_binding
from tests.support.biased import biased, learning_bundle, proven, waved

RNG = np.random.default_rng(1)
CONTEXT = (80 + np.cumsum(RNG.normal(size=(5, 50)), axis=1)).astype(np.float32)
CONTEXT[0, :11] = np.nan
TARGET = (CONTEXT[:, -1:] + RNG.normal(size=(5, 6)) * 3).astype(np.float32)
SCALE = np.nanstd(CONTEXT, axis=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learning_bundle(tmp_path_factory.mktemp("fourier") / "bundle", "fourier")


@pytest.fixture(scope="module")
def hot(bundle: Path) -> HotForecaster:
    return HotForecaster.open(bundle)


def test_each_row_is_what_its_own_forecaster_says(bundle: Path, hot: HotForecaster) -> None:
    offsets = Calibration(offsets=Numbers.of(np.random.default_rng(2).normal(0, 0.1, (9, 6)), "int8"))
    blobs = [
        waved(bundle, 1),
        waved(bundle, 2, calibration=offsets),
        waved(bundle, 3, binding=example_binding(context_length=20, prediction_length=5)),
        waved(bundle, 4, size=0.2),
    ]
    base = Forecaster.open(bundle).forecast(CONTEXT, 5).quantiles
    forecasts = hot.forecast(CONTEXT, [*map(hot.load, blobs), None], 5)
    for row, (blob, got) in enumerate(zip([*blobs, None], forecasts, strict=True)):
        own = Forecaster.open(bundle, blob).forecast(CONTEXT[row], 5)
        assert np.abs(got.quantiles - own.quantiles).max() < 1e-5 * SCALE[row] + 2e-7 * 100, row
        assert got.adapter == own.adapter
        if blob is not None:  # the comparison could fail
            assert np.abs(got.quantiles - base[row]).max() > 0.05 * SCALE[row], row


def test_an_adapter_takes_a_number_for_each_coefficient(bundle: Path, hot: HotForecaster) -> None:
    adapter = hot.load(waved(bundle, 1))
    assert adapter.shift.nbytes == 4 * hot.size == 4 * 8 * len(hot.learning.names)
    assert not adapter.shift.flags.writeable


def test_other_scalings_and_entries_in_full_are_taken(bundle: Path, hot: HotForecaster) -> None:
    made = decode(waved(bundle, 5))
    names = [entry.name for entry in hot.bundle.manifest.tensors]
    wanted = hot.load(waved(bundle, 5)).shift
    for change in ({"scaling": 75.0}, {"seed": None}):
        deltas = {}
        for index, delta in made.deltas.items():
            assert isinstance(delta, Fourier)
            full = {"explicit": delta.entries} if "seed" in change else {}
            deltas[names[index]] = replace(delta, **change, **full)
        factor = change.get("scaling", 150.0) / 150.0
        np.testing.assert_allclose(hot.load(proven(bundle, deltas)).shift, factor * wanted, rtol=1e-6)


def test_what_the_graph_does_not_move_is_refused_by_name(bundle: Path, hot: HotForecaster) -> None:
    name = hot.learning.names[0]
    shape = hot.bundle.manifest.tensors[hot.bundle.index_of(name)].rows_columns
    delta = hot.learning.fourier.delta(np.ones(8) * 0.05, shape)  # type: ignore[union-attr]
    few = Numbers.of(np.ones(4))
    for one, message in (
        (replace(delta, seed=778), rf"changes {name} at 8 entries of seed 778; the graph has 8 entries of seed 777"),
        (replace(delta, coefficients=few), rf"changes {name} at 4 entries of seed 777"),
        (replace(delta, seed=None, explicit=np.arange(8, dtype=np.uint32)), rf"changes {name} at 8 entries of its own"),
        (Dense(Numbers.of(np.ones(shape))), rf"changes {name}; in a batch only coefficients of"),
        (Gain(*shape, Numbers.of(np.ones(shape[0])), of_rows=True), rf"changes {name} by Gain; in a batch only coeff"),
    ):
        with pytest.raises(UnsupportedError, match=message) as refused:
            hot.load(proven(bundle, {name: one}))
        assert "Forecaster" in str(refused.value.hint)
    with pytest.raises(UnsupportedError, match=r"changes \S+\.bias; in a batch only coefficients of"):
        hot.load(biased(bundle, 1))
    unmoved = "encoder.block.0.layer.0.SelfAttention.k.weight"
    with pytest.raises(UnsupportedError, match=rf"changes {unmoved} by Fourier; in a batch only coefficients of"):
        hot.load(proven(bundle, {unmoved: delta}))


@pytest.mark.parametrize("adapted", [False, True])
def test_the_gradient_is_the_slope_of_the_loss(bundle: Path, adapted: bool) -> None:
    session = LearningSession.open(bundle, waved(bundle, 6) if adapted else None)
    shift = (np.random.default_rng(7).normal(size=session.size) * 0.05).astype(np.float32)
    _, gradient = session.gradients(CONTEXT, TARGET, shift)
    parts = np.split(np.arange(session.size), np.cumsum(session.sizes)[:-1])
    for name, part in zip(session.names, parts, strict=True):
        way = np.zeros(session.size, np.float32)
        way[part] = gradient[part] / np.linalg.norm(gradient[part])
        step = np.float32(0.01)
        up, down = (session.gradients(CONTEXT, TARGET, shift + sign * step * way)[0] for sign in (1, -1))
        slope = float(gradient @ way)
        # Kinks of the loss between the two ends; the export compares every number with torch's.
        allowed = 0.005 * float(np.linalg.norm(gradient))
        assert (up - down) / (2 * step) == pytest.approx(slope, rel=0.05, abs=allowed), name


def test_what_is_learnt_under_an_adapter_is_their_sum(bundle: Path) -> None:
    """A shift on a merged adapter forecasts as an adapter with the sum of both."""
    first, second = waved(bundle, 8), waved(bundle, 9)
    hot = HotForecaster.open(bundle)
    above = LearningSession.open(bundle, first).forecast(CONTEXT, 6, hot.load(second).shift)
    below = LearningSession.open(bundle, second).forecast(CONTEXT, 6, hot.load(first).shift)
    assert np.abs((above - below) / SCALE[:, None, None]).max() < 1e-5 + 2e-7 * 100 / SCALE.min()
