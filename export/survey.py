"""How much each tensor of a torch model changes its response, measured with all of them redrawn at random.

A base's own weights show little of that: a tensor before an output layer of zeros has no gradient, and a small effect
is lost in rounding. With weights drawn for this (`export.redraw`), a tensor that changes nothing has no effect at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.contexts import synthetic_contexts
from export.float64 import allowed_error, in_float64
from export.redraw import redrawn, spread

FloatArray = NDArray[np.float32]
Respond = Callable[[Any, FloatArray], Tensor]

PLACES = 2  # a tensor that by chance moves little at one is heard at the other
# A tensor's own move, in allowed errors: the power of the test, not a bound on rounding. A session without the tensor
# errs by the move less one allowed error, so 2 would do for an exact move; this one is of first order and of one draw
# of signs, which at worst halves a move in two of five cases and makes a tenth of it in one of twelve. Every tensor of
# every family moves by 1,000 and more, so a third or three times as much changes no verdict on them.
SEEN = 30.0
CONTEXTS, LENGTH = 4, 64


@dataclass(frozen=True, kw_only=True)
class Place:
    """Torch with all tunable tensors redrawn at random; sizes are root mean squares relative to the response."""

    seed: int
    context: FloatArray  # [B, L]
    response: NDArray[np.float64]  # by torch in float64
    float32: float  # torch's own error
    moves: Mapping[str, float]  # tensor → how far drawing it again moves the response

    @property
    def allowed(self) -> float:
        """The error that the runtime may have."""
        return allowed_error(self.float32, 1.0)


def survey(model: Any, respond: Respond, originals: Mapping[str, FloatArray], *, longest: int = LENGTH) -> list[Place]:
    """Evaluate torch with all parameters of ``originals`` (name → the base's own values) redrawn at random.

    ``respond`` is the model's response to contexts ``[B, L]``, differentiable; contexts have at most ``longest`` steps.
    """
    length = min(LENGTH, longest)
    places = []
    for seed in range(PLACES):
        context = synthetic_contexts(CONTEXTS, length, level=0.0, spread=1.0, missing=0.1, seed=seed)
        with redrawn(model, originals, seed):
            with in_float64():
                float64 = respond(model, context).cpu().numpy()
            with torch.no_grad():
                float32 = distance(respond(model, context).cpu().numpy(), float64)
            size = _rms(float64) or 1.0
            with differentiable(model, originals):
                moves = _moves(model, respond(model, context), originals)
            moves = {name: move / size for name, move in moves.items()}
        places.append(Place(seed=seed, context=context, response=float64, float32=float32, moves=moves))
    return places


def unheard(places: Sequence[Place], names: Sequence[str]) -> list[str]:
    """Name the tensors that move the response at no place: nothing that an adapter does with them has an effect."""
    return [name for name in names if max(place.moves[name] / place.allowed for place in places) < SEEN]


def _moves(model: Any, response: Tensor, names: Collection[str]) -> dict[str, float]:
    """Return how far drawing each tensor again moves the response: root mean square, to first order, all in one pass.

    With random signs s over the N numbers of a response, E|∇(s·response)/√N|² is the mean over them of their squared
    gradients: times the variance of a draw, what that draw moves them by.
    """
    signs = torch.randint(0, 2, response.shape, generator=torch.Generator().manual_seed(0)).to(response) * 2 - 1
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
def differentiable(model: Any, names: Collection[str]) -> Iterator[None]:
    """Enable torch gradients for ``names`` only."""
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
