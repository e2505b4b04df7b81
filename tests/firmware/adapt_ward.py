"""A ward of simulated stays that goes through both cores of adaptation, and the C core as fixtures."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.adapt.rules import AdaptRules, CleanRules

from .adapt_block import SANITIZED, OfBlock, compiled, library_of, made_up
from .adapt_core import Limits, Pair

HOUR = 3_600_000
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


OF_PAIR = ("interval_ms", "moves", "plausible", "gap_steps", "fails", "calibrated")


def pair(core: ctypes.CDLL, *, off: float = 0.5, seed: int = 1, **said: Any) -> Pair:
    fixed: dict[str, Any] = {"interval_ms": HOUR, "context_length": 24, "steps": 6}
    given = {name: said.pop(name) for name in OF_PAIR if name in said}
    block = made_up(seed, off=off)
    learnable = OfBlock(core, block, 24, calibrated=given.get("calibrated", False))
    return Pair(learnable, block, rules(**said), **{**fixed, **given})


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
