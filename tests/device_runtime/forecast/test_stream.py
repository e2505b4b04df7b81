import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.errors import InputError
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.stream import Stream, StreamSignal
from tests.support.rounding import assert_near, noise

MINUTE = 60_000


def stream(length: int = 8, low: float = 20, high: float = 300) -> Stream:
    return Stream(
        None, (StreamSignal(name="HR", interval_ms=MINUTE, low=low, high=high),), context_length=length, min_observed=2
    )


def test_samples_in_order_are_the_context() -> None:
    feed = stream()
    assert all(feed.push("HR", step * MINUTE, 80 + step) for step in range(3))
    np.testing.assert_array_equal(feed.context("HR"), [np.nan] * 5 + [80, 81, 82])


def test_a_gap_stays_missing_and_a_late_sample_fills_it() -> None:
    feed = stream(4)
    feed.push("HR", 0, 80)
    feed.push("HR", 3 * MINUTE, 83)
    np.testing.assert_array_equal(feed.context("HR"), [80, np.nan, np.nan, 83])
    assert not feed.push("HR", 1 * MINUTE, 81)
    np.testing.assert_array_equal(feed.context("HR"), [80, 81, np.nan, 83])
    assert feed.counts == {"late": 1}


def test_a_late_sample_never_overwrites_and_one_from_before_the_buffer_is_a_stray() -> None:
    feed = stream(4)
    for step in range(6):
        feed.push("HR", step * MINUTE, 80 + step)
    feed.push("HR", 4 * MINUTE + 1, 200)
    feed.push("HR", 1 * MINUTE + 1, 200)
    np.testing.assert_array_equal(feed.context("HR"), [82, 83, 84, 85])
    assert feed.counts == {"dropped": 1, "stray": 1}


def test_the_latest_sample_of_the_newest_step_stands_for_it() -> None:
    feed = stream(2)
    feed.push("HR", 0, 80)
    feed.push("HR", 30_000, 90)
    assert feed.context("HR")[-1] == 90
    assert feed.counts == {"replaced": 1}


def test_a_repeated_stamp_is_ignored() -> None:
    feed = stream(2)
    feed.push("HR", 0, 80)
    feed.push("HR", 0, 99)
    assert feed.context("HR")[-1] == 80
    assert feed.counts == {"duplicate": 1}


def test_of_the_newest_step_the_latest_stamp_counts_not_the_latest_arrival() -> None:
    feed = stream(2)
    feed.push("HR", 30_000, 90)
    feed.push("HR", 0, 80)
    assert feed.context("HR")[-1] == 90
    assert feed.counts == {"dropped": 1}


UNUSABLE = [(0.0, True), (400.0, True), (float("nan"), True), (float("inf"), True), (80.0, False)]


@pytest.mark.parametrize(("value", "good"), UNUSABLE)
def test_what_is_not_a_measurement_changes_nothing(value: float, good: bool) -> None:
    feed = stream(4)
    feed.push("HR", 0, 80)
    assert not feed.push("HR", 3 * MINUTE, value, good=good)  # nor does time move
    assert not feed.push("HR", 900 * MINUTE, value, good=good)
    assert feed.push("HR", MINUTE, 81)
    assert not feed.push("HR", 1 * MINUTE + 1, value, good=good)
    assert not feed.push("HR", 1 * MINUTE + 1, 82)  # the stamp of a rejected sample is free
    np.testing.assert_array_equal(feed.context("HR"), [np.nan, np.nan, 80, 82])
    assert feed.counts == {"rejected": 3, "replaced": 1}


def test_both_ends_of_the_plausible_range_are_measurements() -> None:
    feed = stream(2, low=20, high=300)
    assert feed.push("HR", 0, 20)
    assert feed.push("HR", MINUTE, 300)
    np.testing.assert_array_equal(feed.context("HR"), [20, 300])


def test_what_float32_cannot_hold_is_no_measurement() -> None:
    feed = stream(low=-np.inf, high=np.inf)
    feed.push("HR", 0, 1e39)
    assert feed.counts == {"rejected": 1}
    assert np.isnan(feed.context("HR")).all()


