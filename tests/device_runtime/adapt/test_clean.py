"""What cannot be a reading leaves a stay before anything is learnt from it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from device_runtime.adapt.clean import Counts, clean, counts_of
from device_runtime.adapt.rules import CleanRules
from device_runtime.errors import FormatError

RULES = CleanRules().at(3_600_000)


def stay(steps: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (80 + np.cumsum(rng.normal(0, 0.6, steps)) * 0.5 + rng.normal(0, 1, steps)).astype(np.float32)


def test_a_clean_stay_is_left_as_it_is() -> None:
    values = stay()
    values[40:60] = np.nan
    out, counts = clean(values, RULES, (10, 350))
    assert np.array_equal(out, values, equal_nan=True)
    assert asdict(counts) == {"values": 380, "out_of_range": 0, "jumps": 0, "flat": 0}


def test_values_out_of_range_go() -> None:
    values = stay()
    values[[3, 50]] = 0, 400
    values[70] = np.inf
    out, counts = clean(values, RULES, (10, 350))
    assert counts.out_of_range == 3
    assert np.isnan(out[[3, 50, 70]]).all()


@pytest.mark.parametrize("length", [1, 5, 10, 15])
def test_doubled_pieces_go_and_nothing_else_does(length: int) -> None:
    values = stay(seed=1)
    spoilt = values.copy()
    for start in (30, 120, 260):
        spoilt[start : start + length] *= 2
    out, counts = clean(spoilt, RULES, (10, 350))
    assert counts.jumps == 3 * length
    kept = ~np.isnan(out)
    assert np.array_equal(out[kept], values[kept])


def test_a_level_that_stays_is_a_level() -> None:
    values = stay(seed=2)
    values[200:] += 40
    out, counts = clean(values, RULES, (10, 350))
    assert (counts.jumps, bool(np.isnan(out).any())) == (0, False)


def test_an_excursion_over_missing_steps_counts_steps_not_values() -> None:
    values = stay(seed=3)
    values[100:130] *= 2
    values[103:129] = np.nan  # 30 steps, 4 values
    _, counts = clean(values, RULES, None)
    assert counts.jumps == 0


def test_a_sensor_that_hangs_goes_but_its_first_value() -> None:
    values = stay(seed=4)
    values[100:250] = 77
    out, counts = clean(values, RULES, (10, 350))
    assert counts.flat == 149
    assert out[100] == 77
    assert np.isnan(out[101:250]).all()


@pytest.mark.parametrize("values", [[], [np.nan] * 5, [80.0], [80.0, 81.0], [80.0] * 5])
def test_short_and_empty_stays_pass(values: list[float]) -> None:
    given = np.array(values, dtype=np.float32)
    out, _ = clean(given, RULES, (10, 350))
    assert np.array_equal(out, given, equal_nan=True)


def test_counts_add_up_and_are_read_back() -> None:
    total = Counts()
    total.add(Counts(values=10, jumps=2))
    total.add(Counts(values=5, flat=1))
    assert counts_of(total.to_value()) == Counts(values=15, jumps=2, flat=1)
    for wrong in (None, {}, {**total.to_value(), "values": -1}, {**total.to_value(), "more": 1}):
        with pytest.raises(FormatError, match="counts"):
            counts_of(wrong)
