"""A torch model in float64, without a copy of its weights, as the reference for float32 results.

Two float32 programs that compute the same function differ by rounding, and by how much depends on the processor, on the
sizes of the sums and on the weights. So they are not compared with each other but both with float64; the runtime's
error may be that of torch in float32 times a small factor (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# The runtime's error against float64, in torch's own in float32: two draws of one distribution, which differ by less
# than 2, times 4 for sums blocked otherwise or without fused products (docs/adr/0020). Measured: 0.6 to 2.2, so a third
# would fail elsewhere; three times as much would still be a three hundredth of the weakest tensor's move.
FACTOR = 8.0
ULPS = 4.0  # and roundings of the value itself, for a torch that happens to be exact
NARROW = (torch.float32, torch.float16, torch.bfloat16)


class _Wide(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch ships it
    """Computes every operation in float64: whatever goes in or is asked for in a narrower type is widened.

    Each weight is widened for the one operation that reads it. `model.double()` would take twice the weights once more,
    and modules that compute in ``torch.float32`` by name (norms, scaling) would round all the same.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return tree_map(_widen, func(*tree_map(_widen, args), **tree_map(_widen, kwargs or {})))


def _widen(value: Any) -> Any:
    """Widen a tensor or the name of a type; leave everything else."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype in NARROW else value
    return torch.float64 if value in NARROW else value


@contextmanager
def in_float64(*, gradients: bool = False) -> Iterator[None]:
    """Compute what torch computes inside a ``with`` in float64: forwards only, unless ``gradients`` are wanted."""
    with torch.set_grad_enabled(gradients), _Wide():  # type: ignore[no-untyped-call]
        yield


def allowed_error(float32: float, value: float) -> float:
    """Return the error against float64 that a float32 program may have where torch's is ``float32``.

    ``value`` is the size of what is computed, in the same unit.
    """
    return FACTOR * float32 + ULPS * 2.0**-24 * value
