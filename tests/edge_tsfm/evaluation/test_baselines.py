import math
from statistics import NormalDist

import numpy as np
import pytest

from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation.baselines import (
    ALPHAS,
    BASELINES,
    baseline_quantiles,
    exponential_smoothing,
    linear_trend,
    persistence,
    seasonal_quantiles,
    window_mean,
)
from tests.support.forecasts import LEVELS, ward


def holed(seed: int, rows: int = 20, length: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = 80 + rng.standard_normal((rows, length)).cumsum(1)
    values[rng.random(values.shape) < 0.25] = np.nan
    values[:, :5] = np.nan  # padding
    return values


def test_persistence_carries_the_last_value_and_knows_what_that_missed_before() -> None:
    context = np.array([[np.nan, 10.0, 13.0, np.nan, 12.0, 12.0]])
    point, sigma = persistence(context, 3)
    assert point.tolist() == [[12.0] * 3]
    # one step: 3, 0; two: 1 (12 - 13); three: 2 (12 - 10), 1 (12 - 13)
    np.testing.assert_allclose(sigma[0], [math.sqrt(9 / 2), 1, math.sqrt(5 / 2)])


def test_persistence_counts_from_the_last_observed_value() -> None:
    values = holed(1)
    values[:, -3:] = np.nan
    values[:, -4] = 80
    early, late = persistence(values[:, :-3], 9), persistence(values, 6)
    np.testing.assert_allclose(late[0], early[0][:, 3:])
    np.testing.assert_allclose(late[1], early[1][:, 3:])


def test_persistence_beyond_its_context_grows_as_a_random_walk() -> None:
    point, sigma = persistence(np.array([[10.0, 12.0, 10.0]]), 8)
    assert point.shape == (1, 8)
    np.testing.assert_allclose(sigma[0, :2], [2, 0])
    np.testing.assert_allclose(sigma[0, 2:], 0)
    point, sigma = persistence(np.array([[10.0, 12.0]]), 4)
    np.testing.assert_allclose(sigma[0], 2 * np.sqrt([1, 2, 3, 4]))


@pytest.mark.parametrize("seed", range(3))
def test_mean_and_trend_are_numpys(seed: int) -> None:
    values = holed(seed)
    mean, spread = window_mean(values, 6)
    line, error = linear_trend(values, 6)
    ahead = np.arange(values.shape[1], values.shape[1] + 6)
    for n, row in enumerate(values):
        x = np.flatnonzero(~np.isnan(row))
        y = row[x]
        np.testing.assert_allclose(mean[n], y.mean())
        np.testing.assert_allclose(spread[n], y.std(ddof=1) * math.sqrt(1 + 1 / len(y)))
        fit = np.polynomial.Polynomial.fit(x, y, 1)
        np.testing.assert_allclose(line[n], fit(ahead))
        s2 = np.square(y - fit(x)).sum() / (len(y) - 2)
        leverage = 1 + 1 / len(y) + np.square(ahead - x.mean()) / np.square(x - x.mean()).sum()
        np.testing.assert_allclose(error[n], np.sqrt(s2 * leverage))


@pytest.mark.parametrize("seed", range(3))
def test_exponential_smoothing_is_the_recursion_with_the_best_alpha_of_the_context(seed: int) -> None:
    values = holed(seed)
    point, sigma = exponential_smoothing(values, 6)
    for n, row in enumerate(values):
        results = []
        for alpha in ALPHAS:
            seen = [float(y) for y in row if not math.isnan(y)]
            level, squares = seen[0], 0.0
            for y in seen[1:]:
                squares += (y - level) ** 2
                level += alpha * (y - level)
            results.append((squares, level, alpha))
        squares, level, alpha = min(results)
        np.testing.assert_allclose(point[n], level)
        age = len(row) - 1 - np.flatnonzero(~np.isnan(row))[-1]
        lead = age + np.arange(1, 7)
        variance = squares / (np.count_nonzero(~np.isnan(row)) - 2)
        np.testing.assert_allclose(sigma[n], np.sqrt(variance * (1 + alpha**2 * (lead - 1))))


def test_quantiles_are_gaussian_around_the_point() -> None:
    values = holed(0)
    for name, forecast in BASELINES.items():
        point, sigma = forecast(values, 4)
        quantiles = baseline_quantiles(name, values.astype(np.float64), 4, LEVELS)
        assert quantiles.shape == (20, 4, 9)
        np.testing.assert_allclose(quantiles[..., 4], point)
        np.testing.assert_allclose(quantiles[..., 8] - point, NormalDist().inv_cdf(0.9) * sigma)
        assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_bands_cover_what_they_say_where_their_assumption_holds() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3000, 54))
    walk = noise.cumsum(1)
    for name, values in (
        ("window_mean", noise),
        ("linear_trend", noise + 0.3 * np.arange(54)),
        ("exponential_smoothing", noise),
        ("exponential_smoothing", walk),
        ("persistence", noise),
        ("persistence", walk),
    ):
        quantiles = baseline_quantiles(name, values[:, :48], 6, LEVELS)
        inside = (quantiles[..., 0] <= values[:, 48:]) & (values[:, 48:] <= quantiles[..., 8])
        assert inside.mean() == pytest.approx(0.8, abs=0.03), name


def test_padding_changes_nothing() -> None:
    values = holed(2)
    padded = np.concatenate([np.full((20, 18), np.nan), values], axis=1)
    for name in BASELINES:
        np.testing.assert_allclose(
            baseline_quantiles(name, padded, 6, LEVELS), baseline_quantiles(name, values, 6, LEVELS), rtol=1e-9
        )


def test_a_constant_context_gives_a_band_without_width_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    one = np.full((2, 12), np.nan)
    one[:, -1] = 97.0
    one[1, :] = 97.0
    for name in BASELINES:
        np.testing.assert_array_equal(baseline_quantiles(name, one, 6, LEVELS), 97.0)
    assert not list(recwarn)


def test_an_empty_context_is_refused() -> None:
    values = ward().context.copy()
    values[3] = np.nan
    with pytest.raises(DataError, match="1 of 200 contexts hold no value"):
        baseline_quantiles("persistence", values, 6, LEVELS)


def test_seasonal_naive_repeats_each_phase_and_knows_what_that_missed_before() -> None:
    context = np.array([[1.0, 2.0, 3.0, 4.0, np.nan, 6.0]])
    quantiles = seasonal_quantiles(context, 4, [0.1, 0.5, 0.9], 3)
    assert quantiles[0, :, 1].tolist() == [4.0, 2.0, 6.0, 4.0]  # the hole's phase goes a season further back
    sigma = (quantiles[0, :, 2] - quantiles[0, :, 1]) / NormalDist().inv_cdf(0.9)
    # changes over a season: 4 - 1, 6 - 3; one season ahead, two, one, two
    np.testing.assert_allclose(sigma, np.array([3, 3 * math.sqrt(2), 3, 3 * math.sqrt(2)]))


def test_seasonal_naive_without_two_seasons_takes_the_contexts_spread() -> None:
    context = np.array([[np.nan, np.nan, 4.0, 8.0]])
    quantiles = seasonal_quantiles(context, 4, [0.1, 0.5, 0.9], 4)
    assert quantiles[0, :, 1].tolist() == [6.0, 6.0, 4.0, 8.0]  # unseen phases: the mean
    assert (quantiles[..., 2] > quantiles[..., 1]).all()


def test_a_season_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="a season of 24 steps does not fit a context of 10"):
        seasonal_quantiles(np.ones((1, 10)), 4, LEVELS, 24)
