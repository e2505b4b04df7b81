"""Adaptation in C learns, judges and proposes what the Python core does from the same samples."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_runtime.adapt.rules import AdaptRules, CleanRules

from .adapt_core import SANITIZED, Limits, OfBlock, Pair, compiled, follow_program, library_of, made_up

MINUTE, HOUR = 60_000, 3_600_000
LIMITS = Limits()


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library_of(tmp_path_factory.mktemp("adapt"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("adapt"), "cc", *SANITIZED)


def rules(**said: Any) -> AdaptRules:
    small = {
        "windows": 64, "kept_windows": 12, "new_windows": 4, "batch": 16, "first_windows": 24, "rate": 0.01,
        "average": 0.9, "promote_stays": 10, "promote_evidence": 10.0, "cap_tensor": 0.5, "cap_day": 0.5,
        "clean": CleanRules(flat_steps=20),
    }  # fmt: skip
    return AdaptRules(**{**small, **said})


def pair(core: ctypes.CDLL, *, off: float = 0.5, seed: int = 1, **said: Any) -> Pair:
    fixed = {"interval_ms": HOUR, "context_length": 24, "steps": 6}
    given = {name: said.pop(name) for name in ("interval_ms", "moves", "plausible", "gap_steps") if name in said}
    block = made_up(seed, off=off)
    return Pair(OfBlock(core, block, 24), block, rules(**said), **{**fixed, **given})


def stay(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A vital sign that wanders, with gaps and, now and then, an artefact."""
    values = np.round(rng.normal(80, 8) + np.cumsum(rng.normal(0, 2, steps)), 1)
    values[rng.random(steps) < 0.1] = np.nan
    values[rng.random(steps) < 0.02] = 500
    values[rng.random(steps) < 0.02] += 120
    return values


def lived(one: Pair, stays: int, *, seed: int, worse_from: int | None = None) -> Pair:
    """A ward's stays, each ended by an event; after `worse_from`, of another kind."""
    rng, t = np.random.default_rng(seed), 0
    for number in range(stays):
        values = stay(rng, int(rng.integers(20, 90)))
        if worse_from is not None and number >= worse_from:
            values = values[::-1] + 3 * np.arange(len(values)) % 50
        for value in values:
            t += one.interval_ms
            one.sample(t, float(value))
        t += int(rng.integers(0, 30)) * one.interval_ms
        one.end()
        one.work(LIMITS)
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
