"""What each model family gives the exporter: one module for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export import bolt, chronos2, t5
from export.errors import ExportError
from export.graph import Part

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FamilyExport:
    """A model family as the exporter sees it."""

    parts: Callable[[Any], list[Part]]  # the graphs to trace
    frozen: tuple[str, ...]  # parameters no method tunes
    describe: Callable[[Any], Mapping[str, Any]]  # context_length, prediction_length, quantile_levels, parameters
    witness: Callable[[Any, FloatArray], FloatArray]  # what the runtime's `witness` returns, by torch
    response: Callable[[Any, FloatArray], Tensor]  # what shows every weight's effect, differentiable
    runtime_response: Callable[[Any, FloatArray], FloatArray]  # the same by the runtime's model


FAMILIES: dict[str, FamilyExport] = {
    name: FamilyExport(
        parts=module.parts,
        frozen=module.FROZEN,
        describe=module.describe,
        witness=module.witness,
        response=module.response,
        runtime_response=module.runtime_response,
    )
    for name, module in (("chronos-bolt", bolt), ("chronos-2", chronos2), ("chronos-t5", t5))
}


def find_family(name: str) -> FamilyExport:
    """Return a family's record. Raises `ExportError` for one without an exporter."""
    if name not in FAMILIES:
        raise ExportError(f"no exporter for family {name!r}", hint=f"known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def torch_witness(family: str, model: Any, context: FloatArray) -> FloatArray:
    """Return what the weights decide without chance: contexts ``[B, L]`` to ``[B, H, K]``, in their unit."""
    with torch.no_grad():
        return find_family(family).witness(model, context)
