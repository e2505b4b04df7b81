"""Adaptation in C learns, judges and proposes what the Python core does from the same samples."""

from __future__ import annotations

import ctypes
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_runtime.adapt.clean import clean
from device_runtime.adapt.rules import CleanRules

from .adapt_block import compiled
from .adapt_core import Pair, follow_program, followed, packed
from .adapt_rules import CClean
from .adapt_ward import HOUR, LIMITS, core, lived, pair, program, stay
from .conftest import need
from .test_processors import PROCESSORS

__all__ = ["core", "program"]


CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "dense": {"interval_ms": 1_000, "first_windows": 0, "average": 0.0},
    "held back": {"cap_tensor": 0.02, "cap_day": 0.01, "anchor": 0.1, "clip_norm": 0.05},
    "some tensors": {"moves": (False, True, False), "cap_day": 0.01},
    "clipped targets": {"clip_spreads": 1.0},
    "nothing to gain": {"off": 0.0, "promote_evidence": 1e6},
    "no range": {"plausible": None},
    "calibrated": {"calibrated": True},
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_samples_teach_the_same(core: ctypes.CDLL, program: Path, case: str) -> None:
    one = lived(pair(core, **CASES[case]), 60, seed=sorted(CASES).index(case))
    one.compare(follow_program(program, one))
    counts = one.learner.counts
    assert min(counts.out_of_range if one.learner.plausible else 1, counts.jumps) > 0
    assert one.learner.optimiser.steps > 100
    assert (one.promotions > 0) == (case != "nothing to gain")
    assert (one.learner.optimiser.capped > 0) == (case in ("held back", "some tensors"))


def test_a_state_graph_that_fails_now_and_then_changes_nothing(core: ctypes.CDLL, program: Path) -> None:
    one = lived(pair(core, fails=True), 30, seed=3)
    one.compare(follow_program(program, one))
    assert one.learner.optimiser.steps > 50


# --- what runs is taken back -----------------------------------------------------------------------------------------


def promoted(core: ctypes.CDLL, shift: float) -> Pair:
    """A shift of the outputs that nobody learnt forecasts."""
    one = lived(pair(core, promote_evidence=1e9, demote_evidence=20.0), 12, seed=5, acts=False)
    moved = np.zeros(sum(one.block.sizes), dtype=np.float32)
    moved[one.block.sizes[0] :] = shift
    one.promote(moved, LIMITS)
    return one


def test_a_promoted_model_that_harms_is_taken_back(core: ctypes.CDLL, program: Path) -> None:
    one = lived(promoted(core, 0.5), 40, seed=6)
    one.compare(follow_program(program, one))
    assert one.demotions == 1
    assert one.learner.bets.wanted == 2e9


def test_a_promoted_model_whose_numbers_are_not_finite_is_taken_back(core: ctypes.CDLL, program: Path) -> None:
    one = lived(promoted(core, 3e38), 1, seed=7, acts=False)
    assert one.learner.reason == "it forecasts numbers that are not finite"
    one.act(LIMITS)
    one.compare(follow_program(program, lived(one, 5, seed=8)))


def test_three_stays_that_are_no_readings_take_it_back(core: ctypes.CDLL, program: Path) -> None:
    one = lived(promoted(core, -0.1), 2, seed=9, spoilt=True)
    assert (one.learner.spoilt, one.demotions) == (2, 0)
    lived(one, 1, seed=10, spoilt=True)
    assert (one.learner.spoilt, one.demotions) == (3, 1)
    one.compare(follow_program(program, one))


# --- streams of samples ----------------------------------------------------------------------------------------------

KINDS = ("walk", "walk", "walk", "still", "spikes", "wide", "thirteen", "missing")


def piece(rng: np.random.Generator, kind: str, steps: int) -> np.ndarray:
    """Values of one kind."""
    walk = np.round(rng.uniform(40, 140) + np.cumsum(rng.normal(0, 3, steps)), int(rng.integers(0, 3)))
    if kind == "still":
        walk[:] = walk[0]
        walk[rng.random(steps) < 0.03] += 1
    elif kind == "spikes":
        walk[rng.random(steps) < 0.15] *= rng.uniform(0, 4)
    elif kind == "wide":
        walk = rng.normal(size=steps) * 10.0 ** rng.uniform(-20, 39)
    elif kind == "thirteen":  # of which the made-up state graph makes an infinite state
        walk[rng.random(steps) < 0.05] = 13
    elif kind == "missing":
        walk[rng.random(steps) < 0.7] = np.nan
    return np.asarray(walk)


Piece = tuple[str, int, int]
PIECES = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 90), st.integers(0, 9)), min_size=1, max_size=24)


