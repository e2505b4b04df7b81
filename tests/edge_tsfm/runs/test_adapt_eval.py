"""A ward's history through the device's own learning: prequential, by age, on other wards, with faults."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from device_runtime.adapt.bets import Bets, Losses, Proposal
from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from edge_tsfm.data.series import Series
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation.adaptation import AdaptEval, lines
from edge_tsfm.evaluation.metrics import score_windows
from edge_tsfm.evaluation.stationary import false_promotions, promotions, resampled, wilson
from edge_tsfm.progress import Work
from edge_tsfm.report.adapt import page, text
from edge_tsfm.runs.adapt_eval import Options, adapt_eval
from edge_tsfm.runs.history import Lengths
from edge_tsfm.runs.injected import FAULTS, injected
from edge_tsfm.runs.passages import follow, learn, wards_of
from tests.support.linear import LEVELS, Linear, ward

HOUR = pd.Timedelta("1h")
LENGTHS = Lengths(context_length=24, prediction_length=6, min_observed=12, interval_ms=3_600_000)
RULES = AdaptRules(mode=Mode.ACTIVE, rate=0.01, windows=64, kept_windows=8, first_windows=24, promote_stays=20)


def stays(count: int, *, drift: float = 0.6, seed: int = 1) -> list[Series]:
    return [
        Series(item_id=f"p{number:03d}", signal="HR", interval=HOUR, target=values)
        for number, values in enumerate(ward(count, seed=seed, drift=drift))
    ]


def options(**changes: Any) -> Options:
    rules = replace(RULES, **changes.pop("rules", {}))
    chosen = {"plausible": (10.0, 350.0), "simulated": 20, "simulated_stays": 200, "resamples": 100, **changes}
    return Options(rules=rules, lengths=LENGTHS, levels=LEVELS, **chosen)


def line(found: AdaptEval, name: str) -> Any:
    return next(one for one in found.overall if one.name == name)


def test_what_pays_is_found_promoted_and_better_than_frozen() -> None:
    found = adapt_eval(stays(80, drift=1.0), Linear(), options(ward=40), work=Work())
    assert len(found.wards) == 2
    assert all(one.changes and one.changes[0]["what"] == "promoted" for one in found.wards)
    assert all(one.changes[0]["stay"] >= 20 for one in found.wards)
    assert line(found, "candidate").wql_percent.high < 0
    assert line(found, "frozen").wql_percent.value == 0
    held = {one.name: one for one in found.held_out["a whole ward"]}
    assert held["candidate"].wql_percent.high < 0
    assert held["candidate"].wql_percent.value < 0.6 * held["offline"].wql_percent.value
    first, last = found.ages["0 to 4"], found.ages["25 to 49"]
    assert first[1].wql_percent.value == 0  # before anything was promoted it is the frozen one
    assert last[1].wql_percent.value < -0.5
    assert found.stationary is not None
    assert found.stationary.share <= 0.1


def test_in_shadow_nothing_that_was_learnt_is_forecast_with() -> None:
    found = adapt_eval(stays(40, drift=1.0), Linear(), options(rules={"mode": Mode.SHADOW}), work=Work())
    assert line(found, "running").wql_percent.value == 0
    assert line(found, "candidate").wql_percent.high < 0
    assert [change["what"] for change in found.wards[0].changes] == ["would promote"]
    assert found.held_out == {}
    assert "1 ward in 1 order" in text(found)
    assert "simulated wards of 40 stays drawn" in text(found)
    longer = replace(found, rules={**found.rules, "promote_stays": 41})
    assert "wards of 40 stays cannot promote: the rule wants 41 stays or more" in text(longer)


def test_tracking_is_followed_by_person_and_learns_no_target_early() -> None:
    rules = replace(RULES, mode=Mode.BOUNDED, long_stream=True, offset_rate=0.01, width_rate=0.1)
    many = [replace(one, item_id=f"p{number // 2}") for number, one in enumerate(stays(6))]
    found = follow(many, Linear(), LEVELS, rules, LENGTHS, every=3)
    changed = [*many[:5], replace(many[5], target=many[5].target + np.float32(30))]
    other = follow(changed, Linear(), LEVELS, rules, LENGTHS, every=3)
    rows = np.flatnonzero(found.windows.series < 5)
    assert np.array_equal(found.running[rows], other.running[rows])
    first = np.flatnonzero(found.windows.item_id == "p1")[0]
    assert np.array_equal(found.running[first], found.frozen[first])  # a new person begins anew
    assert not np.array_equal(found.running[first + 5], found.frozen[first + 5])


def test_changing_the_future_moves_no_earlier_forecast() -> None:
    many = stays(30)
    found = learn(many, Linear(), LEVELS, RULES, LENGTHS)
    changed = [*many[:29], replace(many[29], target=many[29].target * np.float32(1.5))]
    other = learn(changed, Linear(), LEVELS, RULES, LENGTHS)
    rows = found.windows.series < 29
    assert np.array_equal(found.candidate[rows], other.candidate[rows])
    assert np.array_equal(found.running[rows], other.running[rows])


def test_bounded_says_what_tracking_does() -> None:
    chosen = options(rules={"mode": Mode.BOUNDED, "width_rate": 0.1})
    found = adapt_eval(stays(20), Linear(), chosen, work=Work())
    assert {one.name for one in found.overall} == {"frozen", "tracked", "persistence", "aci", "linear"}
    assert line(found, "tracked").coverage == line(found, "aci").coverage
    assert found.stationary is None


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_faults_are_put_in_on_their_side_of_the_middle(name: str) -> None:
    many, fault = stays(10), FAULTS[name]
    scored, seen = injected(many, name, middle=5, seed=1)
    for number, (one, was, sees) in enumerate(zip(scored, many, seen, strict=True)):
        struck = not np.array_equal(sees, was.target, equal_nan=True)
        own_side = (number < 5) == fault.first
        assert not (struck and not own_side)
        assert struck == own_side or fault.share < 1
        assert np.array_equal(one.target, sees if struck and fault.changes else was.target, equal_nan=True)


def test_artefacts_in_every_stay_do_no_harm_and_another_unit_is_taken_back_or_never_learnt() -> None:
    found = adapt_eval(stays(60, drift=1.0), Linear(), options(faults=True, simulated=0), work=Work())
    by_name = {one.name: one for one in found.faults}
    assert set(by_name) == set(FAULTS)
    assert by_name["artefacts in 100 %"].behind[1].wql_percent.high < 0
    assert by_name["unit"].late[1].wql_percent.high < 2


def test_it_is_said_in_text_html_and_json() -> None:
    found = adapt_eval(
        stays(30), Linear(), options(ward=15), beside={"beside": lambda contexts: np.zeros((len(contexts), 6, 9))},
        work=Work(),
    )  # fmt: skip
    said = text(found)
    for words in ("candidate, unseen", "the other adapter", "simulated wards", "Other wards, after a whole ward"):
        assert words in said
    assert "<h2>Rules</h2>" in page(found, "A <title>")
    assert "A &lt;title&gt;" in page(found, "A <title>")
    value = json.loads(json.dumps(found.to_value(), allow_nan=False))
    assert value["overall"][0]["name"] == "frozen"
    assert value["stationary"]["share"] == found.stationary.share  # type: ignore[union-attr]


def test_wards_hold_whole_patients_and_lose_none() -> None:
    many = [replace(one, item_id=f"p{number // 3}") for number, one in enumerate(stays(31))]
    wards = wards_of(many, 10, 0)
    assert sum(map(len, wards)) == 31
    homes = [{one.item_id for one in some} for some in wards]
    assert not set.intersection(homes[0], homes[1])
    assert all(len(some) >= 5 for some in wards)
    assert [len(some) for some in wards_of(many, None, 0)] == [31]
    assert wards_of(many, 10, 0) != wards_of(many, 10, 1)


def test_nothing_to_do_is_said() -> None:
    with pytest.raises(ConfigError, match="mode off"):
        adapt_eval(stays(2), Linear(), options(rules={"mode": Mode.OFF}), work=Work())
    short = [replace(one, target=one.target[:10]) for one in stays(2)]
    with pytest.raises(DataError, match="nothing to learn from"):
        adapt_eval(short, Linear(), options(), work=Work())


def test_a_candidate_that_fails_leaves_no_difference_to_draw_from() -> None:
    """One that is not finite would spoil every simulated ward: none would ever promote."""

    class Fails(Linear):
        def forecast(self, context: Any, steps: int, shift: Any) -> Any:
            return super().forecast(context, steps, shift) * np.float32(np.nan if shift.any() else 1)

    found = learn(stays(30), Fails(), LEVELS, RULES, LENGTHS)
    assert found.refused > 0
    assert not found.differences


def test_a_share_of_patients_worse_is_of_patients() -> None:
    found = learn(stays(4), Linear(), LEVELS, RULES, LENGTHS)
    worse = found.frozen.copy()
    rows = found.windows.item_id == "p000"
    worse[rows] += np.float32(50)
    scores = {
        name: score_windows(quantiles, found.windows, LEVELS)
        for name, quantiles in (("frozen", found.frozen), ("other", worse))
    }
    other = lines(scores, found.windows.drawn, seed=0, resamples=100)[1]
    assert other.worse == {"2": 0.25, "10": 0.25}
    assert other.worse_by_spread["10"] <= other.worse["10"]  # it is worse on the whole: without that, fewer are
    assert (other.patients, other.windows) == (4, len(found.windows))


NOISE = [(age, float(one)) for age, one in enumerate(np.random.default_rng(0).normal(0, 0.03, 300))]


def test_many_wards_at_once_are_judged_as_one_by_the_device() -> None:
    """`promotions` repeats the device's arithmetic for arrays: every ward promotes after the same stay as by `Bets`."""
    rules = AdaptRules(promote_stays=25)
    drawn = np.random.default_rng(1).standard_t(3, (260, 30)) * 0.02 - 0.006
    found = promotions(rules, lambda stay: drawn[stay], wards=30, stays=260)
    for place in range(30):
        bets, first = Bets(rules), 0
        for number, one in enumerate(drawn[:, place].tolist()):
            losses = Losses(frozen=1 - one, running=1 - one, candidate=1 + one)
            if bets.add(losses, promoted=False) is Proposal.PROMOTE:
                first = number + 1
                break
        assert found[place] == first
    assert 0 < (found > 0).sum() < 30


