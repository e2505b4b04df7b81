"""A model family as the exporter sees it: one record, made by the family's own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.manifest import Manifest
from export.graph import Part

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FamilyExport:
    """How a family is traced and checked, and what is known about it."""

    name: str  # as the manifest has it
    parts: Callable[[Any], list[Part]]  # the graphs to trace
    frozen: tuple[str, ...]  # parameters no method tunes
    describe: Callable[[Any], Mapping[str, Any]]  # context_length, prediction_length, quantile_levels, parameters
    witness: Callable[[Any, FloatArray], FloatArray]  # what the runtime's `witness` returns, by torch
    response: Callable[[Any, FloatArray], Tensor]  # what shows every weight's effect, differentiable
    runtime_response: Callable[[Any, FloatArray], FloatArray]  # the same by the runtime's model
    precisions: tuple[str, ...] = (
        "float32",
        "int8",
        "int8-merged",
        "float16",
    )  # of frozen weights: what has been measured
    optimum: bool = False  # Hugging Face optimum has a class that opens it
    # The graphs that learn (docs/adr/0029): a model, the names of what moves, and by which coefficients, to what
    # is traced; None: there are none.
    learning: Callable[[Any, Sequence[str], FourierShift | None], list[Part]] | None = None
    # Operations in a forecast's products, of a manifest, contexts, their length and steps; None: nobody counted.
    operations: Callable[[Manifest, int, int, int], int] | None = None
