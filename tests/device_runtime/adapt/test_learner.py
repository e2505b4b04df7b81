"""A ward's stays in, a candidate out: what is learnt, in which order, and that it comes out the same again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_runtime.adapt.bets import Proposal
from device_runtime.adapt.learner import (
    MAX_WAITING,
    NO_READINGS,
    SPOILT_STAYS,
    Entry,
    Learner,
    Stay,
    first_difference,
)
from device_runtime.adapt.modes import State
from device_runtime.adapt.optimiser import Optimiser
from device_runtime.adapt.rules import AdaptRules
from device_runtime.adapt.windows import cut
from device_runtime.errors import ForecastError, FormatError, StateError
from tests.support.linear import LEVELS, Linear, ward

HOUR = 3_600_000
DAY = 24 * HOUR


def learner(learnable: Linear | None = None, **rules: Any) -> Learner:
    rules = {"windows": 64, "kept_windows": 8, "first_windows": 24, "rate": 0.01, "promote_stays": 20, **rules}
    return Learner(
        AdaptRules(**rules), learnable or Linear(), LEVELS,
        interval_ms=HOUR, context_length=24, steps=6, plausible=(10, 350),
    )  # fmt: skip


def feed(one: Learner, stays: list[Any]) -> list[Proposal]:
    out = []
    for number, values in enumerate(stays):
        assert one.finish(Stay(values=values, end_ms=number * DAY))
        out.append(one.work())
    return out


def test_what_pays_is_learnt_and_the_evidence_asks_for_it() -> None:
    one = learner()
    proposals = feed(one, ward(80, seed=1, drift=0.6))
    assert Proposal.PROMOTE in proposals
    assert proposals.index(Proposal.PROMOTE) >= 19  # however clear it is before
    scored = [entry for entry in one.drain() if entry.what == "scored"]
    frozen, running, candidate = np.array([entry.losses for entry in scored[40:]]).sum(0)
    assert running == frozen
    assert candidate < 0.98 * frozen


def settled_on(stays: list[Any]) -> NDArray[np.float32]:
    """The shift that fits all windows of some stays, so that nothing of it is left to be learnt."""
    parts = [cut(one, context_length=24, prediction_length=6, stride=3, min_observed=12) for one in stays]
    contexts, targets = (np.concatenate(both) for both in zip(*parts, strict=True))
    optimiser = Optimiser(AdaptRules(rate=0.03, cap_tensor=1, cap_day=1, average=0.95), Linear().sizes)
    for number in range(150):
        optimiser.rules = replace(optimiser.rules, rate=0.03 * (1 - number / 150))
        optimiser.step(Linear().gradients(contexts, targets, optimiser.iterate)[1], 0)
    return optimiser.iterate


def test_where_nothing_is_to_be_gained_it_stays_in_shadow() -> None:
    settled = settled_on(ward(80, seed=2))

    class Fitting(Linear):
        """Knows already what the ward teaches."""

        def forecast(self, context: Any, steps: int, shift: Any) -> Any:
            return super().forecast(context, steps, shift + settled)

        def gradients(self, context: Any, target: Any, shift: Any) -> Any:
            return super().gradients(context, target, shift + settled)

    again = learner(Fitting())
    assert Proposal.PROMOTE not in feed(again, ward(150, seed=3))
    assert again.state is State.SHADOW


def test_a_stay_is_scored_before_it_teaches() -> None:
    """What the first stay teaches changes no score of it, and all of it is scored first."""
    one = learner(first_windows=1)
    stays = ward(3, seed=4, drift=0.6)
    feed(one, stays)
    log = one.drain()
    for number in (1, 2, 3):
        whats = [
            entry.what for entry in log if entry.stay == number or (entry.what == "scored" and entry.stay == number)
        ]
        assert whats == sorted(whats, reverse=True)  # "scored" before "learnt"
    other = learner(first_windows=1)
    changed = [*stays[:2], stays[2] + np.float32(40)]
    feed(other, changed)
    assert first_difference(log, other.drain()) == next(
        place for place, entry in enumerate(log) if entry.stay == 3 and entry.what == "scored"
    )


def test_no_step_is_taken_before_there_are_enough_windows() -> None:
    one = learner(first_windows=30)
    feed(one, ward(3, seed=5))
    assert (one.state, one.reservoir.held) == (State.GATHERING, 24)
    assert not one.shift.any()
    feed(one, ward(1, seed=6))
    assert one.state is State.SHADOW
    assert one.shift.any()


def test_the_same_stays_give_the_same_bits_and_others_do_not() -> None:
    stays = ward(12, seed=7, drift=0.3)
    logs: list[list[Entry]] = []
    for given in (stays, stays, stays[:-1]):
        one = learner()
        feed(one, given)
        logs.append(one.drain())
    assert first_difference(logs[0], logs[1]) is None
    assert first_difference(logs[0], logs[2]) == len(logs[2])
    other = learner(seed=1)
    feed(other, stays)
    assert first_difference(logs[0], other.drain()) is not None


def test_it_goes_on_after_a_restart_with_the_same_bits() -> None:
    stays = ward(30, seed=8, drift=0.6)
    whole, first, second = (learner(keep_windows="disk") for _ in range(3))
    feed(whole, stays)
    feed(first, stays[:17])
    first.drain()
    second.restore(json.loads(json.dumps(first.to_value())))
    for number, values in enumerate(stays[17:], start=17):
        second.finish(Stay(values=values, end_ms=number * DAY))
        second.work()
    assert second.optimiser.digest == whole.optimiser.digest
    assert second.to_value() == whole.to_value()
    assert first_difference(whole.drain()[-len(second.log) :], second.drain()) is None


def test_windows_are_not_written_down_unless_that_is_wanted() -> None:
    for keep, held in (("memory", 0), ("disk", 64)):
        one = learner(keep_windows=keep)
        feed(one, ward(12, seed=9))
        assert one.to_value()["windows"]["held"] == held
        again = learner(keep_windows=keep)
        again.restore(one.to_value())
        assert again.reservoir.held == held
        one.forget_windows()
        assert one.reservoir.held == 0
        assert np.isnan(one.reservoir.contexts).all()


def test_one_step_is_one_batch_and_a_pause_changes_nothing() -> None:
    learnable = Linear()
    one, other = learner(learnable, batch=8, windows=64), learner(batch=8, windows=64)
    stays = ward(4, seed=10)
    for number, values in enumerate(stays):
        one.finish(Stay(values=values, end_ms=number * DAY))
    while one.busy:
        before = learnable.calls
        entry = one.step()
        assert entry is not None
        assert entry.windows <= 8
        assert learnable.calls - before <= 3
    assert one.step() is None
    for number, values in enumerate(stays):
        other.finish(Stay(values=values, end_ms=number * DAY))
    other.work()
    assert one.optimiser.digest == other.optimiser.digest


def test_too_many_waiting_stays_give_way_and_are_counted() -> None:
    one = learner()
    for number, values in enumerate(ward(MAX_WAITING + 3, seed=11)):
        one.finish(Stay(values=values, end_ms=number * DAY))
    one.work()
    assert (one.stays, one.left_out) == (MAX_WAITING, 3)


def test_a_stay_too_short_teaches_nothing() -> None:
    one = learner()
    assert not one.finish(Stay(values=np.full(10, 80, dtype=np.float32), end_ms=0))
    assert not one.finish(Stay(values=np.full(90, np.nan, dtype=np.float32), end_ms=0))
    assert one.work() is Proposal.NONE
    assert one.stays == 0


def test_promoted_then_worse_it_is_taken_back() -> None:
    one = learner()
    feed(one, ward(60, seed=12, drift=0.6))
    one.promote(one.shift)
    assert (one.state, one.generation) == (State.PROMOTED, 1)
    proposals = feed(one, ward(120, seed=13, drift=-0.8))  # the ward changed
    assert Proposal.DEMOTE in proposals
    one.demote(by_evidence=True)
    assert (one.state, one.promoted, one.bets.wanted) == (State.GATHERING, None, 40.0)
    assert not one.shift.any()
    with pytest.raises(StateError, match="demote is not possible while gathering"):
        one.demote()
    with pytest.raises(StateError, match="promote is not possible while gathering"):
        one.promote(one.shift)


def test_stays_that_are_no_readings_teach_nothing_and_in_a_row_take_back_what_was_promoted() -> None:
    one = learner()
    feed(one, ward(30, seed=21, drift=0.6))
    one.promote(one.shift)
    stays, other_unit = one.stays, [values * np.float32(0.02) for values in ward(5, seed=22)]
    before = one.optimiser.digest
    for number, values in enumerate(other_unit[: SPOILT_STAYS - 1]):
        assert not one.finish(Stay(values=values, end_ms=number * DAY))
        assert one.proposal is Proposal.NONE
    feed(one, ward(1, seed=23))  # what is a reading begins the row anew
    assert one.stays == stays + 1
    assert one.optimiser.digest != before
    for values in other_unit[:SPOILT_STAYS]:
        assert one.proposal is Proposal.NONE
        assert not one.finish(Stay(values=values, end_ms=0))
    assert (one.work(), one.reason) == (Proposal.DEMOTE, NO_READINGS)
    assert one.spoilt == 2 * SPOILT_STAYS - 1
    again = learner()
    again.restore(json.loads(json.dumps(one.to_value())))
    assert (again.spoilt, again.in_a_row, again.proposal) == (one.spoilt, SPOILT_STAYS, Proposal.DEMOTE)


@pytest.mark.parametrize("raises", [False, True])
def test_numbers_that_are_not_finite_move_nothing(raises: bool) -> None:
    class Broken(Linear):
        broken = False

        def gradients(self, context: Any, target: Any, shift: Any) -> Any:
            value, gradient = super().gradients(context, target, shift)
            if self.broken and raises:
                raise ForecastError("not finite")
            return (value, gradient * np.float32(math.nan)) if self.broken else (value, gradient)

        def forecast(self, context: Any, steps: int, shift: Any) -> Any:
            made = super().forecast(context, steps, shift)
            if self.broken and shift.any() and raises:
                raise ForecastError("not finite")
            return made * np.float32(math.inf) if self.broken and shift.any() else made

    model = Broken()
    one = learner(model)
    feed(one, ward(6, seed=14))
    before = one.optimiser.digest
    model.broken = True
    assert feed(one, ward(1, seed=15)) == [Proposal.DEMOTE]
    assert one.optimiser.digest == before
    assert one.refused == 5  # the candidate's scores, and four steps
    assert [entry.what for entry in one.drain()][-4:] == ["refused"] * 4


def test_caps_hold_whatever_is_learnt() -> None:
    one = learner(rate=0.03, cap_tensor=0.05, cap_day=0.02)
    values = ward(40, seed=16, drift=1.5)
    for number, stay in enumerate(values):
        before = one.optimiser.iterate.copy()
        one.finish(Stay(values=stay, end_ms=(number // 4) * DAY))  # four stays a day
        one.work()
        for part in np.split(one.optimiser.iterate, [len(LEVELS)]):
            assert np.sqrt(np.mean(part.astype(float) ** 2)) <= 0.05 * (1 + 1e-6)
        if number % 4 == 0:
            morning = before
        moved = one.optimiser.iterate.astype(float) - morning
        assert np.sqrt(np.mean(moved**2)) <= 0.02 * (1 + 1e-6)
    assert one.optimiser.capped > 0


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"names": ["other"]},
        {"sizes": [9, 7]},
        {"state": "promoted"},
        {"state": "gathering"},
        {"state": "asleep"},
        {"generation": -1},
        {"stays": True},
        {"draws": [0]},
        {"counts": {"values": 1}},
        {"optimiser": {}},
        {"judge": None},
        {"promoted": "AAAA"},
        {"windows": {"held": 65, "seen": 65, "contexts": "", "targets": ""}},
        {"windows": {"held": 1, "seen": 1, "contexts": "", "targets": ""}},
    ],
)
def test_a_state_it_did_not_write_is_refused_and_changes_nothing(change: dict[str, Any]) -> None:
    one = learner(keep_windows="disk")
    feed(one, ward(6, seed=17))
    again = learner(keep_windows="disk")
    before = again.to_value()
    with pytest.raises(FormatError):
        again.restore({**one.to_value(), **change})
    assert again.to_value() == before
    for nothing in (None, [], "x", {}):
        with pytest.raises(FormatError):
            again.restore(nothing)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("steps", -1),
        ("iterate", "!"),
        ("iterate", "AAAAAA=="),
        ("second", "AACAvw=="),
        ("day", "monday"),
    ],
)
def test_a_damaged_optimiser_is_refused(name: str, change: object) -> None:
    one = learner()
    feed(one, ward(6, seed=18))
    value = one.to_value()
    value["optimiser"] = {**value["optimiser"], name: change}
    with pytest.raises(FormatError):
        learner().restore(value)


def test_reset_forgets_everything() -> None:
    one = learner()
    feed(one, ward(40, seed=19, drift=0.6))
    one.promote(one.shift)
    one.reset()
    fresh = learner()
    for name in ("state", "promoted", "windows", "judge", "optimiser", "counts"):
        assert one.to_value()[name] == fresh.to_value()[name]