def test_the_level_holds_and_a_rule_that_promises_little_promotes_more_by_chance() -> None:
    """1 in 20 is what Ville's inequality promises: of 2,000 wards some 4 % were counted, 5 % plus 5 sigma is 149."""
    strict = false_promotions(AdaptRules(promote_stays=25), NOISE, wards=2_000, stays=300, seed=0)
    loose = false_promotions(AdaptRules(promote_stays=25, promote_evidence=10), NOISE, wards=2_000, stays=300, seed=0)
    assert 20 <= strict.promoted <= 149
    assert strict.promoted < loose.promoted
    assert strict.between[0] < strict.share < strict.between[1] < 2 * strict.limit


def test_wards_drawn_as_measured_promote_where_there_is_a_gain_and_not_where_there_is_a_loss() -> None:
    rules = AdaptRules(promote_stays=25)
    for gain, least, most in ((0.02, 0.9, 1.0), (-0.005, 0.0, 0.02)):
        measured = [(age, one - gain) for age, one in NOISE]
        found = resampled(rules, measured, wards=500, stays=200, seed=0)
        assert least <= found.share <= most
        assert (found.median is not None) == (found.promoted > 0)
    grows = [(age, one - (0.03 if age >= 150 else 0.0)) for age, one in NOISE]
    assert (resampled(rules, grows, wards=200, stays=300, seed=0).median or 0) > 150  # as it was at that age


