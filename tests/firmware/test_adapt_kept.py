"""What adaptation in C keeps: the bytes, that it goes on from them, and that it takes no others."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .adapt_core import follow_program, followed
from .adapt_ward import LIMITS, core, lived, pair, program

__all__ = ["core", "program"]


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


def test_the_bytes_are_those_of_the_reference(core: ctypes.CDLL, program: Path) -> None:
    one = lived(pair(core, keep_windows="disk"), 12, seed=11, acts=False)
    one.keep()
    (image,) = one.compare(follow_program(program, one)).images
    learner, optimiser, n = one.learner, one.learner.optimiser, sum(one.block.sizes)
    assert image[:8] == b"10_ETALA"
    counts = learner.counts
    whole = [1, 8, 12, 9, 8, 6, 7, 1, 0, 0, learner.stays]
    assert list(struct.unpack_from("<11Q", image, 8)) == whole
    drawn = struct.unpack_from("<6Q", image, 8 * 16)
    assert drawn == (learner.draws.seed, learner.draws.drawn, *counts.to_value().values())
    assert struct.unpack_from("<3Q", image, 8 * 25) == (optimiser.steps, optimiser.capped, 1)
    assert struct.unpack_from("<q", image, 8 * 28) == (optimiser.day,)
    arrays = np.frombuffer(image, "<f4", 6 * n, 8 * 29).reshape(6, n)
    for mine, name in zip(arrays, ("iterate", "mean", "first", "second", "morning"), strict=False):
        np.testing.assert_allclose(mine, getattr(optimiser, name), atol=1e-6)
    at = 8 * 29 + 4 * 6 * n
    assert struct.unpack_from("<Q", image, at) == (learner.bets.better.units,)
    np.testing.assert_allclose(
        np.frombuffer(image, "<f8", 35, at + 8), np.ravel([part.logs for part in learner.bets.better.parts]), atol=1e-9
    )
    at += 2 * 8 * 36
    assert struct.unpack_from("<2d", image, at) == pytest.approx(
        (learner.bets.bound.clip, learner.bets.gained), rel=1e-9
    )
    held = learner.reservoir.held
    assert struct.unpack_from("<3Q", image, at + 16) == (0, learner.reservoir.seen, held)
    assert len(image) == at + 40 + held * (4 * (8 + 6 + 2) + 1)


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
