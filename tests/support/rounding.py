"""Bounds that hold on every processor: from float32's unit roundoff, or by a float64 judge. docs/adr/0020 says why.

Three kinds, the first that fits:

* `sums`: a number that comes of one sum or of a few operations. A priori, from the length.
* `judged`: the same function in float32 twice (ours and a library's) and once in float64. Ours may be off by a small
  factor of what the library's is: both round, and which rounds worse depends on the processor.
* `noise`: a black box without a float64 twin (ONNX Runtime). Moving its input by roundings draws the error anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDOFF = 2.0**-24  # float32's unit roundoff, u
# Two float32 evaluations of one function: their errors against float64 are of one distribution, so the larger of a few
# hundred outputs differs by less than 2 between them; sums without fused multiply-add, or blocked otherwise, add 2.
FACTOR = 8.0
# 4 √n u with n = 4,096: what float32 products of that many terms differ by, relatively, in any order of summation but
# in one case of some thousands (Higham and Mary 2019). For a loss, or a forecast in units of its size.
ANY_ORDER = 4 * 4096**0.5 * ROUNDOFF
DRAWS = 4

Array = NDArray[Any]


def sums(length: int, size: float = 1.0) -> float:
    """Bound what a float32 sum of ``length`` terms may be off by, ``size`` being the sum of the terms' sizes.

    Higham's γ_n = n u / (1 - n u), for any order of summation, fused or not.
    """
    return length * ROUNDOFF / (1 - length * ROUNDOFF) * size


def judged(ours: Any, theirs: Any, exact: Any, what: str = "") -> None:
    """Fail unless ``ours`` is as near to ``exact`` (float64) as ``theirs`` is, to `FACTOR`; all of one shape.

    Errors are compared by their largest and never below one rounding of the largest output.
    """
    a, b, e = (np.asarray(one.detach() if hasattr(one, "detach") else one, dtype=np.float64) for one in
               (ours, theirs, exact))  # fmt: skip
    assert a.shape == b.shape == e.shape
    assert np.array_equal(np.isfinite(a), np.isfinite(e))
    off, allowed = np.abs(a - e).max(), FACTOR * max(np.abs(b - e).max(), ROUNDOFF * np.abs(e).max())
    assert off <= allowed, f"{what}: {off:.3g} from float64, allowed {allowed:.3g}"


def noise(function: Callable[[Array], ArrayLike], context: ArrayLike, seed: int = 0) -> float:
    """Return what two processors' ``function(context)`` may differ by, in the output's unit.

    Every observed number of ``context`` ``[..., L]`` moves by up to `ANY_ORDER` of the spread of its row, and by a
    rounding of its own size at least; the largest change of `DRAWS`, twice (two processors), and a rounding of the
    output.
    """
    array = np.asarray(context, dtype=np.float32)
    draw = np.random.default_rng(seed)
    step = np.maximum(ANY_ORDER * np.nanstd(array, axis=-1, keepdims=True), 2 * ROUNDOFF * np.abs(array))
    first = np.asarray(function(array), dtype=np.float64)
    largest = 0.0
    for _ in range(DRAWS):
        moved = (array + step * draw.uniform(-1, 1, array.shape)).astype(np.float32)
        largest = max(largest, float(np.abs(np.asarray(function(moved), dtype=np.float64) - first).max()))
    return 2 * largest + FACTOR * ROUNDOFF * float(np.abs(first).max())


def assert_near(got: ArrayLike, wanted: ArrayLike, allowed: float, what: str = "") -> None:
    """Fail unless every number of ``got`` is within ``allowed`` of ``wanted``, missing ones in the same places."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=allowed, err_msg=what)


def in_double(model: Any) -> Any:
    """Return a copy of a torch model with every parameter and buffer in float64: the judge."""
    import copy

    return copy.deepcopy(model).double()


def same_paths(got: Any, wanted: Any, what: str = "") -> None:
    """Fail unless nearly all sampled paths ``[..., S, H]`` are the same, token for token.

    A draw within rounding of the edge between two tokens, one in some 30,000, may go either way, and its path with it:
    one path in fifty may differ. Another seed, another model or other logits change most of them.
    """
    a, b = (np.asarray(one, dtype=np.float64) for one in (got, wanted))
    assert a.shape == b.shape
    differ = ~np.isclose(a, b, rtol=0, atol=ANY_ORDER * np.abs(b).max()).all(axis=-1)
    assert differ.sum() <= max(1, differ.size // 50), f"{what}: {differ.sum()} of {differ.size} paths differ"
