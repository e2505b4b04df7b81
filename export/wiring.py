"""Proof that every tunable tensor arrives where torch has it, in a number of sessions that does not grow with theirs.

All tunable tensors are drawn anew at once, and the runtime, opened as a device opens it, must compute what torch
computes with the same numbers. Beforehand torch says how far each tensor *alone* moves the response there: one whose
move is `SEEN` times what the comparison allows cannot be missing, exchanged or turned round without being noticed. So
the comparison proves all of them together (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from device_runtime.bundle import Bundle
from device_runtime.forecaster import FAMILIES
from device_runtime.session import SessionSettings
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.families import find_family
from export.folder import StoredTensors
from export.judge import allowed_error, in_float64
from export.redraw import redrawn, spread

FloatArray = NDArray[np.float32]

PLACES = 2  # a tensor that by chance moves little at one is heard at the other
SEEN = 30.0  # a tensor's own move, in allowed errors; measured: 1,000 and more for every tensor of every family
CONTEXTS, LENGTH = 4, 64


@dataclass(frozen=True, kw_only=True)
class Place:
    """Torch with all tunable tensors drawn anew; sizes are root mean squares, relative to that of the response."""

    seed: int
    context: FloatArray  # [B, L]
    response: NDArray[np.float64]  # by torch in float64
    float32: float  # torch's own error
    moves: Mapping[str, float]  # tensor → how far drawing it again moves the response

    @property
    def allowed(self) -> float:
        """The error that the runtime may have."""
        return allowed_error(self.float32, 1.0)


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What the runtime showed with all tunable tensors drawn anew, relative to the response."""

    error: float  # of the runtime against float64, root mean square, at the worst place
    float32: float  # of torch in float32, there
    weakest: str  # the tensor that moves the response least
    weakest_move: float


def survey(model: Any, family: str, originals: Mapping[str, FloatArray]) -> list[Place]:
    """Evaluate torch where all parameters of ``originals`` (name → the base's own numbers) are drawn anew."""
    length = min(LENGTH, find_family(family).describe(model)["context_length"])
    places = []
    for seed in range(PLACES):
        context = synthetic_contexts(CONTEXTS, length, level=0.0, spread=1.0, missing=0.1, seed=seed)
        with redrawn(model, originals, seed):
            response = find_family(family).response
            with in_float64():
                judge = response(model, context).numpy()
            with torch.no_grad():
                float32 = distance(response(model, context).numpy(), judge)
            size = _rms(judge) or 1.0
            with _differentiable(model, originals):
                moves = _moves(model, response(model, context), originals)
            moves = {name: move / size for name, move in moves.items()}
        places.append(Place(seed=seed, context=context, response=judge, float32=float32, moves=moves))
    return places


def unheard(places: Sequence[Place], names: Sequence[str]) -> list[str]:
    """Name the tensors that move the response at no place: nothing that an adapter does with them has an effect."""
    return [name for name in names if max(place.moves[name] / place.allowed for place in places) < SEEN]


def check_wiring(model: Any, bundle: Bundle, places: Sequence[Place]) -> Wiring:
    """Compare torch and the runtime at every place, one session for each graph there.

    Raises `ExportError` where they differ by more than rounding does, or where a tensor would not be heard.
    """
    manifest = bundle.manifest
    names = [entry.name for entry in manifest.tensors]
    if silent := unheard(places, names):
        raise ExportError(f"{silent[0]}: tunable, but it moves no forecast: nothing proves it wired")
    originals = StoredTensors(bundle.path, manifest.tensors)
    errors = []
    for place in places:
        with redrawn(model, originals, place.seed) as drawn:
            got = runtime_response(bundle, drawn, place.context)
            error = distance(got, place.response)
            if not error <= place.allowed:
                raise ExportError(
                    f"all tunable tensors drawn anew, the runtime differs from torch by {error:.3g} of the response, "
                    f"allowed {place.allowed:.3g} (torch's own rounding: {place.float32:.3g}): "
                    + _culprit(model, manifest.family, originals, drawn, place, got)
                )
            errors.append(error)
    loudest = {name: max(place.moves[name] for place in places) for name in names}
    weakest = min(loudest, key=loudest.__getitem__, default="")
    return Wiring(
        error=max(errors, default=0.0),
        float32=max((place.float32 for place in places), default=0.0),
        weakest=weakest,
        weakest_move=loudest.get(weakest, 0.0),
    )


def runtime_response(bundle: Bundle, drawn: Mapping[str, Tensor], context: FloatArray) -> FloatArray:
    """Open ``bundle`` as a device does with the tensors ``drawn``, all of them merged, and return its response."""
    merged = {index: drawn[entry.name].numpy() for index, entry in enumerate(bundle.manifest.tensors)}
    model = FAMILIES[bundle.manifest.family](bundle, merged, SessionSettings())
    return find_family(bundle.manifest.family).runtime_response(model, context)


def _culprit(
    model: Any,
    family: str,
    originals: Mapping[str, FloatArray],
    drawn: Mapping[str, Tensor],
    place: Place,
    got: FloatArray,
) -> str:
    """Say which tensor the runtime ignores, as torch with the base's own numbers in it tells; else what it may be."""
    for name, parameter in drawn.items():
        here = parameter.clone()
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(originals[name]))
            ignoring = find_family(family).response(model, place.context).double().numpy()
            parameter.copy_(here)
        if distance(got, ignoring) <= place.allowed:
            return f"it ignores {name}"
    return "a tensor does not arrive where torch has it, or the graph computes something else"


def _moves(model: Any, response: Tensor, names: Collection[str]) -> dict[str, float]:
    """Return how far drawing each tensor again moves the response: root mean square, to first order, all in one pass.

    With random signs s over the N numbers of a response, E|∇(s·response)/√N|² is the mean over them of their squared
    gradients: times the variance of a draw, what that draw moves them by.
    """
    signs = torch.randint(0, 2, response.shape, generator=torch.Generator().manual_seed(0)).to(response.dtype) * 2 - 1
    norms = dict.fromkeys(names, 0.0)

    def note(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None  # the hook comes after it
        norms[name] = float(torch.linalg.vector_norm(parameter.grad, dtype=torch.float64))
        parameter.grad = None  # not all gradients at once: they are as large as the model

    hooks = [model.get_parameter(name).register_post_accumulate_grad_hook(partial(note, name)) for name in names]
    try:
        ((signs * response).sum() / response.numel() ** 0.5).backward()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: norm * spread(model, name) for name, norm in norms.items()}


@contextmanager
def _differentiable(model: Any, names: Collection[str]) -> Iterator[None]:
    """Let torch take gradients with respect to ``names`` and nothing else."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the root mean square difference of two responses, relative to that of the second."""
    return _rms(a - b) / (_rms(b) or 1.0)


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
