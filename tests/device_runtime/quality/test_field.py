"""Forecasts remembered until their targets are in: the same figures as a plain loop over the whole feed gives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from device_runtime.errors import FormatError, SettingsError
from device_runtime.quality.evidence import Verdict
from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import BUDGET, Made
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scores import PLACES, STEPS, score

HOUR = 3_600_000
LEVELS = tuple(round(0.1 * n, 1) for n in range(1, 10))
H, L = 6, 16
RULES = QualityRules(shadow_every=2, late_steps=2, min_reported=20)


def made(origin: int, adapter: str | None, worse: float = 0.0) -> Made:
    """A forecast that depends on its origin alone."""
    rng = np.random.default_rng(origin)
    centre = 80 + worse + rng.normal(0, 3, (H, 1))
    return Made(adapter=adapter, quantiles=np.sort(centre + rng.normal(0, 4, (H, 9)), axis=1).astype(np.float32))


def context_of(values: Mapping[int, float], origin: int) -> np.ndarray:
    return np.array([values.get(step, math.nan) for step in range(origin - L + 1, origin + 1)], dtype=np.float32)


def run(
    field: FieldQuality, feed: Iterable[tuple[int, float]], values: Mapping[int, float], adapter: str | None = "a"
) -> list[int]:
    """Feed ``(t_ms, value)`` and forecast at each new step; return the origins."""
    origins: list[int] = []
    newest = -math.inf
    for t_ms, value in feed:
        field.observe("MAP", t_ms, value, interval_ms=HOUR)
        step = t_ms // HOUR
        if step > newest and not math.isnan(value):
            newest = step
            keep, shadowed = field.wants("MAP", H, 9)
            assert keep
            shadows = {"base": made(step, None, 1.0)} if shadowed else {}
            field.remember("MAP", made(step, adapter), LEVELS, context_of(values, step), shadows)
            origins.append(step)
    return origins


def ward(steps: int, missing: float = 0.1, seed: int = 3) -> dict[int, float]:
    rng = np.random.default_rng(seed)
    walk = 80 + np.cumsum(rng.normal(0, 1, steps))
    return {step: float(np.float32(walk[step])) for step in range(steps) if rng.random() > missing}


def expected(
    values: Mapping[int, float], origins: Iterable[int], adapter: str | None, worse: float = 0.0
) -> np.ndarray:
    total = np.zeros(PLACES + 9)
    for origin in origins:
        target = np.array([values.get(step, math.nan) for step in range(origin + 1, origin + H + 1)], dtype=np.float32)
        context = context_of(values, origin)
        change = np.abs(np.diff(context.astype(np.float64)))
        scale = float(np.nanmean(change)) if np.isfinite(change).any() else 0.0
        total += score(made(origin, adapter, worse).quantiles, target, np.array(LEVELS), scale)
    return total


def test_every_forecast_is_scored_once_its_targets_are_in() -> None:
    values = ward(200)
    field = FieldQuality(RULES)
    origins = run(field, [(step * HOUR, value) for step, value in values.items()], values)
    field.end_stay("MAP")
    (scored,) = field._signals["MAP"]
    np.testing.assert_allclose(scored.total.values, expected(values, origins, "a"), rtol=1e-12)
    beside = scored.against["base"]
    np.testing.assert_allclose(beside.own.values, expected(values, origins[::2], "a"), rtol=1e-12)
    np.testing.assert_allclose(beside.other.values, expected(values, origins[::2], None, 1.0), rtol=1e-12)
    days = sum(sums.values for sums in scored.days.values())
    np.testing.assert_allclose(days, scored.total.values, rtol=1e-12)
    assert field.figures()["MAP"][0]["against"]["base"]["wql_percent"] == pytest.approx(beside.percent)


def test_late_repeated_and_useless_samples_change_nothing_that_they_should_not() -> None:
    values = ward(120, missing=0.0)
    feed: list[tuple[int, float]] = []
    for step, value in values.items():
        if step % 7 == 3:  # comes two steps late
            continue
        feed.append((step * HOUR + 60_000, value))
        feed.append((step * HOUR + 60_000, value + 50))  # the same stamp again
        feed.append((step * HOUR + 30_000, value + 50))  # an earlier one of the same step
        feed.append((step * HOUR + 61_000, math.nan))
        feed.append((step * HOUR + 62_000, math.inf))
        if (step - 2) % 7 == 3:
            feed.append(((step - 2) * HOUR + 1_000, values[step - 2]))
            feed.append(((step - 2) * HOUR + 2_000, values[step - 2] + 50))  # filled already
    field = FieldQuality(RULES)
    seen = {step: value for step, value in values.items() if step % 7 != 3 or step + 2 < 120}
    origins = run(field, feed, values)
    field.end_stay("MAP")
    np.testing.assert_allclose(field._signals["MAP"][0].total.values, expected(seen, origins, "a"), rtol=1e-12)


def test_a_later_sample_of_the_newest_step_stands_for_it() -> None:
    field = FieldQuality(RULES)
    values = {0: 80.0, 1: 90.0}
    run(field, [(0, 80.0), (HOUR, 70.0), (HOUR + 1, 90.0)], values)
    field.end_stay("MAP")
    assert field._signals["MAP"][0].total.values[3] == 90.0  # the sum of absolute targets


def test_a_forecast_is_scored_when_late_samples_have_had_their_time_and_not_before() -> None:
    field = FieldQuality(RULES)
    run(field, [(0, 80.0)], {0: 80.0})
    for step in range(1, H + 3):
        assert field.observe("MAP", step * HOUR, 80.0, interval_ms=HOUR) == 0
    assert field.observe("MAP", (H + 3) * HOUR, 80.0, interval_ms=HOUR) == 1


def test_a_clock_ahead_leaves_targets_missing_and_one_set_back_gives_them_up() -> None:
    field = FieldQuality(RULES)
    run(field, [(0, 80.0), (HOUR, 81.0)], {0: 80.0, 1: 81.0})
    assert field.observe("MAP", 10_000 * HOUR, 82.0, interval_ms=HOUR) == 2
    assert field._signals["MAP"][0].total.values[:3].tolist() == [1.0, 1.0, 11.0]  # forecasts, steps, missing
    run(field, [(10_001 * HOUR, 80.0), (500 * HOUR, 80.0)], {})
    assert field._series["MAP", ""].waiting == 0
    assert field._series["MAP", ""].newest == 500
    assert field._signals["MAP"][0].total.steps == 1.0


def test_memory_is_bounded_whatever_the_horizon_and_the_feed() -> None:
    for steps in (6, 64, 1024):
        field = FieldQuality(QualityRules(shadow_every=1))
        most = 0
        for second in range(300 if steps < 1024 else 1_100):
            field.observe("HR", second * 1_000, 70.0, interval_ms=1_000)
            keep, _ = field.wants("HR", steps, 9)
            if keep:
                quantiles = np.full((steps, 9), 70.0, dtype=np.float32)
                one = Made(adapter="a", quantiles=quantiles)
                field.remember("HR", one, LEVELS, np.full(L, 70.0), {"base": one, "previous": one})
            most = max(most, field.size if second % 50 == 0 else 0)
        assert most <= 3 * BUDGET + 16 * (steps + 5)
        assert field._signals["HR"][0].total.steps > 200


def test_more_signals_and_series_than_are_watched_are_counted() -> None:
    field = FieldQuality(RULES)
    for number in range(70):
        field.observe("HR", 0, 70.0, interval_ms=HOUR, series=str(number))
    assert field.left_out == 6


def test_what_was_saved_goes_on_exactly() -> None:
    values = ward(300)
    feed = [(step * HOUR, value) for step, value in values.items()]
    whole, first, second = (
        FieldQuality(RULES, ratio=1.0),
        FieldQuality(RULES, ratio=1.0),
        FieldQuality(RULES, ratio=1.0),
    )
    for field in (whole, first):
        run(field, feed[:120], values)
        field.end_stay("MAP")
    second.restore(json.loads(json.dumps(first.to_value())))
    assert second.to_value() == first.to_value()
    for field in (whole, second):
        run(field, feed[120:], values)
        field.end_stay("MAP")
    assert second.figures() == whole.figures()
    assert second.to_value() == whole.to_value()


def test_evidence_that_was_gathered_for_another_limit_decides_nothing() -> None:
    values = ward(600)
    first = FieldQuality(RULES, ratio=1 + 1e6)
    run(first, [(step * HOUR, value) for step, value in values.items()], values)
    first.end_stay("MAP")
    saved = json.loads(json.dumps(first.to_value()))
    for ratio, verdict in ((1 + 1e6, Verdict.BETTER), (0.5, Verdict.OPEN), (None, Verdict.OPEN)):
        other = FieldQuality(RULES, ratio=ratio)
        other.restore(saved)
        assert other.judge("a", 20).verdict is verdict
        assert other.figures()["MAP"][0]["wql"] == first.figures()["MAP"][0]["wql"]


@pytest.mark.parametrize("spoil", ["version", "signals", "sums", "negative", "logs", "none"])
def test_what_this_monitor_did_not_write_is_refused_and_changes_nothing(spoil: str) -> None:
    field = FieldQuality(RULES, ratio=1.0)
    values = ward(60)
    run(field, [(step * HOUR, value) for step, value in values.items()], values)
    value = json.loads(json.dumps(field.to_value()))
    scored = value["signals"]["MAP"][0]
    match spoil:
        case "version":
            value["version"] = 99
        case "signals":
            value["signals"] = [1]
        case "sums":
            scored["total"].pop()
        case "negative":
            scored["total"][STEPS] = -1
        case "logs":
            scored["against"]["base"]["trial"][2].append(1.0)
        case "none":
            value = None
    before = field.to_value()
    with pytest.raises(FormatError, match="quality"):
        field.restore(value)
    assert field.to_value() == before


def test_a_report_has_no_sum_over_fewer_steps_than_it_must_be_over_nor_a_difference_of_two() -> None:
    field = FieldQuality(RULES)
    values = ward(400)
    feed = [(step * HOUR, value) for step, value in values.items()]
    said: list[float] = [0.0]
    paired: list[float] = [0.0]
    newest = -1
    for t_ms, value in feed:
        run(field, [(t_ms, value)], values) if t_ms // HOUR > newest else None
        newest = t_ms // HOUR
        report = field.published()
        for signal in report.get("MAP", ()):
            said.append(signal.get("total", [0.0, said[-1]])[STEPS])
            if "base" in signal:
                paired.append(signal["base"]["own"][STEPS])
    for counts in (said, paired):
        gaps = np.diff(sorted(set(counts)))
        assert len(gaps) > 5
        assert gaps.min() >= RULES.min_reported


def test_a_report_says_no_time_and_no_value() -> None:
    field = FieldQuality(RULES)
    values = ward(200)
    run(field, [(step * HOUR, value) for step, value in values.items()], values)
    (said,) = field.published()["MAP"]
    assert set(said) == {"adapter", "levels", "total", "base"}
    assert set(said["base"]) == {"adapter", "own", "other", "units", "drift"}


def test_what_is_of_late_forgets() -> None:
    rules = QualityRules(shadow_every=0, half_life_days=1.0)
    field = FieldQuality(rules)
    values = dict.fromkeys(range(24 * 20), 80.0)
    run(field, [(step * HOUR, value) for step, value in values.items()], values)
    recent = field._signals["MAP"][0].recent.values[STEPS]
    # H a step, for ever: H / (1 - 2^(-1/24))
    assert recent == pytest.approx(H / (1 - 0.5 ** (1 / 24)), rel=0.01)
    assert len(field._signals["MAP"][0].days) == 14


def test_levels_that_do_not_reach_leave_a_figure_out() -> None:
    field = FieldQuality(RULES)
    for step in range(20):
        field.observe("MAP", step * HOUR, 80.0 + step, interval_ms=HOUR)
        if field.wants("MAP", H, 1)[0]:
            one = Made(adapter="a", quantiles=np.full((H, 1), 80.0, dtype=np.float32))
            field.remember("MAP", one, (0.9,), np.arange(L, dtype=np.float32), {})
    figures = field.figures()["MAP"][0]
    assert figures["wql"] > 0
    assert figures["coverage"] is None
    assert figures["mase"] is None


@pytest.mark.parametrize(
    "wrong", [{"shadow_every": -1}, {"half_life_days": 0.0}, {"unit": "week"}, {"min_reported": 1}, {"save_seconds": 0}]
)
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        QualityRules(**wrong)  # type: ignore[arg-type]


def test_one_signal_that_drifts_is_enough_for_the_flag() -> None:
    field = FieldQuality(RULES, ratio=1.02)
    values = ward(3_000)
    for signal, worse in (("HR", 0.0), ("MAP", 5.0)):
        for step, value in values.items():
            field.observe(signal, step * HOUR, value, interval_ms=HOUR)
            field.wants(signal, H, 9)
            base = Made(adapter=None, quantiles=exactly(value))
            runs = Made(adapter="a", quantiles=exactly(value + worse))
            field.remember(signal, runs, LEVELS, context_of(values, step), {"base": base})
    assert list(field.drifts()) == [("a", "MAP")]
    assert field.drift_since("a") > 0
    assert field.drift_since(None) == 0


def exactly(centre: float) -> np.ndarray:
    return np.repeat(centre + np.linspace(-3, 3, 9, dtype=np.float32)[None], H, 0)
