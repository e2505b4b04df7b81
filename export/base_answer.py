"""The known answer of a base alone, which a device checks whenever no adapter runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.model import Model
from device_runtime.forecast.known_answer import widest_tolerance
from device_runtime.forecast.session import SessionSettings
from device_runtime.format import canonical
from device_runtime.format.manifest import MANIFEST_FILE, BaseAnswer
from export.adjustable import adjustable
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.known_answer import CONTEXT_LENGTH, probes, tolerances
from export.manifest import read_manifest

FloatArray = NDArray[np.float32]

LEVEL, SPREAD = 80.0, 10.0  # of the synthetic contexts, like a vital sign's
CANDIDATES = 8
# After the point, in what is written: processors differ in the sixth, and a digest must not differ between them.
DIGITS = 2
STEPS = (1.0, 2.0, 5.0)  # a tolerance is one of these times a power of ten, for the same reason


def give_known_answer(bundle: Bundle) -> Bundle:
    """Write what a bundle forecasts from a synthetic context into its manifest; return the bundle opened again.

    For a bundle that was just written and proven, before it gets its name: its digest changes. Of `CANDIDATES` contexts
    the first with the narrowest tolerance is taken, which is that of an adapter's known answer (`tolerances`) and the
    written digits' rounding, rounded up. Raises `ExportError` when none is narrow enough to prove anything.
    """
    answer = _narrowest(bundle)
    widest = widest_tolerance(answer.as_test().context)
    if answer.tolerance > widest:
        raise ExportError(
            f"known-answer test of the base: rounding alone may move its forecasts by {answer.tolerance:.3g}, "
            f"want at most {widest:.3g}",
            hint="so sensitive a base cannot be checked on another processor; use float32 or float16",
        )
    stated = {"context": answer.context, "expected": answer.expected, "tolerance": answer.tolerance}
    data = canonical.dumps({**read_manifest(bundle), "known_answer": stated})
    write_atomic(bundle.path / MANIFEST_FILE, data)
    return Bundle.open(bundle.path)


def _narrowest(bundle: Bundle) -> BaseAnswer:
    """Return the candidate that rounding moves least."""
    contexts = synthetic_contexts(CANDIDATES, CONTEXT_LENGTH, level=LEVEL, spread=SPREAD, seed=0)
    contexts = np.round(contexts.astype(np.float64), DIGITS).astype(np.float32)
    expected = probes(bundle, {}, contexts, SessionSettings(from_disk=True))  # just written, by this process
    table = bundle.manifest.tensors
    vectors = [entry.name for entry in table if len(entry.shape) == 1]
    with adjustable(bundle, vectors, bundle.path.parent) as one:  # a session of a large base takes seconds to open

        def opened(tensors: Mapping[int, FloatArray]) -> Model:
            model: Model = one.merged({table[n].name: tensor for n, tensor in tensors.items()})
            return model

        allowed = tolerances(bundle, {}, contexts, expected, opened)
    written = 0.5 * 10.0**-DIGITS
    answers = [
        BaseAnswer(
            context=tuple(map(_number, context)),
            expected=tuple(map(_number, answer)),
            tolerance=_rounded_up(float(off) + written),
        )
        for context, answer, off in zip(contexts, expected, allowed, strict=True)
    ]
    return min(answers, key=lambda answer: answer.tolerance)  # the first, where several are equal


def _number(value: np.float32) -> float:
    """Round to `DIGITS`, with one zero."""
    return round(float(value), DIGITS) + 0.0


def _rounded_up(value: float) -> float:
    """Return the least of `STEPS` times a power of ten that is not below ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return round(power * next(step for step in (*STEPS, 10.0) if step * power >= value), 9)
