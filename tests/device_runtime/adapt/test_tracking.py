"""Tracking keeps what the levels promise, within its cap, and in operations that C repeats bit for bit."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest

from device_runtime.adapt.tracking import Tracking
from device_runtime.errors import FormatError, InputError

LEVELS = tuple(j / 10 for j in range(1, 10))


def single(x: float) -> float:
    """Round a double to float32; beyond all floats it is infinite."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


class Plain:
    """The same in one scalar operation after another, as C does it."""

    def __init__(self, steps: int, offset_rate: float, width_rate: float, cap: float) -> None:
        self.offsets = [[0.0] * len(LEVELS) for _ in range(steps)]
        self.factor, self.offset_rate, self.width_rate, self.cap = 1.0, offset_rate, width_rate, cap

    def apply(self, rows: list[list[float]]) -> list[list[float]]:
        out = []
        for q, offsets in zip(rows, self.offsets, strict=False):
            width = q[-1] - q[0]
            a = [q[j] + offsets[j] * width for j in range(len(q))]
            middle = a[4]
            if self.factor != 1.0:
                a = [middle + (x - middle) * self.factor for x in a]
            out.append(sorted(single(x) for x in a))
        return out

    def learn(self, rows: list[list[float]], target: list[float]) -> None:
        observed = inside = 0
        for h, (q, y) in enumerate(zip(rows, target, strict=True)):
            if math.isnan(y) or not q[-1] > q[0]:
                continue
            observed += 1
            inside += q[0] <= y <= q[-1]
            for j, level in enumerate(LEVELS):
                moved = self.offsets[h][j] + self.offset_rate * (level if y > q[j] else level - 1.0)
                self.offsets[h][j] = min(max(moved, -self.cap), self.cap)
        if observed:
            nominal = LEVELS[-1] - LEVELS[0]
            grown = self.factor * (1.0 + self.width_rate * (nominal - inside / observed))
            self.factor = min(max(grown, 1.0 - self.cap), 1.0 + self.cap)


def forecasts(count: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.normal(80, 10, (count, steps, len(LEVELS))), -1).astype(np.float32)
    target = rng.normal(84, 14, (count, steps)).astype(np.float32)
    target[rng.random(target.shape) < 0.2] = np.nan
    quantiles[::7, 0] = 80.0  # no width: says nothing
    return quantiles, target


@pytest.mark.parametrize(("offset_rate", "width_rate"), [(0.001, 0.0), (0.0, 0.1), (0.03, 0.3)])
def test_it_is_the_scalar_arithmetic_bit_for_bit(offset_rate: float, width_rate: float) -> None:
    steps = 6
    tracking = Tracking(LEVELS, steps, offset_rate=offset_rate, width_rate=width_rate, cap=0.3)
    plain = Plain(steps, offset_rate, width_rate, 0.3)
    for quantiles, target in zip(*forecasts(300, steps, 1), strict=True):
        issued = tracking.apply(quantiles)
        assert issued.tolist() == plain.apply(quantiles.astype(float).tolist())
        tracking.learn(issued, target)
        plain.learn(issued.astype(float).tolist(), target.astype(float).tolist())
    assert tracking.offsets.tolist() == plain.offsets
    assert tracking.factor == plain.factor
    assert tracking.updates == 300


def test_it_begins_as_the_identity_and_ends_as_it() -> None:
    tracking = Tracking(LEVELS, 4, offset_rate=0.1, width_rate=0.2)
    quantiles, target = forecasts(20, 4, 2)
    assert np.array_equal(tracking.apply(quantiles[1]), quantiles[1])
    for one, y in zip(quantiles, target, strict=True):
        tracking.learn(tracking.apply(one), y)
    assert not np.array_equal(tracking.apply(quantiles[1]), quantiles[1])
    tracking.reset()
    assert np.array_equal(tracking.apply(quantiles[1]), quantiles[1])
    assert tracking.updates == 0


def test_offsets_bring_each_level_to_its_share() -> None:
    rng = np.random.default_rng(3)
    tracking = Tracking(LEVELS, 1, offset_rate=0.003, width_rate=0.0)
    quantiles = np.linspace(79, 81, 9, dtype=np.float32)[None]  # too narrow, and too low
    below = []
    for y in rng.normal(80.6, 1.0, 8_000).astype(np.float32):
        issued = tracking.apply(quantiles)
        below.append(y <= issued[0])
        tracking.learn(issued, np.array([y]))
    assert np.mean(below[4_000:], axis=0) == pytest.approx(LEVELS, abs=0.03)


