"""Rules, tables, windows, draws, evidence, candidates: each part by itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from device_runtime.adapt.bets import (
    CLIP,
    LATEST,
    LEAST_CLIP,
    LONGEST,
    REST,
    SHARES,
    STARTS,
    WEIGHTS,
    WIDTH,
    Bets,
    Bound,
    Evidence,
    Losses,
    Proposal,
    evidence_of,
)
from device_runtime.adapt.candidate import candidate_of, shift_of
from device_runtime.adapt.draws import Draws
from device_runtime.adapt.modes import MODES, TRANSITIONS, Event, Mode, State, diagram, step, table
from device_runtime.adapt.optimiser import Optimiser
from device_runtime.adapt.rules import BOUNDS, AdaptRules, CleanRules
from device_runtime.adapt.windows import Reservoir, clip_targets, cut
from device_runtime.binder import bind
from device_runtime.errors import FormatError, MergeError, SettingsError, StateError
from device_runtime.format.adapter import Adapter, Calibration
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Dense, Fourier, Numbers
from device_runtime.format.fourier_shift import FourierShift

RULES = AdaptRules(rate=0.001, average=0.98)

# --- rules ------------------------------------------------------------------------------------------------------------


def test_rules_are_bound_from_a_file_with_the_table_in_the_message() -> None:
    found = bind(AdaptRules, {"mode": "shadow", "rate": 0.003, "clean": {"flat_steps": 60}}, "device.toml")
    assert (found.mode, found.rate, found.clean) == (Mode.SHADOW, 0.003, CleanRules(flat_steps=60))
    with pytest.raises(SettingsError, match=r"device.toml: \[clean\] flat_steps -1: want 0 to 100000"):
        bind(AdaptRules, {"clean": {"flat_steps": -1}}, "device.toml", error=SettingsError)
    with pytest.raises(SettingsError, match="unknown key 'rates'"):
        bind(AdaptRules, {"rates": 0.003}, "device.toml", error=SettingsError)
    with pytest.raises(SettingsError, match="one of off, shadow, bounded, active"):
        bind(AdaptRules, {"mode": "on"}, "device.toml", error=SettingsError)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_every_number_has_bounds_and_its_default_lies_within(name: str) -> None:
    least, most = BOUNDS[name]
    made: Any = CleanRules if name in CleanRules.__dataclass_fields__ else AdaptRules
    assert least <= getattr(made(), name) <= most
    for beyond in (least - 1, most * 2 + 1):
        with pytest.raises(SettingsError, match=name):
            made(**{name: type(getattr(made(), name))(beyond)})


def test_every_number_of_the_rules_is_bounded() -> None:
    for made in (AdaptRules(), CleanRules()):
        numbers = {name for name, value in vars(made).items() if type(value) in {int, float}}
        assert numbers <= set(BOUNDS)


def test_numbers_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(SettingsError, match="new_windows"):
        AdaptRules(new_windows=40, batch=32)
    with pytest.raises(SettingsError, match="batch"):
        AdaptRules(batch=200, windows=100)


def test_the_interval_fills_in_what_was_left_open() -> None:
    dense, hourly = AdaptRules().at(1_000, 30), AdaptRules().at(3_600_000, 6)
    assert (dense.promote_stays, dense.rate, dense.average, dense.stride) == (25, 0.003, 0.9, 5)
    assert (hourly.promote_stays, hourly.rate, hourly.average, hourly.stride) == (100, 0.001, 0.98, 3)
    assert (dense.clean.flat_steps, hourly.clean.flat_steps) == (600, 120)
    set_by_hand: dict[str, Any] = {
        "promote_stays": 7,
        "steps": 3,
        "rate": 0.002,
        "average": 0.95,
        "first_windows": 9,
        "stride": 2,
        "clean": CleanRules(flat_steps=60),
    }
    assert AdaptRules(**set_by_hand).at(1_000, 30) == AdaptRules(**set_by_hand)


# --- modes ------------------------------------------------------------------------------------------------------------


def test_only_active_forecasts_with_what_was_learnt_and_off_does_nothing() -> None:
    assert [mode for mode in Mode if MODES[mode].promote] == [Mode.ACTIVE]
    assert not any(vars(MODES[Mode.OFF]).values())
    assert AdaptRules().mode is Mode.OFF


def test_every_state_can_be_left_for_gathering_and_nothing_else_is_possible() -> None:
    for state in State:
        assert step(state, Event.RESET) is State.GATHERING
        for event in Event:
            if (state, event) not in TRANSITIONS:
                with pytest.raises(StateError, match=f"{event} is not possible while {state}"):
                    step(state, event)


def test_the_tables_are_drawn_whole() -> None:
    assert len(diagram().splitlines()) == 2 + len(TRANSITIONS)
    assert "    shadow --> promoted: promote" in diagram()
    assert len(table().splitlines()) == 2 + len(Mode)


# --- draws and windows ------------------------------------------------------------------------------------------------


def test_draws_go_on_where_they_were_and_are_spread_evenly() -> None:
    whole = Draws(3)
    first = whole.below(7, 5) + whole.below(7, 5)
    assert Draws(3, 5).below(7, 5) == first[5:]
    counts = np.bincount(Draws(1).below(10, 10_000), minlength=10)
    assert counts.min() > 850
    assert counts.max() < 1_150
    drawn = Draws(2).sample(20, 8)
    assert len(set(drawn)) == 8
    assert sorted(Draws(2).sample(5, 9)) == [0, 1, 2, 3, 4]


def test_windows_are_cut_as_in_training() -> None:
    values = np.arange(30, dtype=np.float32)
    values[20] = np.nan
    contexts, targets = cut(values, context_length=16, prediction_length=4, stride=3, min_observed=5)
    assert contexts.shape == (8, 16)
    for row, cutoff in enumerate(range(5, 27, 3)):
        past = values[max(0, cutoff - 16) : cutoff]
        assert np.array_equal(contexts[row, 16 - len(past) :], past, equal_nan=True)
        assert np.isnan(contexts[row, : 16 - len(past)]).all()
        assert np.array_equal(targets[row], values[cutoff : cutoff + 4], equal_nan=True)


def test_a_full_reservoir_lets_a_random_one_go_and_stays_within_its_bytes() -> None:
    kept, draws = Reservoir(8, 4, 2), Draws(0)
    size = kept.size
    for number in range(50):
        kept.add(np.full((1, 4), number, np.float32), np.full((1, 2), number, np.float32), draws)
    assert (kept.held, kept.seen, kept.size) == (8, 50, size)
    assert (kept.contexts[:, 0] == kept.targets[:, 0]).all()
    assert len(set(kept.contexts[:, 0])) == 8
    assert kept.contexts[:, 0].max() == 49
    assert Reservoir(256, 48, 6).size == 55_296
    assert Reservoir(8, 4, 2).draw(3, draws)[0].shape == (0, 4)


def test_targets_are_brought_within_the_spread_of_their_context() -> None:
    contexts = np.array([[78, 80, 82, np.nan], [80, 80, 80, 80]], np.float32)
    targets = np.array([[200, np.nan], [200, 81]], np.float32)
    spread = float(np.std([78, 80, 82]))
    clipped = clip_targets(contexts, targets, 5)
    assert clipped[0, 0] == pytest.approx(80 + 5 * spread)
    assert np.isnan(clipped[0, 1])
    assert clipped[1].tolist() == [200, 81]


# --- the optimiser ----------------------------------------------------------------------------------------------------


def test_adam_takes_the_steps_of_its_paper() -> None:
    rules = AdaptRules(rate=0.01, average=0.5, clip_norm=100)
    one, rng = Optimiser(rules, (3,)), np.random.default_rng(0)
    x, m, v = (np.zeros(3) for _ in range(3))
    for t in range(1, 30):
        g = rng.normal(0, 1, 3) + x
        assert one.step(g.astype(np.float32), 0) == pytest.approx(float(np.linalg.norm(g)), rel=1e-5)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert one.iterate == pytest.approx(x, abs=1e-6)


def test_the_candidate_is_the_mean_of_the_first_iterates_then_moves_slowly() -> None:
    one = Optimiser(AdaptRules(rate=0.01, average=0.9), (2,))
    iterates = [one.iterate.copy()]
    for _ in range(9):
        one.step(np.array([1, -1], np.float32), 0)
        iterates.append(one.iterate.copy())
    assert one.mean == pytest.approx(np.mean(iterates, 0), abs=1e-7)


def test_an_anchor_pulls_towards_what_the_monitor_was_given() -> None:
    free, held = Optimiser(RULES, (2,)), Optimiser(replace(RULES, anchor=5), (2,))
    rng = np.random.default_rng(1)
    for _ in range(300):
        g = (np.array([0.05, -0.05]) + rng.normal(0, 0.2, 2)).astype(np.float32)
        free.step(g, 0)
        held.step(g, 0)
    assert np.abs(held.iterate).max() < 0.5 * np.abs(free.iterate).max()


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    one = Optimiser(RULES, (2,))
    one.step(np.array([1, 1], np.float32), 0)
    before = one.digest
    assert one.step(np.array([np.nan, 1], np.float32), 0) is None
    assert one.step(np.array([np.inf, 1], np.float32), 0) is None
    assert (one.digest, one.steps) == (before, 1)


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_evidence_that_begins_late_is_still_a_fair_game() -> None:
    """A coin's every order of 12 tosses: the mean of what 1 becomes is 1."""
    total = 0.0
    for number in range(2**12):
        evidence = Evidence(units=STARTS[1] - 6)  # a second part begins within
        for place in range(12):
            evidence.add(1.0 if number >> place & 1 else -1.0)
        total += math.exp(evidence.log)
    assert total / 2**12 == pytest.approx(1.0, rel=1e-9)


