"""Check learning graphs against torch: the training loss, its gradient by every shift, and shifted forecasts.

As in `export.wiring`, all tunable tensors are redrawn at random and merged as on a device, biases are shifted (or
weights, by coefficients of their spectra, `export.moves`), and the runtime must compute what torch computes, both
compared with float64. With these weights each tensor changes the loss by many times the allowed error, so none can be
missing or swapped; the gradient is compared element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.learning import LearningSession
from device_runtime.format.learning import FAR, STATE, Learning
from export.contexts import synthetic_contexts
from export.deviation import STRENGTHS, perturbed
from export.errors import ExportError
from export.families import find_family
from export.float64 import allowed_error, in_float64
from export.folder import StoredTensors
from export.known_answer import ROUNDOFF
from export.moves import Changes, Moves
from export.parity import replaced
from export.redraw import redrawn, spread
from export.shifted_proof import check_reduced
from export.state_proof import StateLearner
from export.survey import SEEN, differentiable, distance

FloatArray = NDArray[np.float32]
Loss = Callable[[Any, Tensor, Tensor], Tensor]

# A ReLU or a quantile within a rounding of its kink may fall on its other side, and its gradient jumps: by chance at
# one place, in a wrong graph at every one.
PLACES, TRIES = 2, 4
ROWS, LENGTH = 6, 80
GRID = 2.0**-10  # of drawn biases and shifts: their sums are exact


@dataclass(frozen=True, kw_only=True)
class LearningParity:
    """How the runtime and torch in float32 differ from torch in float64, relative root mean squares, at the worst.

    In another precision than float32 ``shifted`` is how far shifted forecasts lie from those of the bundle's own
    forecast graph with the biases merged, in units of the contexts' scale; torch has no such model.
    """

    loss: float
    gradient: float
    gradient_float32: float  # torch's own
    shifted: float = 0.0
    weakest: str = ""  # the bias whose shift moves the forecasts least
    weakest_move: float = np.inf


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """The batch and the shift at one test point."""

    context: FloatArray  # [B, L]
    target: FloatArray  # [B, H]
    shifts: dict[str, FloatArray]  # tensor → [B, n], the first row for all in the loss
    moves: Moves

    def changes(self, row: int, without: str | None = None) -> Changes:
        """Return what a row's shifts add to the tensors, perhaps all but one of them."""
        return {name: self.moves.change(name, some[row]) for name, some in self.shifts.items() if name != without}

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return contexts and targets for torch, new ones."""
        return torch.from_numpy(self.context.copy()), torch.from_numpy(self.target.copy())


@dataclass(frozen=True, kw_only=True)
class _Torchs:
    """Torch's loss at one place, and its gradient by each tensor's shift: in float64, and its own in float32."""

    judge: float
    judged: dict[str, NDArray[np.float64]]
    own: float
    owned: dict[str, FloatArray]

    @property
    def float32(self) -> float:
        """How far torch's own gradient is off."""
        names = list(self.judged)
        return distance(*(np.concatenate([some[name] for name in names]) for some in (self.owned, self.judged)))


def check_learning(model: Any, bundle: Bundle, learning: Learning, loss: Loss) -> LearningParity:
    """Compare torch and the runtime at `PLACES` places. Raises `ExportError`."""
    found: list[LearningParity] = []
    heard: dict[str, float] = {}
    problem = ""
    for seed in range(TRIES):
        try:
            found.append(_at_place(model, bundle, learning, loss, seed, heard))
        except ExportError as error:
            problem = str(error)
        if len(found) == PLACES:
            break
    else:
        raise ExportError(f"at {TRIES - len(found)} of {TRIES} places, {problem}")
    table = bundle.manifest.tensors
    used = {table[index].name for graph in learning.graphs.values() for index in graph.tensors}
    for name in sorted(used):
        if not heard.get(name, 0.0) >= SEEN:
            _check_alone(model, bundle, learning, loss, name)
    if bundle.manifest.precision != "float32":
        found.append(replace(found[0], **vars(check_reduced(bundle, learning))))
    least = min(found, key=lambda one: one.weakest_move)
    return LearningParity(
        loss=max(one.loss for one in found),
        gradient=max(one.gradient for one in found),
        gradient_float32=max(one.gradient_float32 for one in found),
        shifted=max(one.shifted for one in found),
        weakest=least.weakest,
        weakest_move=least.weakest_move,
    )


