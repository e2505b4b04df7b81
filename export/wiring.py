"""Check that every tunable tensor is wired as in torch, with a number of sessions that does not depend on their number.

All tunable tensors are redrawn at random, and the runtime, opened as on a device, must compute what torch computes with
the same weights. Before, torch measures how much each tensor *alone* changes the response there: if that is `SEEN`
times the allowed error, the tensor cannot be missing, swapped or transposed unnoticed. So a single comparison covers
all of them (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.session import SessionSettings
from export.aside import set_aside
from export.errors import ExportError
from export.families import find_family
from export.folder import StoredTensors, rewritten
from export.redraw import draw, redrawn
from export.survey import Place, distance, unheard

FloatArray = NDArray[np.float32]

LARGE = 2**26  # numbers: 256 MB
PARTS = 4  # of a large model's tensors, each merged in a session of its own


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The runtime's results with all tunable tensors redrawn at random, relative to the response."""

    error: float  # of the runtime against float64, root mean square, at the worst place
    float32: float  # of torch in float32, there
    weakest: str  # the tensor that moves the response least
    weakest_move: float


def check_wiring(model: Any, bundle: Bundle, places: Sequence[Place]) -> Wiring:
    """Compare torch and the runtime at every place, one session for each graph there.

    Raises `ExportError` where they differ by more than rounding does, or where a tensor would not be heard.
    """
    manifest = bundle.manifest
    names = [entry.name for entry in manifest.tensors]
    if silent := unheard(places, names):
        raise ExportError(f"{silent[0]}: tunable, but changing it changes no forecast, so it may not be wired")
    originals = StoredTensors(bundle.path, manifest.tensors)
    errors, wrong = [], None
    with set_aside(model, originals):  # torch has said what it has to say
        for place, merged in merges(places, {entry.name: entry.size for entry in manifest.tensors}):
            got = _runtime_response(model, bundle, place, merged)
            errors.append(distance(got, place.response))
            if not errors[-1] <= place.allowed:
                wrong = place, got
                break
    if wrong is not None:
        place, got = wrong
        raise ExportError(
            f"with all tunable tensors redrawn at random, the runtime differs from torch by {errors[-1]:.3g} of the "
            f"response, allowed {place.allowed:.3g} (torch's own rounding: {place.float32:.3g}): "
            + _culprit(model, manifest.family, originals, place, got)
        )
    loudest = {name: max(place.moves[name] for place in places) for name in names}
    weakest = min(loudest, key=loudest.__getitem__, default="")
    return Wiring(
        error=max(errors, default=0.0),
        float32=max((place.float32 for place in places), default=0.0),
        weakest=weakest,
        weakest_move=loudest.get(weakest, 0.0),
    )


def merges(places: Sequence[Place], sizes: Mapping[str, int]) -> list[tuple[Place, list[str]]]:
    """Say which tensors (name → numbers in it) to merge at which place: all at each, but of a large model in `PARTS`.

    ONNX Runtime holds a merged tensor three times as a session opens. Each tensor is in one part then, at a place where
    it is heard, for there only a session that ignores it is noticed; the parts are of about one size.
    """
    if sum(sizes.values()) < LARGE:
        return [(place, list(sizes)) for place in places]
    parts: list[tuple[Place, list[str]]] = [(place, []) for place in places for _ in range(PARTS // len(places))]
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        heard = [part for part in parts if not unheard([part[0]], [name])]
        min(heard, key=lambda part: sum(sizes[one] for one in part[1]))[1].append(name)
    return [part for part in parts if part[1]]


def _runtime_response(model: Any, bundle: Bundle, place: Place, merged: Sequence[str]) -> FloatArray:
    """Return the response of the runtime at a place; the tensors that are not ``merged`` lie in its files."""
    lying = [entry for entry in bundle.manifest.tensors if entry.name not in merged]
    if not lying:
        return runtime_response(bundle, {name: draw(model, name, place.seed) for name in merged}, place.context)
    with rewritten(bundle, lying, lambda name: draw(model, name, place.seed).numpy()) as elsewhere:
        return runtime_response(elsewhere, {name: draw(model, name, place.seed) for name in merged}, place.context)


def runtime_response(bundle: Bundle, drawn: Mapping[str, Tensor], context: FloatArray) -> FloatArray:
    """Open ``bundle`` with the tensors ``drawn`` merged, as a device merges them, and return its response."""
    merged = {bundle.index_of(name): tensor.numpy() for name, tensor in drawn.items()}
    model = FAMILIES[bundle.manifest.family](bundle, merged, SessionSettings(from_disk=True))
    return find_family(bundle.manifest.family).runtime_response(model, context)


def _culprit(
    model: Any,
    family: str,
    originals: Mapping[str, FloatArray],
    place: Place,
    got: FloatArray,
) -> str:
    """Say which tensor the runtime ignores, as torch with the base's own numbers in it tells; else what it may be."""
    with redrawn(model, originals, place.seed) as drawn, torch.no_grad():
        for name, parameter in drawn.items():
            parameter.copy_(torch.from_numpy(originals[name]))
            ignoring = find_family(family).response(model, place.context).double().cpu().numpy()
            parameter.copy_(draw(model, name, place.seed))
            if distance(got, ignoring) <= place.allowed:
                return f"it ignores {name}"
    return "a tensor does not arrive where torch has it, or the graph computes something else"
