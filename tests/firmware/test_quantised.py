"""Quantised tensors: the same bytes from C and Python, and the same forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from device_runtime.errors import MergeError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES as MODELS
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.adapter import KnownAnswer
from device_runtime.format.blob import decode, encode
from device_runtime.format.quantised import quantise

from .core import Core
from .test_families import FAMILIES, SERIES, Forecast, by_c, proven, same  # noqa: F401

FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),  # subnormals, zeros of both signs
    st.integers(-128, 128).map(lambda n: n / 2),  # ties, where 64 is the largest
    st.sampled_from([2.0**-100, 2.0**-101, 1.1754943508222875e-38, 3.4028234663852886e38, 64.0]),
)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return Core(tmp_path_factory.mktemp("core"))


@given(weights=arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FLOATS))
@settings(max_examples=400, deadline=None)
def test_c_and_python_give_the_same_bytes(core: Core, weights: np.ndarray) -> None:
    integers, scales = quantise(weights)
    code, c_integers, c_scales = core.quantise(weights)
    assert code == 0
    assert (c_integers.tobytes(), c_scales.tobytes()) == (integers.tobytes(), scales.tobytes())
    assert np.abs(integers.astype(int)).max() <= 64
    # Half a step and the rounding of a quotient; rows below 2^-100 are given up.
    off = np.abs(integers * scales.astype(np.float64)[:, None] - weights)
    assert (off <= 0.5 * scales[:, None] * (1 + 2.0**-16) + (np.abs(weights) < 2.0**-100) * 2.0**-100).all()


def test_large_tensors_too(core: Core) -> None:
    draw = np.random.default_rng(0)
    for shape in ((256, 1024), (1, 8192), (8192, 1)):
        weights = draw.standard_t(3, size=shape).astype(np.float32)
        integers, scales = quantise(weights)
        _, c_integers, c_scales = core.quantise(weights)
        assert (c_integers.tobytes(), c_scales.tobytes()) == (integers.tobytes(), scales.tobytes())


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(core: Core, bad: float) -> None:
    for place in range(6):
        weights = np.ones((2, 3), dtype=np.float32)
        weights.flat[place] = bad
        assert core.quantise(weights)[0] == MergeError.code
        with pytest.raises(MergeError):
            quantise(weights)


def test_every_half_is_widened_as_numpy_widens_it(core: Core) -> None:
    halves = np.arange(2**16, dtype="<u2").view("<f2")
    wide = core.widen(halves)
    finite = np.isfinite(halves)
    np.testing.assert_array_equal(wide[finite].view("<u4"), halves[finite].astype("<f4").view("<u4"))
    assert not np.isfinite(wide[~finite]).any()  # a merge refuses these


@pytest.fixture(scope="module")
def merged(exported: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    from edge_tsfm.methods.sites import kept_tensors
    from export import export_precision

    made: dict[str, Bundle] = {}

    def of(family: str) -> tuple[Any, Bundle]:
        base, bundle = exported(family)
        if family not in made:
            out = tmp_path_factory.mktemp(family) / "merged"
            adapted = kept_tensors(base.model, None)
            # A width of 8 leaves forecasts coarse: three ways are compared here, not what integers cost.
            export_precision(bundle, out=out, precision="int8-merged", adapted=adapted, allowed=0.1)
            made[family] = Bundle.open(out)
        return base, made[family]

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_c_forecasts_with_the_integers_of_what_it_merged(
    family: str,
    merged: Callable[[str], Any],
    by_c: Forecast,  # noqa: F811
) -> None:
    base, bundle = merged(family)
    blob = of_python(bundle, proven(base, bundle))
    for given_blob in (None, blob):
        code, got, err = by_c(bundle.path, given_blob)
        assert code == 0, err
        same(got, Forecaster.open(bundle, given_blob, allow_unproven=True).forecast(SERIES).quantiles)


def of_python(bundle: Bundle, blob: bytes) -> bytes:
    """The same adapter with the runtime's own known answer: torch's is that of floats."""
    adapter = decode(blob)
    assert adapter.known_answer is not None
    context = adapter.known_answer.context
    tensors = merge(bundle.manifest, bundle.tensor, adapter)
    model = MODELS[bundle.manifest.family](bundle, tensors, SessionSettings())
    expected = model.probe(context, 4)
    base = MODELS[bundle.manifest.family](bundle, {}, SessionSettings()).probe(context, 4)
    tolerance = 0.02 * float(np.ptp(context))
    assert np.abs(base - expected).max() > 2 * tolerance  # the answer tells the adapter from its base
    answer = KnownAnswer(context=context, expected=expected, tolerance=tolerance)
    return encode(replace(adapter, known_answer=answer))
