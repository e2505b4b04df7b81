"""Figures and baselines, against numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from edge_tsfm.research.pretraining.measure import gain_interval
from edge_tsfm.research.pretraining.validation import (
    Scored,
    figures,
    patients,
    persistence,
    seasonal_naive,
    window_mean,
)

NAN = np.nan


def windows(context: list[list[float]], target: list[list[float]]) -> Scored:
    return Scored(
        name="x",
        context=np.array(context, dtype=np.float32),
        target=np.array(target, dtype=np.float32),
        item_id=np.array([f"p{row}" for row in range(len(context))]),
    )


def test_persistence_repeats_the_last_observed_value() -> None:
    got = persistence(windows([[1, 2, NAN], [NAN, 5, 6]], [[0, 0], [0, 0]]))
    assert got.shape == (2, 2, 9)
    assert (got[0] == 2).all()
    assert (got[1] == 6).all()


def test_window_mean_leaves_out_what_is_missing() -> None:
    assert window_mean(windows([[1, NAN, 3]], [[0]])).ravel().tolist() == [2.0] * 9


def test_seasonal_naive_takes_the_latest_value_of_the_phase() -> None:
    got = seasonal_naive(windows([[1, 2, 3, 4, 5, NAN]], [[0, 0, 0, 0]]), 3)[0, :, 4]
    assert got.tolist() == [4, 5, 3, 4]


def test_figures_by_hand() -> None:
    quantiles = np.broadcast_to(np.arange(1, 10, dtype=np.float32), (1, 3, 9)).copy()  # median 5
    got = figures(quantiles, np.array([[5, 20, NAN]], dtype=np.float32))
    assert got.mse == pytest.approx((0 + 225) / 2)
    assert got.coverage == 0.5
    levels = np.arange(1, 10) / 10
    pinball = [
        2 * np.maximum(levels * e, (levels - 1) * e).mean() for e in (5 - np.arange(1, 10), 20 - np.arange(1, 10))
    ]
    assert got.wql == pytest.approx(np.mean(pinball) / 12.5)


def test_a_perfect_forecast_removes_all_error() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(30, 2)).astype(np.float32)
    made = windows([[0.0, 0.0]] * 30, target.tolist())
    perfect = np.repeat(made.target[..., None], 9, axis=2)
    assert gain_interval(made, perfect, persistence(made)) == (1.0, 1.0)
    assert gain_interval(made, persistence(made), persistence(made)) == (0.0, 0.0)


def test_real_validation_never_reads_a_test_patient(reference_data: Path) -> None:
    got = patients(reference_data / "physionet2019_psv", "MAP", limit=50)
    from edge_tsfm.data.split import split_of

    assert got.item_id is not None
    assert {split_of(one) for one in got.item_id} == {"validation"}
    assert got.context.shape[1:] == (48,)


def test_a_season_longer_than_the_context_falls_back_to_the_contexts_mean() -> None:
    # Phases 3 and 4 of a season of 5 were never seen; 0 and 1 were.
    got = seasonal_naive(windows([[1, 2, 3]], [[0, 0, 0, 0]]), 5)
    np.testing.assert_allclose(got[0, :, 0], [2, 2, 1, 2])