def test_the_factor_brings_the_band_to_its_share() -> None:
    rng = np.random.default_rng(4)
    tracking = Tracking(LEVELS, 6, offset_rate=0.0, width_rate=0.1)
    quantiles = np.repeat(np.linspace(78, 82, 9, dtype=np.float32)[None], 6, 0)
    covered = []
    for y in rng.normal(80, 2.2, (3_000, 6)).astype(np.float32):
        issued = tracking.apply(quantiles)
        covered.append(((issued[:, 0] <= y) & (y <= issued[:, -1])).mean())
        tracking.learn(issued, y)
    assert np.mean(covered[500:]) == pytest.approx(0.8, abs=0.01)


def test_nothing_goes_beyond_its_cap_whatever_comes() -> None:
    tracking = Tracking(LEVELS, 2, offset_rate=0.5, width_rate=0.9, cap=0.25)
    quantiles = np.repeat(np.linspace(78, 82, 9, dtype=np.float32)[None], 2, 0)
    for y in (1e30, -1e30, 1e30, 80.0):
        for _ in range(20):
            tracking.learn(tracking.apply(quantiles), np.full(2, y, dtype=np.float32))
            assert np.abs(tracking.offsets).max() <= 0.25
            assert 0.75 <= tracking.factor <= 1.25


def test_missing_targets_and_forecasts_without_width_teach_nothing() -> None:
    tracking = Tracking(LEVELS, 2, offset_rate=0.1, width_rate=0.1)
    quantiles = np.repeat(np.linspace(78, 82, 9, dtype=np.float32)[None], 2, 0)
    tracking.learn(quantiles, np.full(2, np.nan, dtype=np.float32))
    tracking.learn(np.full_like(quantiles, 80), np.full(2, 90, dtype=np.float32))
    assert (tracking.updates, tracking.factor, float(np.abs(tracking.offsets).max())) == (0, 1.0, 0.0)
    tracking.learn(quantiles, np.array([90, np.nan], dtype=np.float32))
    assert tracking.offsets[0].tolist() == [0.1 * level for level in LEVELS]
    assert tracking.offsets[1].tolist() == [0.0] * 9


def test_what_was_learnt_survives_a_restart() -> None:
    tracking = Tracking(LEVELS, 3, offset_rate=0.01, width_rate=0.1)
    for one, y in zip(*forecasts(30, 3, 5), strict=True):
        tracking.learn(tracking.apply(one), y)
    again = Tracking(LEVELS, 3, offset_rate=0.01, width_rate=0.1)
    again.restore(json.loads(json.dumps(tracking.to_value())))
    assert (again.offsets == tracking.offsets).all()
    assert (again.factor, again.updates) == (tracking.factor, tracking.updates)


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": [[0.0] * 9]},
        {"offsets": [[0.6] * 9] * 2},
        {"offsets": [[math.nan] * 9] * 2},
        {"offsets": "none"},
        {"factor": 1.6},
        {"factor": math.nan},
        {"factor": None},
        {"updates": -1},
        {"updates": True},
    ],
)
def test_what_it_did_not_write_is_refused(change: dict[str, object]) -> None:
    tracking = Tracking(LEVELS, 2, offset_rate=0.01, width_rate=0.1)
    with pytest.raises(FormatError, match="tracking"):
        tracking.restore({**tracking.to_value(), **change})
    with pytest.raises(FormatError, match="tracking"):
        tracking.restore(None)
    assert (tracking.factor, float(np.abs(tracking.offsets).max())) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("levels", "steps", "rate", "cap"),
    [
        ((0.1, 0.9), 6, 0.1, 0.5),
        ((0.5, 0.1, 0.9), 6, 0.1, 0.5),
        ((0.5, 0.7, 0.9), 6, 0.1, 0.5),
        (LEVELS, 0, 0.1, 0.5),
        (LEVELS, 5_000, 0.1, 0.5),
        (LEVELS, 6, 1.5, 0.5),
        (LEVELS, 6, math.nan, 0.5),
        (LEVELS, 6, 0.1, 1.0),
    ],
)
def test_rules_that_mean_nothing_are_refused(levels: tuple[float, ...], steps: int, rate: float, cap: float) -> None:
    with pytest.raises(InputError):
        Tracking(levels, steps, offset_rate=rate, width_rate=0.1, cap=cap)


def test_a_forecast_of_another_shape_is_refused() -> None:
    tracking = Tracking(LEVELS, 2, offset_rate=0.1, width_rate=0.1)
    for shape in ((3, 9), (2, 8), (0, 9), (9,)):
        with pytest.raises(InputError, match="want 1 to 2 steps"):
            tracking.apply(np.zeros(shape, dtype=np.float32))
    with pytest.raises(InputError, match="one for each step"):
        tracking.learn(np.zeros((2, 9), dtype=np.float32), np.zeros(1, dtype=np.float32))
