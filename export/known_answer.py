"""Choosing a known-answer test: a synthetic context on which the adapter visibly differs from its base."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapter import KnownAnswer
from device_runtime.bundle import Bundle
from device_runtime.forecaster import FAMILIES, Sampler
from device_runtime.session import SessionSettings
from export.contexts import synthetic_contexts
from export.errors import ExportError

FloatArray = NDArray[np.float32]

CONTEXT_LENGTH = 16  # 64 bytes
PROBE_STEPS = 2
CANDIDATES = 64
# Allowed difference: what processors, thread counts and versions of onnxruntime may differ by, and no more. In int8 the
# last bit of a float can move an activation by a whole step (docs/adr/0015).
TOLERANCE_OF_SCALE = {"float32": 1e-3, "float16": 1e-3, "int8": 5e-3}
TOLERANCE_OF_LEVEL = 2e-6  # float32 rounds a value of 100 to 8e-6
SEEN = 4.0  # the adapter's effect, in tolerances, without which the test would pass unmerged


def choose_known_answer(
    bundle: Bundle, merged: Mapping[int, FloatArray], *, level: float, spread: float, seed: int = 0
) -> tuple[KnownAnswer, float]:
    """Pick the candidate whose forecast the adapter moves most; also return that move, in tolerances.

    ``level`` and ``spread`` are the target's typical mean and standard deviation: the contexts are synthetic, so a
    blob carries nobody's values. Raises `ExportError` when no candidate tells the adapter from its base.
    """
    family = FAMILIES[bundle.manifest.family]
    base, tuned = (family(bundle, tensors, SessionSettings()) for tensors in ({}, merged))
    size = PROBE_STEPS * len(bundle.manifest.quantile_levels)
    if isinstance(base, Sampler):
        size = min(size, bundle.manifest.prediction_length)  # one number a step
    of_scale = TOLERANCE_OF_SCALE[bundle.manifest.precision]
    best: tuple[float, KnownAnswer] | None = None
    for context in synthetic_contexts(CANDIDATES, CONTEXT_LENGTH, level=level, spread=spread, seed=seed):
        expected = tuned.probe(context, size)
        move = float(np.abs(expected - base.probe(context, size)).max())
        tolerance = of_scale * float(context.std()) + TOLERANCE_OF_LEVEL * float(np.abs(context).max())
        tolerance = float(np.float32(tolerance))
        if best is None or move / tolerance > best[0]:
            best = (move / tolerance, KnownAnswer(context=context, expected=expected, tolerance=tolerance))
    assert best is not None
    if best[0] < SEEN:
        raise ExportError(
            f"the adapter moves no synthetic forecast by more than {best[0]:.2g} tolerances, want {SEEN}: "
            "a known-answer test could not tell it from its base",
            hint="train longer, or check that the run did anything",
        )
    return best[1], best[0]