def streamed(one: Pair, pieces: list[Piece], seed: int) -> Pair:
    """Pieces of a stream with gaps, clocks that are set, late, early and repeated samples, ends of stays, idle time."""
    rng, t = np.random.default_rng(seed), 10**12
    for kind, steps, then in pieces:
        for value in piece(rng, kind, steps).tolist():
            t += one.interval_ms if rng.random() < 0.95 else int(rng.integers(1, 8)) * one.interval_ms
            late = int(rng.integers(0, 5)) * one.interval_ms if rng.random() < 0.1 else 0
            one.sample(t - late + int(rng.integers(0, one.interval_ms)), value)
        if then == 0:
            one.end()
        elif then == 1:
            t += int(rng.integers(30, 900)) * one.interval_ms  # a gap, or nearly one
        elif then == 2:
            t -= int(rng.integers(1, 900)) * one.interval_ms  # a clock that was set
        elif then == 3:
            one.forget()
        elif then == 4:
            t = -t
        if then >= 5:
            one.work(LIMITS)
            one.act(LIMITS)
    one.end()
    one.work(LIMITS)
    one.act(LIMITS)
    one.windows()
    return one


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pieces=PIECES, seed=st.integers(0, 2**32), interval_ms=st.sampled_from([1_000, 60_000, HOUR]),
    plausible=st.sampled_from([(10, 350), (10, 350), None]), gap_steps=st.sampled_from([0, 0, 5]),
    stride=st.integers(0, 7), scored=st.sampled_from([1, 2, 7, 32]),
)  # fmt: skip
def test_any_stream_is_the_same_stays(
    core: ctypes.CDLL, program: Path, pieces: list[Piece], seed: int, interval_ms: int,
    plausible: tuple[float, float] | None, gap_steps: int, stride: int, scored: int,
) -> None:  # fmt: skip
    one = pair(
        core, interval_ms=interval_ms, plausible=plausible, gap_steps=gap_steps, stride=stride, scored_windows=scored,
        seed=seed % 1000, first_windows=6, promote_stays=2,
    )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        streamed(one, pieces, seed)
    one.compare(follow_program(program, one))


SIGNALS = st.one_of(
    st.integers(20, 24).map(float), st.sampled_from([math.nan, 9.9, 10.0, 350.0, math.inf]),
    st.floats(10, 350, width=32), st.sampled_from([40.0, 80.0, 81.0, 160.0]),
)  # fmt: skip


@given(
    values=st.lists(SIGNALS, max_size=60), spreads=st.sampled_from([1.0, 2.0, 6.0]), share=st.sampled_from([0.0, 0.2]),
    jump=st.integers(1, 6), flat=st.integers(1, 5), plausible=st.booleans(),
)  # fmt: skip
def test_any_values_are_cleaned_alike(
    core: ctypes.CDLL, values: list[float], spreads: float, share: float, jump: int, flat: int, plausible: bool
) -> None:
    x = np.array(values, dtype=np.float32)
    given = CleanRules(jump_spreads=spreads, jump_share=share, jump_steps=jump, flat_steps=flat)
    wanted, counts = clean(x, given, (10, 350) if plausible else None)
    low, high = (10, 350) if plausible else (-math.inf, math.inf)
    got, said, scratch = x.copy(), (ctypes.c_uint64 * 4)(), np.zeros(len(x) + 1)
    core.eta_clean(
        ctypes.c_void_p(got.ctypes.data), len(x), ctypes.byref(CClean(spreads, share, jump, flat)),
        ctypes.c_float(low), ctypes.c_float(high), ctypes.c_void_p(scratch.ctypes.data), said,
    )  # fmt: skip
    np.testing.assert_array_equal(got, wanted)
    assert list(said) == list(counts.to_value().values())


def test_stays_that_nobody_has_time_for_give_way(core: ctypes.CDLL, program: Path) -> None:
    one, rng, t = pair(core), np.random.default_rng(4), 0
    for _ in range(40):
        for value in stay(rng, 40).tolist():
            t += HOUR
            one.sample(t, value)
        one.end()
    one.said(LIMITS)
    one.work(LIMITS)
    one.act(LIMITS)
    one.compare(follow_program(program, one))
    assert one.feeds.left_out == 8


def test_of_a_long_stay_the_latest_steps_are_used(core: ctypes.CDLL, program: Path) -> None:
    one, rng = pair(core, interval_ms=1_000, plausible=None, gap_steps=100_000), np.random.default_rng(4)
    for number, value in enumerate(stay(rng, 17_000).tolist()):
        one.sample(1_000 * number, value)
        if number % 50 == 0:
            one.sample(1_000 * (number - int(rng.integers(1, 12_000))), 77.0)  # late, most of them too late
    one.end()
    one.work(LIMITS)
    one.windows()
    one.compare(follow_program(program, one))
    assert one.learner.counts.values > 7_000


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_it_is_the_same_on_every_processor(processor: str, core: ctypes.CDLL, tmp_path: Path) -> None:
    compiler, emulator = PROCESSORS[processor]
    need(compiler, *([emulator] if emulator else []))
    binary = compiled(tmp_path, compiler, "-O3", "-ffp-contract=fast", "-static")
    one = lived(pair(core, keep_windows="disk", cap_tensor=0.02), 40, seed=11)
    one.keep()
    one.compare(follow_program(binary, one, emulator=emulator))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"rate": 0.04}, {"batch": 300}, {"new_windows": 40}, {"windows": 8}, {"promote_evidence": 2.0}, {"seed": -1},
        {"interval_ms": 0}, {"context_length": 0}, {"steps_ahead": 0}, {"moves": 0}, {"low": 400.0}, {"low": np.nan},
        {"max_stay": 9_000}, {"levels": 0},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(core: ctypes.CDLL, program: Path, said: dict[str, Any]) -> None:
    one = pair(core)
    good = dict(one.head)
    assert followed(program, [packed(good), one.block.bytes, b"Q"])
    assert said.keys() <= good.keys()
    done = subprocess.run(
        [program], input=packed({**good, **said}) + one.block.bytes, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, b"")