def test_a_bad_beginning_is_not_held_against_what_came_after() -> None:
    poor, plain = Evidence(), Evidence()
    for _ in range(60):
        poor.add(-0.4)
    for _ in range(60):
        poor.add(0.3)
        plain.add(0.3)
    assert poor.log >= math.log(20)
    assert plain.log > poor.log


def test_a_promotion_wants_stays_and_more_of_it_after_each_demotion() -> None:
    bets = Bets(AdaptRules(promote_stays=30))
    better = Losses(frozen=1.0, running=1.0, candidate=0.9)
    proposals = [bets.add(better, promoted=False) for _ in range(40)]
    assert proposals.index(Proposal.PROMOTE) == 29
    bets.demotions = 3
    assert bets.wanted == 160
    bets.begin()
    worse = Losses(frozen=1.0, running=1.1, candidate=1.1)
    assert Proposal.DEMOTE in [bets.add(worse, promoted=True) for _ in range(20)]


def stay_of(difference: float) -> Losses:
    return Losses(frozen=1.0 - difference, running=1.0 - difference, candidate=1.0 + difference)


def test_a_small_gain_is_shown_within_the_records_of_one_ward() -> None:
    """A gain of 1.2 % that differs by 2 % from record to record: a bound that stays at 5 % needs some hundred."""
    rng, bets = np.random.default_rng(0), Bets(AdaptRules(promote_stays=25))
    proposals = [bets.add(stay_of(one), promoted=False) for one in rng.normal(-0.006, 0.008, 60)]
    assert 24 <= proposals.index(Proposal.PROMOTE) < 50


