"""Choosing a known-answer test: a synthetic context on which the adapter visibly differs from its base.

Its tolerance is measured, not fixed: see `tolerances` and docs/adr/0020. The exporter chooses one for a trained
adapter, a monitor for one that it learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import SelfTestError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.contexts import synthetic_contexts
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.families.model import Model, Sampler
from device_runtime.forecast.known_answer import SEEN, widest_tolerance
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.adapter import KnownAnswer

FloatArray = NDArray[np.float32]
Opened = Callable[[Mapping[int, FloatArray]], Model]

DEVICE = SessionSettings()
CONTEXT_LENGTH = 16  # 64 bytes
PROBE_STEPS = 2
CANDIDATES = 64
FINALISTS = 8  # of the candidates: those whose forecast the adapter moves most

ROUNDOFF = 2.0**-24  # float32's unit roundoff, u
# A float32 product summed in any order is the exact product of factors that are moved by at most 4 √n u, n being the
# length of the sum, but in one case of some thousands (Higham and Mary 2019): 2^-16 for sums of 4,096.
NUDGE = 4 * 4096**0.5 * ROUNDOFF
# A number within rounding of a tie, which int8 takes to either side, escapes all of them once in 65,536 times.
DRAWS = 16
MARGIN = 2.0  # the exporter's processor is off, and the device's
LEVEL = 16 * ROUNDOFF  # of the context's largest number: forecasts are small numbers added to their level


def choose_known_answer(
    bundle: Bundle,
    merged: Mapping[int, FloatArray],
    *,
    level: float,
    spread: float,
    seed: int = 0,
    beside: Mapping[int, FloatArray] = MappingProxyType({}),
) -> tuple[KnownAnswer, float]:
    """Pick the candidate whose forecast the adapter moves most; also return that move, in tolerances.

    It is moved from what ``beside`` forecasts, merged tensors too: the base alone unless others are said.
    ``level`` and ``spread`` are the target's typical mean and standard deviation: the contexts are synthetic, so a
    blob has no patient's values. Raises `SelfTestError` if no candidate distinguishes the adapter from its base.
    """
    contexts = synthetic_contexts(CANDIDATES, CONTEXT_LENGTH, level=level, spread=spread, seed=seed)
    expected = probes(bundle, merged, contexts)  # [N, size]
    moves = np.abs(expected - probes(bundle, beside, contexts)).max(axis=1)  # [N]
    finalists = np.argsort(-moves / contexts.std(axis=1))[:FINALISTS]
    contexts, expected, moves = contexts[finalists], expected[finalists], moves[finalists]
    allowed = tolerances(bundle, merged, contexts, expected)
    fit = [n for n, context in enumerate(contexts) if allowed[n] <= widest_tolerance(context)]
    margins = moves / allowed
    best = max(fit, key=lambda n: margins[n], default=int(margins.argmax()))
    if not fit or margins[best] < SEEN:
        raise SelfTestError(
            f"known-answer test: the adapter moves no synthetic forecast by more than {margins[best]:.2g} tolerances, "
            f"want {SEEN:g}: on another processor it could not be distinguished from its base"
        )
    answer = KnownAnswer(context=contexts[best], expected=expected[best], tolerance=float(allowed[best]))
    return answer, float(margins[best])


def probes(
    bundle: Bundle, merged: Mapping[int, FloatArray], contexts: FloatArray, settings: SessionSettings = DEVICE
) -> FloatArray:
    """Return what a known-answer test asks of each of ``contexts`` ``[N, L]``: ``[N, size]``.

    The sessions are closed again: those of a large base are twice its size.
    """
    model = _model(bundle, merged, settings)
    size = probe_size(bundle, model)
    return np.stack([model.probe(context, size) for context in contexts])


def probe_size(bundle: Bundle, model: Model) -> int:
    """Return how many numbers a known-answer test compares."""
    size = PROBE_STEPS * len(bundle.manifest.quantile_levels)
    return (
        min(size, bundle.manifest.prediction_length) if isinstance(model, Sampler) else size
    )  # a sampler's: one a step


def tolerances(
    bundle: Bundle,
    merged: Mapping[int, FloatArray],
    contexts: FloatArray,
    expected: FloatArray,
    opened: Opened | None = None,
) -> FloatArray:
    """Return what a right merge of ``contexts`` ``[N, L]`` may be off by on another processor: ``[N]``, in their unit.

    The model is run again with its contexts, its merged tensors and its vectors (norms, biases) moved by up to `NUDGE`,
    `DRAWS` times, but for tensors that are quantised: merged to the bit, they have exact sums. The tolerance is the
    largest difference from ``expected`` ``[N, size]``, times `MARGIN`. In int8 an activation on the other side of a tie
    moves a forecast by a thousand times what rounding does: contexts that have one near get a wide tolerance, and so
    are not chosen where others do without.

    ``opened`` gives the model with tensors in it, by index, to whoever can do that without a session for each draw.
    """
    opened = opened or partial(_model, bundle)
    draw = np.random.default_rng(0)
    table = bundle.manifest.tensors
    vectors = {n: bundle.tensor(n) for n, entry in enumerate(table) if len(entry.shape) == 1}
    largest = np.zeros(len(contexts))
    for _ in range(DRAWS):
        model = opened({n: t if table[n].quantised else _nudged(t, draw) for n, t in {**vectors, **merged}.items()})
        for n, context in enumerate(contexts):
            # Tokens stay tokens, unless rounding alone moves a value across a bin's edge: then the answer is no good.
            nudge = 0.0 if isinstance(model, Sampler) else NUDGE * float(context.std())
            moved = context + np.maximum(nudge, 2 * ROUNDOFF * np.abs(context)) * draw.uniform(-1, 1, context.shape)
            difference = model.probe(moved.astype(np.float32), expected.shape[1]).astype(np.float64) - expected[n]
            largest[n] = max(largest[n], float(np.abs(difference).max()))
        del model  # before the next one takes as much memory
    return np.asarray(MARGIN * largest + LEVEL * np.abs(contexts).max(axis=1), dtype=np.float32)


def _nudged(tensor: FloatArray, draw: np.random.Generator) -> FloatArray:
    """Move every number by up to `NUDGE` of its size."""
    return np.asarray(tensor * (1 + NUDGE * draw.uniform(-1, 1, tensor.shape)), dtype=np.float32)


def _model(bundle: Bundle, tensors: Mapping[int, FloatArray], settings: SessionSettings = DEVICE) -> Model:
    return FAMILIES[bundle.manifest.family](bundle, tensors, settings)
