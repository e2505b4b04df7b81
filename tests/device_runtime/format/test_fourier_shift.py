"""A shift's numbers as coefficients of a weight's spectrum, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import FormatError
from device_runtime.format.delta import Dense, Fourier, Numbers
from device_runtime.format.fourier_shift import FourierShift

SHAPE = (24, 40)
SHIFT = FourierShift(count=20, seed=777, scaling=150.0)
NUMBERS = np.random.default_rng(0).normal(size=20) * 0.05


def test_the_factors_are_the_merge_of_the_record() -> None:
    left, right = SHIFT.factors(SHAPE)
    delta = SHIFT.delta(NUMBERS, SHAPE)
    rounded = SHIFT.numbers(delta, SHAPE)
    assert rounded is not None
    np.testing.assert_allclose((left * np.tile(rounded, 2)) @ right, delta.dense(), atol=1e-15)
    assert np.abs(rounded - NUMBERS).max() <= 0.51 * np.abs(NUMBERS).max() / 32_767
    assert (delta.seed, delta.scaling, delta.parameters) == (777, 150.0, 20)


@pytest.mark.parametrize("shape", [SHAPE, (64, 64), (16, 300)])
def test_a_shift_moves_a_weight_by_its_own_root_mean_square(shape: tuple[int, int]) -> None:
    """So a cap means the same as for biases, whatever the shape and the count."""
    for count in (5, 50, 150):
        one = FourierShift(count=count, seed=3, scaling=150.0)
        left, right = one.factors(shape)
        numbers = np.random.default_rng(count).normal(size=count)
        moved = (left * np.tile(numbers, 2)) @ right
        # Entries whose conjugates are drawn, too, add up or cancel out.
        assert np.sqrt(np.mean(moved**2)) == pytest.approx(np.sqrt(np.mean(numbers**2)), rel=0.25)


def test_another_scaling_and_entries_in_full_fit() -> None:
    delta = SHIFT.delta(NUMBERS, SHAPE)
    wanted = SHIFT.numbers(delta, SHAPE)
    assert wanted is not None
    other = Fourier(rows=24, columns=40, coefficients=delta.coefficients, scaling=300.0, seed=777)
    full = Fourier(rows=24, columns=40, coefficients=delta.coefficients, scaling=150.0, explicit=SHIFT.entries(SHAPE))
    np.testing.assert_allclose(SHIFT.numbers(other, SHAPE), 2 * wanted)
    np.testing.assert_array_equal(SHIFT.numbers(full, SHAPE), wanted)


def test_what_has_other_entries_does_not_fit() -> None:
    delta = SHIFT.delta(NUMBERS, SHAPE)
    assert SHIFT.numbers(replace(delta, seed=778), SHAPE) is None
    assert SHIFT.numbers(delta, (40, 24)) is None
    assert SHIFT.numbers(FourierShift(count=19, seed=777, scaling=150.0).delta(NUMBERS[1:], SHAPE), SHAPE) is None
    entries = SHIFT.entries(SHAPE).copy()
    entries[-1] += 1
    assert SHIFT.numbers(replace(delta, seed=None, explicit=entries), SHAPE) is None
    assert SHIFT.numbers(Dense(Numbers.of(np.ones(SHAPE))), SHAPE) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count 0"),
        ({"count": 4_097}, "count 4097"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**32}, "seed 4294967296"),
        ({"scaling": 0.0}, "scaling 0"),
        ({"scaling": 0.1}, "want a float32"),
        ({"scaling": float("inf")}, "scaling inf"),
    ],
)
def test_what_no_adapter_carries_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        FourierShift(**{"count": 20, "seed": 777, "scaling": 150.0, **change})
