"""The bounds themselves: right results of any order of summation pass, wrong ones do not."""

import numpy as np
import pytest

from tests.support.rounding import FACTOR, ROUNDOFF, assert_near, judged, noise, sums


def layers(weights: list[np.ndarray], x: np.ndarray, dtype: type, blocks: int = 1) -> np.ndarray:
    """A small network, its sums in ``blocks`` parts as vector units do them."""
    x = x.astype(dtype)
    for weight in weights:
        parts = [
            a.astype(dtype) @ b.astype(dtype)
            for a, b in zip(np.array_split(x, blocks, 1), np.array_split(weight, blocks, 0), strict=True)
        ]
        x = np.tanh(sum(parts[1:], parts[0]))
    return x


@pytest.fixture(scope="module")
def network() -> tuple[list[np.ndarray], np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.normal(size=(64, 64)).astype(np.float32) / 6 for _ in range(4)], draw.normal(size=(20, 64))


@pytest.mark.parametrize("blocks", [2, 4, 8, 16, 64])
def test_every_order_of_summation_passes(network: tuple[list[np.ndarray], np.ndarray], blocks: int) -> None:
    weights, x = network
    x = x.astype(np.float32)
    exact = layers(weights, x, np.float64)
    ours, theirs = layers(weights, x, np.float32, blocks), layers(weights, x, np.float32)
    judged(ours, theirs, exact)
    judged(theirs, ours, exact)
    assert_near(ours, theirs, noise(lambda one: layers(weights, one, np.float32), x))


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("share", [1e-4, 1.0])
def test_a_changed_weight_does_not(network: tuple[list[np.ndarray], np.ndarray], layer: int, share: float) -> None:
    """A ten-thousandth of one layer is enough to be seen, and so is one that was forgotten."""
    weights, x = network
    x = x.astype(np.float32)
    wrong = [(w * (1 + share)).astype(np.float32) if n == layer else w for n, w in enumerate(weights)]
    ours, theirs = layers(wrong, x, np.float32), layers(weights, x, np.float32)
    with pytest.raises(AssertionError, match="allowed"):
        judged(ours, theirs, layers(weights, x, np.float64))
    if share == 1:
        with pytest.raises(AssertionError):
            assert_near(ours, theirs, noise(lambda one: layers(weights, one, np.float32), x))


def test_nothing_that_is_not_a_number_passes() -> None:
    one, bad = np.ones(3), np.array([1.0, np.nan, 1.0])
    with pytest.raises(AssertionError):
        judged(bad, one, one)
    with pytest.raises(AssertionError):
        assert_near(bad, one, 1.0)
    judged(one * (1 + FACTOR * ROUNDOFF), one, one)
    with pytest.raises(AssertionError):
        judged(one * (1 + 2 * FACTOR * ROUNDOFF), one, one)


@pytest.mark.parametrize("length", [2, 100, 10_000])
def test_a_sum_stays_within_its_bound_in_the_worst_order(length: int) -> None:
    terms = np.random.default_rng(length).normal(size=length).astype(np.float32)
    total = np.float32(0)
    for term in np.sort(terms):  # ascending: partial sums as large as they get
        total = np.float32(total + term)
    exact = float(terms.astype(np.float64).sum())
    assert abs(float(total) - exact) <= sums(length, float(np.abs(terms).sum()))
    assert sums(length) < 2e-7 * length, "and is no wider than it says"