def test_rare_gross_losses_keep_back_what_is_better_on_most_stays() -> None:
    bets = Bets(AdaptRules(promote_stays=30))
    for number in range(600):
        proposal = bets.add(stay_of(0.4 if number % 20 == 0 else -0.01), promoted=False)
        assert proposal is Proposal.NONE
    assert bets.better.log >= math.log(bets.wanted)  # the bets alone would have had it
    assert bets.gained < 0


def test_the_bound_follows_the_candidate_from_its_first_stays_on() -> None:
    rng, bound = np.random.default_rng(1), Bound()
    bound.follow(0.012)
    assert bound.clip == pytest.approx(WIDTH * 0.012)  # the first stay says all there is to know
    cut = []
    for one in rng.normal(0, 0.015, 4_000):
        cut.append(abs(one) > bound.clip)
        bound.follow(one)
        assert LEAST_CLIP <= bound.clip <= CLIP
    assert np.mean(cut) == pytest.approx(1 / 4, abs=0.03)
    held = bound.clip
    bound.follow(100.0)
    assert bound.clip <= held * (1 + (LONGEST * WIDTH - 1) / LATEST)  # one gross difference moves it little
    for _ in range(80):
        bound.follow(0.0)
    assert bound.clip == LEAST_CLIP


def test_the_shares_of_the_stake_are_one() -> None:
    assert sum(WEIGHTS) == pytest.approx(1)
    assert sum(SHARES) + REST == pytest.approx(1)
    assert Evidence().log == pytest.approx(0, abs=1e-12)


def test_what_the_bets_know_is_written_down() -> None:
    one = Bets(AdaptRules())
    for number in range(40):
        one.add(stay_of(-0.01 if number % 3 else 0.02), promoted=False)
    again = Bets(AdaptRules())
    again.restore(json.loads(json.dumps(one.to_value())))
    assert again == one
    for name, wrong in (
        ("bound", [0.2, 3]),
        ("bound", [None, 3]),
        ("bound", [0.02, -1]),
        ("gained", "1"),
        ("demotions", -1),
    ):
        with pytest.raises(FormatError):
            again.restore({**one.to_value(), name: wrong})
    assert again == one


def test_evidence_is_written_down_and_what_is_none_is_refused() -> None:
    one = Evidence()
    for _ in range(30):
        one.add(0.2)
    assert evidence_of(one.to_value()).log == one.log
    for wrong in ([1], [-1, one.to_value()[1]], [3, []], [3, [[0.0]] * len(STARTS)]):
        with pytest.raises((FormatError, ValueError)):
            evidence_of(wrong)


