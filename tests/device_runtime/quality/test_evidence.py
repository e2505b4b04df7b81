"""Bets are fair where they must be, bounded always, and right often enough in the simulation's own world."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from device_runtime.errors import FormatError
from device_runtime.quality.evidence import (
    BETS,
    CLIP,
    FALSE_FLAG_UNITS,
    Drift,
    Trial,
    Verdict,
    Wealth,
    difference,
    log_mean,
    logs_of,
)
from device_runtime.quality.units import BLOCK, Losses, OpenUnit
from tests.simulators.field_verdicts import STEPS, drift, rollout, trial


@pytest.mark.parametrize(
    ("own", "other", "ratio", "wanted"),
    [
        (0.0, 0.0, 1.0, 0.0),
        (1.0, 1.0, 1.0, 0.0),
        (1.02, 1.0, 1.02, 0.0),
        (1e9, 0.0, 1.0, 1.0),
        (0.0, 1e-9, 1.0, -1.0),
        (1.1, 1.0, 1.0, 0.1 / 2.1 / CLIP),
    ],
)
def test_the_difference_is_bounded_and_zero_where_what_is_allowed_is_lost(
    own: float, other: float, ratio: float, wanted: float
) -> None:
    assert difference(own, other, ratio) == pytest.approx(wanted)
    assert difference(own, other) == pytest.approx(-difference(other, own))


def test_wealth_has_a_mean_of_one_when_the_game_is_fair() -> None:
    total = 0.0
    for signs in itertools.product((-1.0, 1.0), repeat=10):
        wealth = Wealth.one()
        for sign in signs:
            wealth.add(sign)
        total += math.exp(wealth.log)
    assert total / 2**10 == pytest.approx(1.0, rel=1e-12)


def test_the_detector_has_a_mean_of_the_units_seen_when_nothing_drifts() -> None:
    total = 0.0
    for signs in itertools.product((-0.5, 0.5), repeat=8):
        detector = Drift.none()
        for sign in signs:
            detector.add(sign)
        total += math.exp(detector.log)
    assert total / 2**8 == pytest.approx(8.0, rel=1e-12)
    assert detector.units == 8


def test_wealth_survives_any_length() -> None:
    wealth, detector = Wealth.one(), Drift.none()
    for _ in range(20_000):
        wealth.add(1.0)
        detector.add(1.0)
    assert wealth.log > 10_000
    assert detector.flagged
    for _ in range(40_000):
        wealth.add(-1.0)
    assert math.isfinite(wealth.log)
    assert log_mean([-math.inf] * len(BETS)) == -math.inf


@pytest.mark.parametrize("wrong", [[0.0], [math.nan] * len(BETS), [math.inf] * len(BETS)])
def test_logarithms_that_nobody_wrote_are_refused(wrong: list[float]) -> None:
    with pytest.raises(FormatError, match="logarithms"):
        logs_of(wrong)


def test_a_verdict_stays() -> None:
    judged = Trial.at(1.0)
    for _ in range(200):
        judged.add(2.0, 1.0)
    assert judged.verdict is Verdict.WORSE
    for _ in range(2_000):
        judged.add(1.0, 2.0)
    assert judged.verdict is Verdict.WORSE


def test_a_flag_is_raised_by_a_change_and_not_before_it() -> None:
    rng = np.random.default_rng(1)
    detector = Drift.none()
    for _ in range(1_000):
        detector.add(float(np.clip(rng.normal(-0.2, 0.4), -1, 1)))
    assert not detector.flagged
    for _ in range(100):
        detector.add(float(np.clip(rng.normal(0.4, 0.4), -1, 1)))
    assert detector.flagged
    assert detector.log > math.log(FALSE_FLAG_UNITS)


def test_blocks_share_no_target() -> None:
    unit, steps = OpenUnit(whole_stay=False), 6
    used: list[tuple[int, int]] = []
    held: list[tuple[int, int]] = []
    for origin in range(200):
        before = unit.own
        closed = unit.add(origin, steps, 1.0, 1.0)
        if closed is not None:
            used.append((min(o for o, _ in held) + 1, max(e for _, e in held)))
            held = []
            before = 0.0
        if unit.own > before:
            held.append((origin, origin + steps))
    assert len(used) == -(-200 // (BLOCK * steps)) - 1
    assert all(after[0] > first[1] for first, after in itertools.pairwise(used))


def test_a_stay_is_one_unit() -> None:
    unit = OpenUnit(whole_stay=True)
    assert all(unit.add(origin, 6, 2.0, 1.0) is None for origin in range(100))
    assert unit.close() == Losses(200.0, 100.0)
    assert unit.close() is None


def test_equal_adapters_are_hardly_ever_stopped_and_worse_ones_always_in_the_simulated_world() -> None:
    # docs/reference/field-quality.md has the whole table; here a handful of seeds, for the mechanism.
    equal = [trial(0.0, 2.0, np.random.default_rng(seed), 400, 0.0)[0] for seed in range(30)]
    assert Verdict.WORSE not in equal
    worse = [trial(10.0, 2.0, np.random.default_rng(seed), 400, 0.0) for seed in range(30)]
    assert {verdict for verdict, _ in worse} == {Verdict.WORSE}
    assert max(steps for _, steps in worse) < 400 * STEPS


def test_a_rollout_of_a_worse_adapter_is_stopped_by_its_figure() -> None:
    outcomes = [rollout(10.0, 5, np.random.default_rng(seed), 200, 0.0, judged=False)[0] for seed in range(5)]
    assert set(outcomes) == {"max_wql_vs_base_percent"}
    outcomes = [rollout(-2.0, 5, np.random.default_rng(seed), 200, 0.0, judged=False)[0] for seed in range(5)]
    assert set(outcomes) == {"finish"}


def test_the_drift_flag_follows_a_change() -> None:
    found = [drift(-3.0, 10.0, 100, np.random.default_rng(seed), 400, 0.0) for seed in range(10)]
    assert min(found) >= 100
    assert max(found) < 200