def test_of_many_wards_at_one_age_stays_are_drawn_from_all() -> None:
    """A part of an age's stays, in the order of their differences, would be its best or its worst."""
    rng, rules = np.random.default_rng(0), AdaptRules(promote_stays=25)
    values = rng.normal(-0.02, 0.03, (40, 100))
    measured = [(age, float(one)) for age, row in enumerate(values) for one in row]
    asked = {"wards": 1_000, "stays": 40}
    drawn = promotions(rules, lambda _: rng.choice(values.ravel(), 1_000), **asked)
    assert resampled(rules, measured, seed=0, **asked).share == pytest.approx((drawn > 0).mean(), abs=0.05)


def test_wilsons_interval_is_that_of_the_books() -> None:
    assert wilson(12, 200) == pytest.approx((0.0347, 0.1019), abs=1e-4)
    assert wilson(0, 60) == pytest.approx((0.0, 0.0602), abs=1e-4)


def test_what_a_day_costs_is_told() -> None:
    found = adapt_eval(stays(40, drift=1.0), Linear(), options(), work=Work())
    assert found.cost is not None
    hours = np.mean([len(one.target) for one in stays(40, drift=1.0)])
    assert found.cost.stays == pytest.approx(24 / hours)
    assert found.cost.cpu_ms == pytest.approx(found.stay_ms * found.cost.stays)
    assert found.cost.written == pytest.approx(found.cost.file * found.cost.stays)
    assert found.cost.file % 16_384 == 0
    assert found.cost.held > 64 * (24 + 6) * 4
    assert "a day of a bed that is never empty" in text(found)
