"""Check that a bundle with int8 or float16 weights forecasts with shifted biases as it does with merged ones.

Torch has no such model, so the shifted graph is compared with the bundle's own forecast graph. The two round in the
same way except for the order of sums, and an activation near a tie may be rounded either way. So what is compared is
the change made by each bias, as `export.deviation` does for a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.learning import LearningSession
from device_runtime.format.learning import Learning
from export.adjustable import adjustable
from export.deviation import ELSEWHERE, MISSED, STRENGTHS, allowed_deviation, long_and_short, mean_deviation, perturbed
from export.errors import ExportError

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ShiftedParity:
    """How far shifted forecasts lie from merged ones, in units of the contexts' scale, and the bias heard least."""

    shifted: float
    weakest: str
    weakest_move: float


def check_reduced(bundle: Bundle, learning: Learning) -> ShiftedParity:
    """Compare every bias alone, then all together. Raises `ExportError`."""
    session = LearningSession(bundle, learning, {})
    context = long_and_short(bundle)[1]
    tensors = {name: bundle.tensor(bundle.index_of(name)) for name in learning.names}
    base = Bundle.open(bundle.path)
    moves = {}
    with adjustable(base, tensors, bundle.path) as merged:

        def shifted(moved: dict[str, FloatArray]) -> FloatArray:
            row = np.concatenate([moved.get(name, tensors[name]) - tensors[name] for name in session.names])
            return session.raw(context, np.repeat(row[None], len(context), axis=0))

        still, own = merged.witness({}, context), shifted({})
        for number, (name, tensor) in enumerate(tensors.items()):
            for strength in STRENGTHS:
                moved = {name: perturbed(tensor, strength, seed=number)}
                wanted, got = merged.witness(moved, context) - still, shifted(moved) - own
                moves[name] = mean_deviation(wanted, np.zeros_like(wanted), context)
                if moves[name] > 0 and mean_deviation(got, wanted, context) <= MISSED * moves[name]:
                    break
            else:
                raise ExportError(f"{name}: shifted, it does not change forecasts as it does when merged")
        together = {
            name: perturbed(tensor, ELSEWHERE, seed=number) for number, (name, tensor) in enumerate(tensors.items())
        }
        apart = mean_deviation(shifted(together), merged.witness(together, context), context)
    allowed = allowed_deviation(base)
    if allowed is not None and not apart <= allowed:
        raise ExportError(
            f"shifted forecasts lie {apart:.3g} of the scale from merged ones on average, allowed {allowed:g}"
        )
    weakest = min(moves, key=moves.__getitem__)
    return ShiftedParity(shifted=apart, weakest=weakest, weakest_move=moves[weakest])