# --- the candidate ----------------------------------------------------------------------------------------------------

TENSORS = [(2, (4, 1)), (5, (3, 1))]
SHIFT = np.array([0.1, -0.2, 0.3, 0, 0.01, 0.02, -0.03], np.float32)
GIVEN: dict[str, Any] = {
    "tensors": TENSORS, "parent_digest": None, "base_digest": b"b" * 32, "version": 3, "binding": None, "generation": 1,
}  # fmt: skip


def test_a_candidate_is_an_ordinary_adapter() -> None:
    made = candidate_of(SHIFT, parent=None, metadata={"stays": 120}, **GIVEN)
    again = decode(encode(made))
    assert dict(again.metadata) == {"origin": "device", "generation": 1, "parent": None, "stays": 120}
    assert (again.version, again.parameters, sorted(again.deltas)) == (3, 7, [2, 5])
    assert shift_of(again, None, TENSORS) == pytest.approx(SHIFT, abs=0.3 / 32_767)


def test_what_the_monitor_was_given_stays_in_it() -> None:
    fourier = Fourier(rows=4, columns=4, coefficients=Numbers.of(np.ones(2)), scaling=1.0, seed=1)
    biases = Dense(Numbers.of(np.full((4, 1), 0.5)))
    calibration = Calibration(offsets=Numbers.of(np.zeros((9, 6)), "int8"))
    deltas: dict[int, Any] = {2: biases, 7: fourier}
    parent = Adapter(base_digest=b"b" * 32, version=1, deltas=deltas, calibration=calibration)
    made = candidate_of(SHIFT, parent=parent, **{**GIVEN, "parent_digest": "a" * 64})
    assert made.deltas[2].dense(np.zeros((4, 1)))[:, 0] == pytest.approx(0.5 + SHIFT[:4], abs=1e-4)
    assert set(made.deltas) == {*deltas, 5}
    assert made.calibration is calibration
    assert made.metadata["parent"] == "a" * 64
    assert shift_of(made, parent, TENSORS) == pytest.approx(SHIFT, abs=1e-4)


def test_a_tensor_that_is_moved_otherwise_is_refused() -> None:
    fourier = Fourier(rows=4, columns=1, coefficients=Numbers.of(np.ones(2)), scaling=1.0, seed=1)
    with pytest.raises(MergeError, match="by a Fourier, want Dense"):
        candidate_of(SHIFT, parent=Adapter(base_digest=b"b" * 32, version=1, deltas={2: fourier}), **GIVEN)


SITES: list[tuple[int, tuple[int, int]]] = [(2, (8, 8)), (5, (16, 8))]
FOURIER = FourierShift(count=3, seed=777, scaling=150.0)


def test_coefficients_become_a_fourier_record_with_the_seed() -> None:
    shift = SHIFT[:6] + np.float32(0.05)
    given = {**GIVEN, "tensors": SITES, "fourier": FOURIER}
    made = decode(encode(candidate_of(shift, parent=None, **given)))
    assert [(one.seed, one.explicit, one.parameters) for one in made.deltas.values() if isinstance(one, Fourier)] == [
        (777, None, 3), (777, None, 3),
    ]  # fmt: skip
    assert shift_of(made, None, SITES, FOURIER) == pytest.approx(shift, abs=0.4 / 32_767)
    above = candidate_of(shift, parent=made, **given)
    assert shift_of(above, made, SITES, FOURIER) == pytest.approx(shift, abs=0.8 / 32_767)
    for index, shape in SITES:
        twice = above.deltas[index].dense(np.zeros(shape))
        np.testing.assert_allclose(twice, 2 * made.deltas[index].dense(np.zeros(shape)), atol=1e-4)


def test_coefficients_on_other_entries_are_refused() -> None:
    given = {**GIVEN, "tensors": SITES, "fourier": FOURIER}
    for delta in (
        FourierShift(count=3, seed=778, scaling=150.0).delta(np.ones(3), (8, 8)),
        Dense(Numbers.of(np.ones((8, 8)))),
    ):
        parent = Adapter(base_digest=b"b" * 32, version=1, deltas={2: delta})
        with pytest.raises(MergeError, match="want Fourier with 3 entries of seed 777"):
            candidate_of(SHIFT[:6], parent=parent, **given)
        with pytest.raises(MergeError, match="want Fourier with 3 entries of seed 777"):
            shift_of(parent, None, SITES, FOURIER)


@pytest.mark.parametrize("shift", [SHIFT[:6], SHIFT * np.float32(np.nan), np.zeros(7, np.float32)])
def test_a_shift_that_is_none_is_refused(shift: np.ndarray) -> None:
    with pytest.raises(MergeError):
        candidate_of(shift, parent=None, **GIVEN)
