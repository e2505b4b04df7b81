import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tsfm.evaluation import bootstrap
from edge_tsfm.evaluation.bootstrap import bounds, patient_sums, ratio, resample
from edge_tsfm.evaluation.evaluate import paired


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_sums_are_each_patients_own(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    names = np.array([f"p{k}" for k in rng.integers(0, 7, rows)])
    scores = rng.normal(size=(rows, 2, 3))
    wanted = np.stack([scores[names == name].sum(0) for name in np.unique(names)])
    np.testing.assert_allclose(patient_sums(scores, names), wanted)


def test_patients_are_drawn_whole_and_in_blocks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    once = resample(np.eye(6), resamples=40, seed=3)  # [40, 6]: how often each patient was drawn
    assert (once.sum(1) == 6).all()
    assert (once == once.astype(int)).all()
    assert once.std() > 0.5
    np.testing.assert_array_equal(once, resample(np.eye(6), resamples=40, seed=3))
    assert not np.array_equal(once, resample(np.eye(6), resamples=40, seed=4))
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", 18)
    np.testing.assert_array_equal(once, resample(np.eye(6), resamples=40, seed=3))


def test_a_ratio_of_nothing_is_not_a_number() -> None:
    np.testing.assert_array_equal(ratio(np.array([[3.0, 2.0], [0.0, 0.0]])), [1.5, np.nan])


def test_bounds_are_central_and_say_when_a_draw_was_empty() -> None:
    np.testing.assert_allclose(bounds(np.arange(101.0), confidence=0.9), [5, 95])
    assert np.isnan(bounds(np.array([1.0, np.nan, 2.0]), confidence=0.9)).all()


def test_intervals_cover_the_truth_as_often_as_they_say_and_windows_alone_would_not() -> None:
    """Errors of a patient's windows hang together; 300 wards of 100 patients with 10 windows each."""
    rng = np.random.default_rng(0)
    inside = {"patients": 0, "windows": 0}
    for ward in range(300):
        error = rng.normal(1.0, 0.3, (100, 1)) + rng.normal(0, 0.3, (100, 10))
        for unit, rows in (("patients", error), ("windows", error.reshape(-1, 1))):
            sums = np.stack([rows.sum(1), np.full(len(rows), rows.shape[1])], -1)
            low, high = bounds(ratio(resample(sums, resamples=400, seed=ward)), confidence=0.95)
            inside[unit] += bool(low <= 1.0 <= high)
    assert 0.9 <= inside["patients"] / 300 <= 0.985
    assert inside["windows"] / 300 < 0.75


def test_pairing_takes_out_what_both_forecasters_share() -> None:
    rng = np.random.default_rng(1)
    hard = rng.lognormal(0, 1, 200)
    base, adapter = hard * 10, hard * 9.5 * rng.normal(1, 0.02, 200)
    sums = np.stack([np.stack([one, np.full(200, 10.0)], -1) for one in (adapter, base)], 1)[:, :, None]
    figures, absolute, relative = paired(sums, seed=0, resamples=500, confidence=0.95)
    assert figures[1, 1, 0] < figures[0, 0, 0] < figures[2, 1, 0]  # unpaired, they cannot be told apart
    assert absolute[2, 1, 0] < 0
    assert relative[1:, 1, 0] == pytest.approx([-0.05, -0.05], abs=0.01)
    assert absolute[:, 0, 0] == pytest.approx([0, 0, 0])
