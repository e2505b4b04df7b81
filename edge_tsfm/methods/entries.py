"""FourierFT's entries chosen from the spectrum of the loss's gradient, instead of drawn by a seed.

A coefficient at entry (u, v) adds a cosine wave to a weight; before training, the loss falls along that wave by the
real part of the gradient's spectrum there (the imaginary part belongs to a sine, which a real coefficient cannot
make). So an entry's *energy* is how much of the gradient's squared norm its wave of unit norm holds. An entry and its
conjugate (-u, -v) are the same wave: only the first of the two, in row-major order, can be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from device_runtime.format.layout import MAX_FREQUENCIES
from edge_tsfm.errors import TrainError
from edge_tsfm.models.family import Family

Entries = Mapping[str, NDArray[np.uint32]]  # weight's name → flat row-major positions in its spectrum, ascending
Gradients = Mapping[str, NDArray[np.float64]]  # weight's name → [rows, columns]


def weight_gradients(
    model: Any, family: Family, names: Sequence[str], batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> Gradients:
    """Add up the loss's gradients with respect to the weights ``names`` over ``batches`` of contexts and targets.

    Makes those weights trainable in ``model``. Raises `TrainError` when a gradient is not finite.
    """
    parameters = dict(model.named_parameters())
    weights = [parameters[name].requires_grad_(True) for name in names]
    sums = [torch.zeros(weight.shape, dtype=torch.float64, device=weight.device) for weight in weights]
    for context, target in batches:
        gradients = torch.autograd.grad(family.loss(model, context, target), weights)
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient)
    out = {name: total.cpu().numpy() for name, total in zip(names, sums, strict=True)}
    for name, whole in out.items():
        if not np.isfinite(whole).all():
            raise TrainError(f"{name}: the loss's gradient on training windows is not finite")
    return out


def choose_entries(gradients: Gradients, count: int, choice: str) -> Entries:
    """Choose ``count`` entries for each weight or on average, by any of `edge_tsfm.options.ENTRIES` but seeds."""
    energies = {name: energy(gradient) for name, gradient in gradients.items()}
    if choice == "gradient-global":
        return _largest_of_all(energies, count * len(energies))
    if choice == "gradient-shared":
        sums: dict[tuple[int, ...], NDArray[np.float64]] = {}
        for one in energies.values():
            sums[one.shape] = sums.get(one.shape, 0.0) + one
        energies = {name: sums[one.shape] for name, one in energies.items()}
    return {name: _largest(one, count) for name, one in energies.items()}


def energy(gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each entry's energy ``[rows, columns]``; of two conjugates the second has -1, which is never chosen.

    The energies of all waves add up to the squared norm of the gradient's cosine part.
    """
    rows, columns = gradient.shape
    u, v = np.indices(gradient.shape)
    position = u * columns + v
    conjugate = (-u % rows) * columns + (-v % columns)
    # A wave that is its own conjugate only takes the values 1 and -1: its norm is larger by the root of 2.
    weight = np.where(conjugate == position, 1.0, 2.0) / gradient.size
    waves = weight * np.fft.fft2(gradient).real ** 2
    return np.where(conjugate < position, -1.0, waves)


def _largest(energies: NDArray[np.float64], count: int) -> NDArray[np.uint32]:
    """Return the positions of the ``count`` largest, ascending; of equal ones the first."""
    order = np.argsort(-energies.reshape(-1), kind="stable")[:count]
    return np.sort(order).astype(np.uint32)


def _largest_of_all(energies: Mapping[str, NDArray[np.float64]], total: int) -> Entries:
    """Return the ``total`` largest over all weights; a weight that gets none is left out."""
    candidates = {name: _largest(one, min(total, MAX_FREQUENCIES, one.size // 2)) for name, one in energies.items()}
    strengths = np.concatenate([energies[name].reshape(-1)[found] for name, found in candidates.items()])
    kept = np.zeros(len(strengths), dtype=bool)
    kept[np.argsort(-strengths, kind="stable")[:total]] = True
    out: dict[str, NDArray[np.uint32]] = {}
    start = 0
    for name, found in candidates.items():
        mine = found[kept[start : start + len(found)]]
        start += len(found)
        if len(mine):
            out[name] = mine
    return out