@pytest.mark.parametrize("wrong", [4, 1_000_000, -4, -1_000_000])
def test_one_wrong_clock_reading_empties_and_blocks_nothing(wrong: int) -> None:
    feed = stream(4)
    feed.push("HR", 0, 80)
    assert not feed.push("HR", wrong * MINUTE, 90)
    assert feed.push("HR", MINUTE, 81)
    np.testing.assert_array_equal(feed.context("HR"), [np.nan, np.nan, 80, 81])
    assert feed.counts == {"stray": 1}


def test_three_samples_that_agree_move_the_buffer_ahead() -> None:
    feed = stream(4)
    feed.push("HR", 0, 80)
    assert [feed.push("HR", step * MINUTE, step) for step in (100, 101, 102, 103)] == [False, False, True, True]
    np.testing.assert_array_equal(feed.context("HR"), [np.nan, np.nan, 102, 103])
    assert feed.counts == {"stray": 2, "restarted": 1}


def test_strays_that_do_not_agree_move_nothing() -> None:
    feed = stream(4)
    feed.push("HR", 0, 80)
    for step in (100, 200, 300, 400, 399, 398, 5, 5, 5):  # too far apart, backwards, the same
        assert not feed.push("HR", step * MINUTE, 90)
    assert feed.push("HR", MINUTE, 81)
    assert feed.counts == {"stray": 9}


def test_a_clock_set_back_is_believed_after_a_whole_buffer() -> None:
    feed = stream(4)
    feed.push("HR", 1_000 * MINUTE, 80)
    assert [feed.push("HR", step * MINUTE, 60 + step) for step in range(5)] == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(feed.context("HR"), [np.nan, np.nan, 63, 64])
    assert feed.counts == {"stray": 3, "restarted": 1}


def test_too_little_to_forecast_from_is_an_error_not_a_forecast(dummy_bundle) -> None:
    feed = Stream(
        Forecaster.open(dummy_bundle), (StreamSignal(name="HR", interval_ms=MINUTE),), context_length=8, min_observed=3
    )
    feed.push("HR", 0, 80)
    feed.push("HR", MINUTE, 81)
    with pytest.raises(InputError, match="2 observed steps, want 3"):
        feed.forecast("HR")
    feed.push("HR", 2 * MINUTE, 82)
    expected = feed.forecaster.forecast([80, 81, 82], 4).quantiles
    allowed = noise(lambda one: feed.forecaster.forecast(one, 4).quantiles, [80, 81, 82])
    assert_near(feed.forecast("HR", 4).quantiles, expected, allowed)


def test_an_unknown_signal_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown signal 'MAP'"):
        stream().push("MAP", 0, 80)


def interruption() -> st.SearchStrategy[tuple[int, float, bool]]:
    """A sample that must change nothing: at any time without a measurement, or far away with one."""
    anytime, far = st.integers(-(2**53), 2**53), st.integers(1_000 * MINUTE, 2**53)
    return st.tuples(anytime, st.sampled_from([np.nan, np.inf, 1e39, 0.0]), st.booleans()) | st.tuples(
        far | far.map(lambda t: -t), st.just(80.0), st.just(True)
    )


@given(st.lists(st.tuples(st.integers(30, 200), st.lists(interruption(), max_size=2)), min_size=1, max_size=30))
def test_up_to_two_bad_samples_between_good_ones_leave_no_trace(steps: list) -> None:
    clean, disturbed = stream(8), stream(8)
    for step, (value, bad) in enumerate(steps):
        clean.push("HR", step * MINUTE, value)
        disturbed.push("HR", step * MINUTE, value)
        assert not any(disturbed.push("HR", t_ms, wrong, good=good) for t_ms, wrong, good in bad)
        np.testing.assert_array_equal(disturbed.context("HR"), clean.context("HR"))


@given(st.lists(st.tuples(st.integers(0, 7 * MINUTE), st.integers(30, 200)), max_size=60))
def test_in_any_order_each_step_holds_one_of_its_own_samples(samples: list[tuple[int, int]]) -> None:
    feed = stream(8)
    for stamp, value in samples:
        feed.push("HR", stamp, value)
    context = feed.context("HR")
    assert sum(np.isfinite(context)) == len({stamp // MINUTE for stamp, _ in samples})
    newest = max((stamp // MINUTE for stamp, _ in samples), default=0)
    for place, value in enumerate(context):
        step = newest - len(context) + 1 + place
        if np.isfinite(value):
            assert (step, int(value)) in {(stamp // MINUTE, value) for stamp, value in samples}
