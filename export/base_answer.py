"""The known answer of a base alone: what a device asks of it whenever no adapter runs."""

from __future__ import annotations

import numpy as np

from device_runtime import canonical
from device_runtime.bundle import Bundle
from device_runtime.files import write_atomic
from device_runtime.forecaster import FAMILIES, Sampler
from device_runtime.manifest import MANIFEST_FILE
from device_runtime.session import SessionSettings
from export.contexts import synthetic_contexts
from export.known_answer import CONTEXT_LENGTH, PROBE_STEPS, TOLERANCE_OF_LEVEL, TOLERANCE_OF_SCALE
from export.record import read_manifest

LEVEL, SPREAD = 80.0, 10.0  # of the synthetic context, like a vital sign's
DIGITS = 3  # after the point: a hundredth of the tolerance, and a number that canonical JSON can hold


def give_known_answer(bundle: Bundle) -> Bundle:
    """Write what a bundle forecasts from a synthetic context into its manifest; return the bundle opened again.

    For a bundle that was just written and proven, before it gets its name: its digest changes. The tolerance is that of
    an adapter's known-answer test in the same precision.
    """
    manifest = bundle.manifest
    (context,) = synthetic_contexts(1, CONTEXT_LENGTH, level=LEVEL, spread=SPREAD, seed=0)
    context = np.round(context.astype(np.float64), DIGITS).astype(np.float32)
    model = FAMILIES[manifest.family](bundle, {}, SessionSettings())
    size = PROBE_STEPS * len(manifest.quantile_levels)
    if isinstance(model, Sampler):
        size = min(size, manifest.prediction_length)  # one number a step
    expected = model.probe(context, size)
    of_scale = TOLERANCE_OF_SCALE[manifest.precision]
    tolerance = of_scale * float(context.std()) + TOLERANCE_OF_LEVEL * float(np.abs(context).max())
    answer = {
        "context": [_number(value) for value in context],
        "expected": [_number(value) for value in expected],
        "tolerance": round(tolerance, 6),
    }
    data = canonical.dumps({**read_manifest(bundle), "known_answer": answer})
    write_atomic(bundle.path / MANIFEST_FILE, data)
    return Bundle.open(bundle.path)


def _number(value: np.float32) -> float:
    """Round to `DIGITS`, with one zero."""
    return round(float(value), DIGITS) + 0.0
