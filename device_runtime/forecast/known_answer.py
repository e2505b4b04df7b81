"""The known-answer test: a merged model's output for a short context, compared with the expected one (FORMAT.md §7)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import SelfTestError
from device_runtime.format.adapter import Adapter
from device_runtime.format.manifest import Manifest

FloatArray = NDArray[np.float32]


def prove(manifest: Manifest, adapter: Adapter | None, probe: Callable[[FloatArray, int], FloatArray]) -> float | None:
    """Run the known-answer test of the adapter, or of the base alone, by ``probe`` (context ``[L]``, size → numbers).

    Returns the largest absolute difference, in the target's unit; None where there is no test, so nothing is proven.
    Raises `SelfTestError` when it exceeds the tolerance, or when that is so wide that passing would prove nothing.
    """
    stated = manifest.known_answer
    answer = adapter.known_answer if adapter else stated.as_test() if stated else None
    if answer is None:
        return None
    widest = widest_tolerance(answer.context)
    if answer.tolerance > widest:
        raise SelfTestError(
            f"known-answer test: allows {answer.tolerance:.6g}, want at most {widest:.6g}",
            hint="so wide a tolerance would pass a wrong merge too; the adapter is not used",
        )
    got = probe(answer.context, len(answer.expected))
    difference = float(np.abs(got.astype(np.float64) - answer.expected).max())
    if not difference <= answer.tolerance:  # also when it is NaN
        raise SelfTestError(
            f"known-answer test: off by {difference:.6g}, allowed {answer.tolerance:.6g}",
            hint="the merged model is not the one that was approved; the adapter is not used"
            if adapter
            else "the base is not the one that was exported: copy the bundle again, or try another onnxruntime",
        )
    return difference


def widest_tolerance(context: FloatArray) -> float:
    """Return the widest tolerance a known-answer test on ``context`` ``[L]`` may have (FORMAT.md §7)."""
    low, high = float(context.min()), float(context.max())
    return (high - low) / 50 + max(abs(low), abs(high)) / 50_000


def unproven() -> SelfTestError:
    """Make the error for an adapter without a known-answer test."""
    return SelfTestError(
        "the adapter carries no known-answer test: nothing proves its merge on this device",
        hint="export it with edge-tsfm export adapter, which adds one",
    )
