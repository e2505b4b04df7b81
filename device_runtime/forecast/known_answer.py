"""The known-answer test: a merged model's output for a short context, compared with the expected one (FORMAT.md §7)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import SelfTestError
from device_runtime.format.adapter import Adapter, KnownAnswer
from device_runtime.format.manifest import Manifest

FloatArray = NDArray[np.float32]
SEEN = 4.0  # an adapter's effect, in tolerances, without which the test would pass unmerged


Probe = Callable[[FloatArray, int], FloatArray]  # context [L], size → numbers


def prove(manifest: Manifest, adapter: Adapter | None, probe: Probe, *, beside: float = 0.0) -> float | None:
    """Run the known-answer test of the adapter, or of the base alone, by ``probe``.

    ``beside`` is what a provider was proven to be off by, in standard deviations of the context; the test's own
    tolerance is what an order of summation may do. Returns the largest absolute difference, in the target's unit; None
    where there is no test, so nothing is proven. Raises `SelfTestError` when it exceeds the tolerance, or when that is
    so wide that passing would prove nothing.
    """
    answer = answer_of(manifest, adapter)
    if answer is None:
        return None
    allowed, widest = allowed_by(answer, beside), widest_tolerance(answer.context)
    if allowed > widest:
        raise SelfTestError(
            f"known-answer test: allows {allowed:.6g}, want at most {widest:.6g}",
            hint="so wide a tolerance would pass a wrong merge too; the adapter is not used",
        )
    got = probe(answer.context, len(answer.expected))
    difference = float(np.abs(got.astype(np.float64) - answer.expected).max())
    if not difference <= allowed:  # also when it is NaN
        raise SelfTestError(
            f"known-answer test: off by {difference:.6g}, allowed {allowed:.6g}",
            hint="the merged model is not the one that was approved; the adapter is not used"
            if adapter
            else "the base is not the one that was exported: copy the bundle again, or try another onnxruntime",
        )
    return difference


def check_seen(manifest: Manifest, adapter: Adapter, base: Probe, *, beside: float) -> None:
    """Refuse an adapter whose effect a provider's tolerance covers: unmerged, it would pass as well.

    ``base`` is the frozen base's probe on the same provider. Raises `SelfTestError`.
    """
    answer = answer_of(manifest, adapter)
    if answer is None:
        return
    move = float(np.abs(base(answer.context, len(answer.expected)) - answer.expected).max())
    allowed = allowed_by(answer, beside)
    if not move >= SEEN * allowed:
        raise SelfTestError(
            f"known-answer test: the adapter moves this forecast by {move:.6g}, {move / allowed:.2g} times what this "
            f"provider may be off by, want {SEEN:g}: a merge that failed could pass",
            hint="run this adapter on the processor (--provider cpu), or on a provider of more precision",
        )


def answer_of(manifest: Manifest, adapter: Adapter | None) -> KnownAnswer | None:
    """Return the test of the adapter, or that of the base alone; None: there is none."""
    stated = manifest.known_answer
    return adapter.known_answer if adapter else stated.as_test() if stated else None


def allowed_by(answer: KnownAnswer, beside: float) -> float:
    """Return what a known answer may be off by where a provider adds ``beside``, in the target's unit."""
    return answer.tolerance + beside * float(answer.context.std())


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
