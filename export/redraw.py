"""Random weights with which every tensor of a model affects its output, for checking the wiring of graphs.

With a base's own weights a tensor may have no effect: an output layer initialised to zero, ReLUs that are all inactive,
keys that hardly differ. The wiring of a graph does not depend on the weights, so it is checked with others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float32]

VECTOR_SPREAD = 0.3  # of biases around 0, of norm scales around 1
STREAM = (".o.", ".wo.", "input_patch_embedding.output_layer.", "input_patch_embedding.residual_layer.")


def spread(model: Any, name: str) -> float:
    """Return the standard deviation that a parameter is drawn with.

    Matrices keep the size of what they multiply; queries are small enough for scores near 1, which T5 does not divide;
    what is added to the residual stream is no smaller than the embeddings there, which keep the base's numbers.
    """
    shape = model.get_parameter(name).shape
    if len(shape) < 2:
        size = VECTOR_SPREAD
    elif "relative_attention_bias" in name:
        size = 1.0
    else:
        size = float(shape[1]) ** -0.5
    if name.endswith((".q.weight", ".q.bias")):
        size *= float(model.config.d_kv) ** -0.5
    if any(part in name for part in STREAM):
        size *= max(1.0, float(model.shared.weight.detach().square().mean().sqrt()))
    return size


def draw(model: Any, name: str, place: int) -> Tensor:
    """Return a parameter's numbers at a place: the same at every call, whatever the model holds."""
    shape = model.get_parameter(name).shape
    generator = torch.Generator().manual_seed(zlib.crc32(f"{place} {name}".encode()))
    mean = 1.0 if len(shape) < 2 and name.endswith("layer_norm.weight") else 0.0
    return torch.empty(shape).normal_(mean, spread(model, name), generator=generator)


@contextmanager
def redrawn(model: Any, originals: Mapping[str, FloatArray], place: int) -> Iterator[Mapping[str, Tensor]]:
    """Draw the parameters that ``originals`` names anew, in place, for the duration of a ``with``; yield them by name.

    ``place`` is the seed. The model is not copied: it takes its own numbers back from ``originals`` (a file).
    """
    parameters = {name: model.get_parameter(name) for name in originals}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(draw(model, name, place))
        yield {name: parameter.detach() for name, parameter in parameters.items()}
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(np.array(originals[name])))
