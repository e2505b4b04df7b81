"""A trial's health window by itself, at its boundaries."""

from __future__ import annotations

import pytest

from device_runtime.quality.evidence import Verdict
from device_runtime.quality.field import Judgement
from device_runtime.update.health import Health, HealthRules, HealthWindow

OPEN = Judgement(verdict=Verdict.OPEN, why="nothing was scored")
RULES = HealthRules(seconds=600.0, min_forecasts=3, max_failures=1, latency_budget=1.0)


def window(rules: HealthRules = RULES, *latencies: float) -> HealthWindow:
    one = HealthWindow(rules, at=100.0)
    for latency in latencies:
        one.observe(ok=True, latency=latency)
    return one


@pytest.mark.parametrize(
    ("latencies", "at", "health"),
    [
        ((0.1, 0.1, 0.1), 700.0, Health.PASSED),  # exactly as long, and as many
        ((0.1, 0.1, 0.1), 699.9, Health.WAIT),
        ((0.1, 0.1), 9_999.0, Health.WAIT),
        ((1.0, 1.0, 1.0), 700.0, Health.PASSED),  # exactly within the budget
        ((1.1, 0.1, 0.1), 700.0, Health.PASSED),  # as many failures as are allowed
        ((1.1, 1.1), 100.0, Health.FAILED),  # at once
    ],
)
def test_a_trial_ends_when_its_rules_say(latencies: tuple[float, ...], at: float, health: Health) -> None:
    assert window(RULES, *latencies).health(at, OPEN) is health


@pytest.mark.parametrize(
    ("verdict", "health"),
    [(Verdict.OPEN, Health.WAIT), (Verdict.BETTER, Health.PASSED), (Verdict.WORSE, Health.FAILED)],
)
def test_with_a_limit_the_field_decides_and_without_one_it_does_not(verdict: Verdict, health: Health) -> None:
    judged = HealthRules(seconds=600.0, min_forecasts=1, max_wql_vs_base_percent=2.0)
    found = Judgement(verdict=verdict, why="WQL +3.1 %")
    one = window(judged, 0.1)
    assert one.health(700.0, found) is health
    if health is Health.FAILED:
        assert one.reason == "WQL +3.1 %, at most +2 %"
    assert window(HealthRules(seconds=600.0, min_forecasts=1), 0.1).health(700.0, found) is Health.PASSED
