"""Adaptation in C learns, judges and proposes what the Python core does from the same samples."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_runtime.adapt.rules import AdaptRules, CleanRules

from .adapt_core import (
    SANITIZED,
    Limits,
    OfBlock,
    Pair,
    compiled,
    follow_program,
    followed,
    library_of,
    made_up,
    packed,
)
from .conftest import need
from .test_processors import PROCESSORS

MINUTE, HOUR = 60_000, 3_600_000
LIMITS = Limits()


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library_of(tmp_path_factory.mktemp("adapt"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("adapt"), "cc", *SANITIZED)


def rules(**said: Any) -> AdaptRules:
    small: dict[str, Any] = {
        "windows": 64, "kept_windows": 12, "new_windows": 4, "batch": 16, "first_windows": 24, "rate": 0.01,
        "average": 0.9, "promote_stays": 10, "promote_evidence": 10.0, "cap_tensor": 0.5, "cap_day": 0.5,
        "clean": CleanRules(flat_steps=20),
    }  # fmt: skip
    return AdaptRules(**{**small, **said})


def pair(core: ctypes.CDLL, *, off: float = 0.5, seed: int = 1, **said: Any) -> Pair:
    fixed: dict[str, Any] = {"interval_ms": HOUR, "context_length": 24, "steps": 6}
    given = {
        name: said.pop(name) for name in ("interval_ms", "moves", "plausible", "gap_steps", "fails") if name in said
    }
    block = made_up(seed, off=off)
    return Pair(OfBlock(core, block, 24), block, rules(**said), **{**fixed, **given})


def stay(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A vital sign that wanders, with gaps and, now and then, an artefact."""
    values = np.round(rng.normal(80, 8) + np.cumsum(rng.normal(0, 2, steps)), 1)
    values[rng.random(steps) < 0.1] = np.nan
    values[rng.random(steps) < 0.02] = 500
    values[rng.random(steps) < 0.02] += 120
    return values


def lived(one: Pair, stays: int, *, seed: int, acts: bool = True, spoilt: bool = False) -> Pair:
    """A ward's stays, each ended by an event."""
    rng, t = np.random.default_rng(seed), 10**12
    for _ in range(stays):
        values = stay(rng, int(rng.integers(20, 90)))
        if spoilt:
            values[::2] = 999
            values[1::4] = 0
        for value in values:
            t += one.interval_ms
            one.sample(t, float(value))
        t += int(rng.integers(0, 30)) * one.interval_ms
        one.end()
        one.work(LIMITS)
        if acts:
            one.act(LIMITS)
    one.windows()
    return one


CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "dense": {"interval_ms": 1_000, "first_windows": 0, "average": 0.0},
    "held back": {"cap_tensor": 0.02, "cap_day": 0.01, "anchor": 0.1, "clip_norm": 0.05},
    "some tensors": {"moves": (False, True, False), "cap_day": 0.01},
    "clipped targets": {"clip_spreads": 1.0},
    "nothing to gain": {"off": 0.0, "promote_evidence": 1e6},
    "no range": {"plausible": None},
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


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_it_goes_on_from_what_was_kept(core: ctypes.CDLL, program: Path, keep: str) -> None:
    one = lived(pair(core, keep_windows=keep), 25, seed=11)
    one.keep()
    (image,) = one.compare(follow_program(program, one)).images
    other = one.restarted(image)
    other.said(LIMITS)
    lived(other, 25, seed=12)
    other.keep()
    (later,) = other.compare(follow_program(program, other)).images
    assert other.learner.reservoir.seen > 300
    assert len(later) == len(image)


def test_what_was_not_kept_by_it_is_refused(core: ctypes.CDLL, program: Path) -> None:
    """Cut short, longer, of other sizes, or with a number that no learner has: it starts afresh each time."""
    one = lived(pair(core, keep_windows="disk"), 25, seed=11)
    one.keep()
    (image,) = one.compare(follow_program(program, one)).images
    fresh = pair(core, keep_windows="disk")
    floats = len(image) - 400
    bad = [b"", image[:7], image[:100], image[:-1], image + b"\0", b"X" + image[1:], image[:8] + b"\2" + image[9:]]
    bad += [image[:at] + b"\xff" * 8 + image[at + 8 :] for at in (16, 56, 64, 72, 80, 168, floats // 2)]
    for one_bad in bad:
        fresh.load(one_bad, False)
        fresh.said(LIMITS)
    lived(fresh, 5, seed=13)
    fresh.compare(follow_program(program, fresh))
    moved = pair(core, keep_windows="disk", moves=(False, True, True))
    moved.load(image, False)
    moved.compare(follow_program(program, moved))


def test_windows_are_forgotten_where_they_may_no_longer_be_kept(core: ctypes.CDLL, program: Path) -> None:
    one = lived(pair(core, keep_windows="disk"), 25, seed=11)
    one.keep()
    (image,) = one.compare(follow_program(program, one)).images
    other = lived(pair(core), 25, seed=11)
    again = other.restarted(image)
    again.learner.forget_windows()  # as Adapting does
    again.said(LIMITS)
    again.windows()
    again.compare(follow_program(program, again))


@dataclass(frozen=True)
class Kept:
    """A learner's bytes, and a script of what comes behind them."""

    head: list[bytes]
    image: bytes
    after: list[bytes]


@pytest.fixture(scope="module")
def kept(core: ctypes.CDLL, program: Path) -> Kept:
    one = lived(pair(core, keep_windows="disk"), 25, seed=11)
    one.keep()
    (image,) = one.compare(follow_program(program, one)).images
    after = lived(pair(core), 3, seed=12, acts=False).script[2:]
    return Kept(one.script[:2], image, [*after, b"I"])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(places=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_never_break_the_program(program: Path, kept: Kept, places: list[tuple[int, int]]) -> None:
    damaged = bytearray(kept.image)
    for at, value in places:
        damaged[at % len(damaged)] = value
    load = b"L" + len(damaged).to_bytes(4, "little") + bytes(damaged)
    followed(program, [*kept.head, load, *kept.after])


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
