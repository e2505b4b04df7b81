import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_runtime.forecast.quantiles import calibrate
from device_runtime.format.adapter import Calibration
from device_runtime.format.delta import Numbers
from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.calibration import MAX_OFFSETS, MIN_VALUES, fit_calibration, fit_offsets

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
NORMAL = np.array([-1.2816, -0.6745, 0.0, 0.6745, 1.2816])


def sample(n: int, *, steps: int = 3, bias: float = 0.0, squeeze: float = 1.0, missing: float = 0.0, seed: int = 0):
    """Gaussian truths and forecasts of them that are ``bias`` off and ``squeeze`` too narrow: [N, H, Q], [N, H]."""
    rng = np.random.default_rng(seed)
    centre, spread = rng.normal(80, 10, (n, steps, 1)), rng.uniform(1, 8, (n, steps, 1))
    target = (centre + spread * rng.normal(size=(n, steps, 1)))[..., 0]
    target[rng.random((n, steps)) < missing] = np.nan
    quantiles = centre + spread * (bias + squeeze * NORMAL)
    return quantiles.astype(np.float32), target.astype(np.float32)


def windows(target: np.ndarray, patients: int) -> Windows:
    n = len(target)
    return Windows(
        context=np.ones((n, 8), np.float32),
        target=target,
        item_id=np.array([f"p{i % patients}" for i in range(n)]),
        cutoff=np.full(n, 8),
        series=np.zeros(n, np.int64),
    )


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(MIN_VALUES, 900),
    bias=st.floats(-1, 1),
    squeeze=st.floats(0.2, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_on_the_fitting_set_each_level_holds_its_share_within_one_rank(
    n: int, bias: float, squeeze: float, seed: int
) -> None:
    quantiles, target = sample(n, bias=bias, squeeze=squeeze, seed=seed)
    offsets = fit_offsets(quantiles, target, LEVELS)
    width = quantiles[..., -1:].astype(np.float64) - quantiles[..., :1]
    moved = quantiles + offsets.T[: quantiles.shape[1]] * width
    # A hair of room: y = q + w (y - q) / w holds but for rounding.
    held = (target[..., None] <= moved + 1e-6).sum(0)  # [H, Q]
    assert np.all(np.abs(held / (n + 1) - np.array(LEVELS)) <= 1 / (n + 1) + 1e-12)


@settings(max_examples=10, deadline=None)
@given(bias=st.floats(-1, 1), squeeze=st.floats(0.3, 2), seed=st.integers(0, 2**32 - 1))
def test_on_new_windows_the_band_covers_and_levels_ascend(bias: float, squeeze: float, seed: int) -> None:
    quantiles, target = sample(3000, bias=bias, squeeze=squeeze, missing=0.2, seed=seed)
    calibration = fit_calibration(quantiles, windows(target, 100), LEVELS)
    new, truth = sample(3000, bias=bias, squeeze=squeeze, seed=seed + 1)
    moved = calibrate(new, calibration)
    assert np.all(np.diff(moved, axis=-1) >= 0)
    covered = ((moved[..., 0] <= truth) & (truth <= moved[..., -1])).mean()
    # 9,000 values on each side: four standard errors of the share, and what int8 rounds.
    assert abs(covered - 0.8) < 4 * np.sqrt(2 * 0.16 / 9000) + 0.005


def test_what_is_right_already_hardly_moves() -> None:
    quantiles, target = sample(20_000)
    assert np.abs(fit_offsets(quantiles, target, LEVELS)).max() < 0.02


def test_missing_targets_are_as_if_they_were_not_there() -> None:
    quantiles, target = sample(800, steps=1, bias=0.4)
    target[::2] = np.nan
    np.testing.assert_array_equal(
        fit_offsets(quantiles, target, LEVELS), fit_offsets(quantiles[1::2], target[1::2], LEVELS)
    )


def test_steps_beyond_what_the_format_carries_share_the_last_offset() -> None:
    steps = MAX_OFFSETS // len(LEVELS) + 3
    quantiles, target = sample(MIN_VALUES, steps=steps, bias=1.0)
    offsets = fit_offsets(quantiles, target, LEVELS)
    assert offsets.shape == (len(LEVELS), MAX_OFFSETS // len(LEVELS))
    last = fit_offsets(
        quantiles[:, offsets.shape[1] - 1 :].reshape(-1, 1, 5), target[:, offsets.shape[1] - 1 :].reshape(-1, 1), LEVELS
    )
    np.testing.assert_array_equal(offsets[:, -1:], last)


def test_rounding_to_int8_is_far_below_the_offsets() -> None:
    quantiles, target = sample(2000, bias=0.3, squeeze=0.7)
    stored = fit_calibration(quantiles, windows(target, 50), LEVELS).offsets
    exact = fit_offsets(quantiles, target, LEVELS)
    assert stored.dtype == "int8"
    assert np.abs(stored.values - exact).max() <= np.abs(exact).max() / 250


def test_too_few_values_or_patients_are_refused() -> None:
    quantiles, target = sample(MIN_VALUES - 1)
    with pytest.raises(DataError, match=f"{MIN_VALUES - 1} observed targets at step 1"):
        fit_offsets(quantiles, target, LEVELS)
    quantiles, target = sample(MIN_VALUES)
    target[:1, 2] = np.nan
    with pytest.raises(DataError, match="at step 3"):
        fit_offsets(quantiles, target, LEVELS)
    quantiles, target = sample(1000)
    with pytest.raises(DataError, match="19 patients"):
        fit_calibration(quantiles, windows(target, 19), LEVELS)


def test_forecasts_without_width_are_left_alone_or_refused_when_they_are_many() -> None:
    quantiles, target = sample(1000, steps=1, squeeze=0.7)
    offsets = fit_offsets(quantiles, target, LEVELS)
    flat = quantiles.copy()
    flat[:20] = flat[:20, :, 2:3]
    assert np.isfinite(fit_offsets(flat, target, LEVELS)).all()
    still = calibrate(flat[:20], Calibration(offsets=Numbers.of(offsets, "int8")))
    np.testing.assert_array_equal(still, flat[:20])
    flat[:500] = flat[:500, :, 2:3]
    with pytest.raises(DataError, match="no width"):
        fit_offsets(flat, target, LEVELS)