def _at_place(
    model: Any, bundle: Bundle, learning: Learning, loss: Loss, seed: int, heard: dict[str, float]
) -> LearningParity:
    """Compare at one place; note in ``heard`` how far each tensor moves the loss there, in allowed errors."""
    names, entries = learning.names, bundle.manifest.tensors
    with redrawn(model, StoredTensors(bundle.path, entries), seed) as drawn:
        batch = _draw(model, learning, bundle.manifest.prediction_length, seed)
        with torch.no_grad():
            for name in names:
                drawn[name].copy_((drawn[name] / GRID).round() * GRID)
        merged = {index: drawn[entry.name].numpy().copy() for index, entry in enumerate(entries)}
        judge, judged = _in_float64(model, loss, batch)
        with _moved(model, batch.changes(0)):
            own, owned, moves = _in_float32(model, loss, batch, [entry.name for entry in entries])
        owned = {name: batch.moves.gradient(name, owned[name]).astype(np.float32) for name in names}
        responses = [_shifted_by_torch(model, bundle, batch, wide=wide) for wide in (True, False)]
        silenced = {name: _shifted_by_torch(model, bundle, batch, wide=False, without=name) for name in names}
    torchs = _Torchs(judge=judge, judged=judged, own=own, owned=owned)
    session = LearningSession(bundle, learning, merged)
    gap, size, allowed = _compare(session, names, batch, torchs)
    if STATE in learning.graphs:
        _compare(StateLearner(bundle, learning, merged), names, batch, torchs)
    for name, one in moves.items():
        heard[name] = max(heard.get(name, 0.0), one / allowed)
    if bundle.manifest.precision != "float32":
        return LearningParity(loss=gap, gradient=size, gradient_float32=torchs.float32)
    error, weakest, move = _check_shifted(session, batch, responses, silenced)
    return LearningParity(
        loss=gap, gradient=size, gradient_float32=torchs.float32, shifted=error, weakest=weakest, weakest_move=move
    )


def _compare(
    learner: LearningSession | StateLearner, names: Sequence[str], batch: _Batch, torchs: _Torchs
) -> tuple[float, float, float]:
    """Hold a learner's loss and gradient to torch's; return both errors, and what the loss's may be."""
    row = np.concatenate([batch.shifts[name][0] for name in names])
    got, gradient = learner.gradients(batch.context, batch.target, row)
    by_name = dict(zip(names, np.split(gradient, np.cumsum(learner.sizes)[:-1]), strict=True))
    for name in names:
        error = distance(by_name[name], torchs.judged[name])
        allowed = allowed_error(max(torchs.float32, distance(torchs.owned[name], torchs.judged[name])), 1.0)
        if not error <= allowed:
            raise ExportError(
                f"{name}: the gradient differs from torch's by {error:.3g} of its size, allowed {allowed:.3g} "
                f"(torch's own rounding: {torchs.float32:.3g})"
            )
    gap = abs(got / torchs.judge - 1)
    allowed = allowed_error(max(torchs.float32, abs(torchs.own / torchs.judge - 1)), 1.0)
    if not gap <= allowed:
        raise ExportError(f"the loss is {got:.8g}, torch's {torchs.judge:.8g}: further apart than {allowed:.3g} of it")
    return gap, distance(gradient, np.concatenate([torchs.judged[name] for name in names])), allowed


def _check_shifted(
    session: LearningSession,
    batch: _Batch,
    responses: Sequence[NDArray[Any]],
    silenced: Mapping[str, NDArray[Any]],
) -> tuple[float, str, float]:
    """Compare forecasts with each row's own shifts; return the error, the bias that moves them least, and how far."""
    wanted, mine = responses
    forecasts = session.raw(batch.context, np.concatenate([batch.shifts[name] for name in session.names], axis=1))
    error, allowed = distance(forecasts, wanted), allowed_error(distance(mine, wanted), 1.0)
    if not error <= allowed:
        raise ExportError(f"shifted forecasts differ from torch's by {error:.3g} of their size, allowed {allowed:.3g}")
    audible = {name: distance(other, wanted) for name, other in silenced.items()}
    weakest = min(audible, key=audible.__getitem__)
    if not audible[weakest] >= SEEN * allowed:
        raise ExportError(f"{weakest}: shifting it changes no forecast, so it may not be wired")
    return error, weakest, audible[weakest]


def _check_alone(model: Any, bundle: Bundle, learning: Learning, loss: Loss, name: str) -> None:
    """Move one tensor alone, harder and harder, until the loss hears it; then the runtime must say the same.

    In a bundle of another precision what is frozen cannot be drawn anew, and by the base's own numbers a part may
    hardly be used.
    """
    batch = _draw(model, learning, bundle.manifest.prediction_length, seed=0)
    index = bundle.index_of(name)
    still = _losses(model, loss, batch)[0]
    for strength in STRENGTHS:
        moved = perturbed(bundle.tensor(index), strength, seed=0)
        with replaced(model, {name: moved}):
            judge, own = _losses(model, loss, batch)
        allowed = allowed_error(max(abs(own / judge - 1), ROUNDOFF), 1.0)
        if not abs(judge / still - 1) >= SEEN * allowed:
            continue
        learners: list[LearningSession | StateLearner] = [LearningSession(bundle, learning, {index: moved})]
        if STATE in learning.graphs:
            learners.append(StateLearner(bundle, learning, {index: moved}))
        for learner in learners:
            got, _ = learner.gradients(batch.context, batch.target, np.zeros(learner.size, dtype=np.float32))
            if not abs(got / judge - 1) <= allowed:
                raise ExportError(f"{name}: moved, the loss is {got:.8g}, torch's {judge:.8g}: it does not arrive")
        return
    raise ExportError(f"{name}: changing it changes no loss, so it may not be wired into the learning graphs")


