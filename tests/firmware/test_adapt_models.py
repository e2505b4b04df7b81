"""Adaptation in C on a real base's state graph, beside the Python learner on its learning graphs: the same decisions.

`test_adapt_core.py` holds every number to Python's with one block for both. Here Python's gradients are summed in
float32 by ONNX Runtime or torch. Where as much pulls a bias up as down, that leaves a rounding, of which Adam makes a
step: so shifts are alike, not equal, and what they lead to is compared.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from device_runtime.adapt.rules import AdaptRules

from .adapt_block import LAYERS, FloatArray, StateFn, Weights, library_of
from .adapt_core import Limits, Pair
from .test_learning import Shape, dummy, micro

__all__ = ["dummy", "micro"]
HOUR = 3_600_000
STEPS = 6
# One step of Adam the other way here and there, and what comes of it. The micro base's shifts were within 7.2e-7 over
# 192 steps, its evidence within 1.4e-5; the dummy's random weights are nearer to their kinks.
ALIKE = Limits(loss=0.1, shift=0.04, evidence=0.1)


class OfShape:
    """A `Learnable` of a shape's own learner."""

    def __init__(self, shape: Shape, context_length: int) -> None:
        self.names, self.sizes, self._learner = LAYERS, shape.sizes, shape.learner
        self.context_length, self.prediction_length = context_length, shape.horizon
        self.gradients, self.forecast = shape.learner.gradients, shape.learner.forecast


def followed(core: ctypes.CDLL, pair: Pair, shape: Shape) -> bytes:
    """Let the library follow, by the shape's state graph."""
    size = shape.weights["hidden_layer.weight"].shape[1]

    def state(_: Any, context: Any, length: int, out: Any, loc: Any, scale: Any) -> bool:
        held = shape.states(np.ctypeslib.as_array(context, (length,))[None].copy())
        np.ctypeslib.as_array(out, (size,))[:] = held["state"][0]
        loc[0], scale[0] = float(held["loc"].reshape(-1)[0]), float(held["scale"].reshape(-1)[0])
        return True

    script, room = b"".join(pair.script), 256 << 20
    out = ctypes.create_string_buffer(room)
    count = core.follow(script, ctypes.c_size_t(len(script)), StateFn(state), out, ctypes.c_size_t(room))
    return out.raw[:count]


def ward(rng: np.random.Generator, steps: int) -> FloatArray:
    """An hourly rate that swings within the day, and jumps by twos as a nurse reads it."""
    hours = np.arange(steps) + rng.integers(0, 24)
    level = rng.normal(20, 3) + 3 * np.sin(hours / 24 * 2 * np.pi) + np.cumsum(rng.normal(0, 0.4, steps))
    values = 2 * np.round(level / 2 + rng.normal(0, 0.5, steps))
    values[rng.random(steps) < 0.1] = np.nan
    return values.astype(np.float32)


def lived(shape: Shape, stays: int, *, context_length: int, seed: int) -> Pair:
    """Hourly stays of a ward; what the evidence asks for is done."""
    rules = AdaptRules(
        windows=128, kept_windows=16, batch=16, new_windows=4, first_windows=32, rate=0.01, average=0.9,
        promote_stays=10, promote_evidence=10.0, scored_windows=8,
    )  # fmt: skip
    block = Weights(shape.weights, tuple(shape.levels), shape.horizon)
    pair = Pair(
        OfShape(shape, context_length), block, rules, interval_ms=HOUR, context_length=context_length, steps=STEPS,
        plausible=(2, 90),
    )  # fmt: skip
    rng, t = np.random.default_rng(seed), 10**12
    for _ in range(stays):
        for value in ward(rng, int(rng.integers(40, 90))).tolist():
            t += HOUR
            pair.sample(t, value)
        pair.end()
        pair.work(ALIKE)
        pair.act(ALIKE)
    return pair


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library_of(tmp_path_factory.mktemp("adapt"))


def test_the_dummy_base_is_adapted_alike(core: ctypes.CDLL, dummy: Shape) -> None:
    pair = lived(dummy, 40, context_length=24, seed=1)
    pair.compare(followed(core, pair, dummy))
    assert pair.learner.optimiser.steps > 100


@pytest.mark.slow
def test_the_micro_base_is_adapted_and_promoted_at_the_same_stay(core: ctypes.CDLL, micro: Shape) -> None:
    pair = lived(micro, 50, context_length=48, seed=1)
    pair.compare(followed(core, pair, micro))
    assert pair.promotions == 1
