import numpy as np
import pytest

from device_runtime.errors import InputError
from device_runtime.forecast.quantiles import at_levels, calibrate
from device_runtime.format.adapter import Calibration
from device_runtime.format.delta import Numbers
from tests.support.rounding import sums  # of a few operations

TRAINED = tuple(round(0.1 * i, 1) for i in range(1, 10))
QUANTILES = np.sort(np.random.default_rng(0).normal(80, 5, (2, 3, 9)), axis=-1).astype(np.float32)


def test_trained_levels_are_returned_as_they_are() -> None:
    np.testing.assert_array_equal(at_levels(QUANTILES, TRAINED, (0.5, 0.1)), QUANTILES[..., [4, 0]])


def test_a_level_between_two_trained_ones_lies_between_them() -> None:
    got = at_levels(QUANTILES, TRAINED, (0.25,))[..., 0]
    np.testing.assert_allclose(got, (QUANTILES[..., 1] + QUANTILES[..., 2]) / 2, rtol=sums(16))


@pytest.mark.parametrize("level", [0.01, 0.99])
def test_a_level_the_model_was_not_trained_to_reach_is_refused(level: float) -> None:
    with pytest.raises(InputError, match=r"trained for 0\.1 to 0\.9"):
        at_levels(QUANTILES, TRAINED, (level,))


def test_calibration_moves_a_level_by_a_share_of_the_band_and_keeps_order() -> None:
    offsets = np.zeros((9, 2))
    offsets[0, 0], offsets[8, 1] = -0.5, 0.25
    moved = calibrate(QUANTILES, Calibration(offsets=Numbers.of(offsets, "float32")))
    width = QUANTILES[..., 8] - QUANTILES[..., 0]
    np.testing.assert_allclose(moved[:, 0, 0], QUANTILES[:, 0, 0] - 0.5 * width[:, 0], rtol=sums(16))
    # Steps beyond the last calibrated one use that one.
    np.testing.assert_allclose(moved[:, 2, 8], QUANTILES[:, 2, 8] + 0.25 * width[:, 2], rtol=sums(16))
    crossing = calibrate(QUANTILES, Calibration(offsets=Numbers.of(np.linspace(2, -2, 9)[:, None], "float32")))
    assert (np.diff(crossing, axis=-1) >= 0).all()