def _losses(model: Any, loss: Loss, batch: _Batch) -> tuple[float, float]:
    """Return torch's loss in float64 and in float32."""
    out = []
    for context in (in_float64(), torch.no_grad()):
        with context:
            out.append(float(loss(model, *batch.tensors())))
    return out[0], out[1]


def _draw(model: Any, learning: Learning, steps: int, seed: int) -> _Batch:
    """Draw contexts, targets with gaps, and a shift of each bias for each row.

    One context is constant and one empty: they teach nothing; one target is further away than the loss counts.
    """
    length = min(LENGTH, learning.context_length)
    both = synthetic_contexts(ROWS, length + steps, level=0.0, spread=1.0, missing=0.1, seed=100 + seed)
    context, target = both[:, :length].copy(), both[:, length:].copy()
    context[-1], context[-2] = np.nan, 0.5
    target[0, 0] = 2 * FAR * np.nanstd(context[0])
    rng = np.random.default_rng(seed)
    shifts, moves = {}, Moves(model, learning)
    for name in learning.names:
        size = (ROWS, moves.size(name))
        shifts[name] = (np.round(rng.normal(size=size) * spread(model, name) / GRID) * GRID).astype(np.float32)
    return _Batch(context=context, target=target, shifts=shifts, moves=moves)


def _in_float64(model: Any, loss: Loss, batch: _Batch) -> tuple[float, dict[str, NDArray[np.float64]]]:
    """Return torch's loss, shifted by the first row, and its gradient by each tensor's shift in float64."""
    with _wide(model, batch.changes(0)) as leaves, in_float64(gradients=True):
        value = loss(model, *batch.tensors())
        found = torch.autograd.grad(value, list(leaves.values()))
    pairs = zip(leaves, found, strict=True)
    return float(value.detach()), {name: batch.moves.gradient(name, one.numpy()) for name, one in pairs}


def _in_float32(
    model: Any, loss: Loss, batch: _Batch, tensors: Sequence[str]
) -> tuple[float, dict[str, FloatArray], dict[str, float]]:
    """Return torch's loss, its gradient by each of ``tensors``, and how far drawing each again moves the loss."""
    with differentiable(model, tensors), torch.enable_grad():
        value = loss(model, *batch.tensors())
        found = torch.autograd.grad(value, [model.get_parameter(name) for name in tensors])
    gradients = {name: one.numpy() for name, one in zip(tensors, found, strict=True)}
    size = float(value.detach())
    moves = {name: float(np.linalg.norm(one)) * spread(model, name) / size for name, one in gradients.items()}
    return size, gradients, moves


@contextmanager
def _wide(model: Any, changes: Changes) -> Iterator[dict[str, nn.Parameter]]:
    """Replace a model's tensors by float64 leaves with ``changes`` added, for the duration of a ``with``."""
    kept = {name: model.get_parameter(name) for name in changes}
    places = {name: (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in changes}
    leaves = {
        name: nn.Parameter(kept[name].detach().double() + torch.from_numpy(change)) for name, change in changes.items()
    }
    try:
        for name, (layer, attribute) in places.items():
            setattr(layer, attribute, leaves[name])
        yield leaves
    finally:
        for name, (layer, attribute) in places.items():
            setattr(layer, attribute, kept[name])


def _shifted_by_torch(
    model: Any, bundle: Bundle, batch: _Batch, *, wide: bool, without: str | None = None
) -> NDArray[Any]:
    """Return torch's response to each context with its row of shifts, perhaps without one tensor's: ``[B, H, Q]``."""
    respond = find_family(bundle.manifest.family).response
    out = []
    for number in range(ROWS):
        changes = batch.changes(number, without)
        one = batch.context[number : number + 1]
        if wide:
            with _wide(model, changes), in_float64():
                out.append(respond(model, one).cpu().numpy())
        else:
            with _moved(model, changes), torch.no_grad():
                out.append(respond(model, one).cpu().numpy())
    return np.concatenate(out)


@contextmanager
def _moved(model: Any, changes: Changes) -> Iterator[None]:
    """Add ``changes`` to a model's tensors as a merge does, rounded once, for the duration of a ``with``."""
    kept = {name: model.get_parameter(name).detach().clone() for name in changes}
    try:
        with torch.no_grad():
            for name, change in changes.items():
                model.get_parameter(name).copy_(kept[name].double() + torch.from_numpy(change))
        yield
    finally:
        with torch.no_grad():
            for name, numbers in kept.items():
                model.get_parameter(name).copy_(numbers)
