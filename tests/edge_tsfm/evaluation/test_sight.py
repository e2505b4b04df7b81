"""What the gate can see before training, and how many patients a gain needs."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tsfm.evaluation.gate import apply_gate
from edge_tsfm.evaluation.sight import look_ahead, patients_for
from tests.support.forecasts import LEVELS, mean_forecast, ward


def test_the_width_falls_with_the_square_root_of_patients() -> None:
    few, many = (look_ahead(mean_forecast(w), w, LEVELS) for w in (ward(patients=50), ward(patients=800)))
    assert few is not None
    assert many is not None
    assert (few.patients, many.patients) == (50, 800)
    assert few.half_width / many.half_width == pytest.approx(4, rel=0.15)
    assert few.sure_gain == pytest.approx(few.half_width * (1.959964 + 0.841621) / 1.959964, rel=1e-5)


def test_patients_with_a_large_loss_count_for_less_than_their_number() -> None:
    windows = ward(patients=100)
    even = look_ahead(mean_forecast(windows), windows, LEVELS)
    off = mean_forecast(windows)
    off[windows.drawn == windows.drawn[0]] += 300  # one patient whose loss is that of all others together
    odd = look_ahead(off, windows, LEVELS)
    assert even is not None
    assert odd is not None
    assert odd.amount_to[0] < even.amount_to[0] / 5
    assert odd.amount_to[1] < even.amount_to[1] / 5
    assert odd.half_width > 2 * even.half_width


def test_the_expected_width_is_that_of_a_gate_whose_adapter_scatters_as_assumed() -> None:
    """An adapter whose windows' losses scatter as `WITHIN` and `BETWEEN` say gets the interval that was foretold."""
    from edge_tsfm.evaluation.sight import BETWEEN, WITHIN

    windows = ward(seed=3, patients=300)
    base = mean_forecast(windows)
    sight = look_ahead(base, windows, LEVELS)
    assert sight is not None
    draw = np.random.default_rng(0)
    # Pinball loss is linear in the distance to the target: moving every quantile towards or away from it by a share
    # changes the window's loss by that share.
    _, owner = np.unique(windows.drawn, return_inverse=True)
    share = WITHIN * draw.standard_normal(len(windows)) + BETWEEN * draw.standard_normal(300)[owner]
    target = windows.target[:, :, None]
    moved = np.where(np.isnan(target), base, target + (base - target) * (1 + share[:, None, None]))
    verdict = apply_gate(moved, base, windows, LEVELS)
    low, high = verdict.interval
    assert (high - low) / 2 == pytest.approx(sight.half_width, rel=0.15)


def test_what_cannot_be_scored_has_no_sight() -> None:
    windows = ward(patients=5)
    windows.target[:] = np.nan
    assert look_ahead(mean_forecast(windows), windows, LEVELS) is None


def test_it_is_said_in_words_and_kept_as_numbers() -> None:
    windows = ward(patients=100)
    sight = look_ahead(mean_forecast(windows), windows, LEVELS)
    assert sight is not None
    assert str(sight).startswith("the gate has 100 validation patients with 500 windows (frozen base: WQL ")
    assert f"±{100 * sight.half_width:.1f} %" in str(sight)
    assert sight.to_dict()["half_width"] == sight.half_width


@pytest.mark.parametrize(
    ("gain", "half_width", "now", "wanted"),
    [(0.014, 0.016, 1_500, 1_960), (0.01, 0.02, 1_000, 4_000), (0.02, 0.01, 1_000, 1_000), (0.0, 0.01, 9, None)],
)
def test_how_many_patients_a_gain_needs(gain: float, half_width: float, now: int, wanted: int | None) -> None:
    found = patients_for(gain, half_width, now)
    assert found == (wanted if wanted is None else pytest.approx(wanted, abs=1))


def test_a_gate_that_will_refuse_whatever_comes_says_so() -> None:
    windows = ward(patients=19)
    said = str(look_ahead(mean_forecast(windows), windows, LEVELS))
    assert said.startswith("the gate has 19 validation patients and needs 20: it will refuse")
    better = np.repeat(np.nan_to_num(windows.target)[:, :, None], len(LEVELS), axis=2)
    assert not apply_gate(better, mean_forecast(windows), windows, LEVELS).accepted
