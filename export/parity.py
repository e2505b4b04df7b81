"""Proof that a bundle is the torch model: same forecasts, and every tunable tensor moves both alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from device_runtime.bundle import Bundle
from device_runtime.forecaster import FAMILIES
from device_runtime.manifest import TensorEntry
from device_runtime.session import SessionSettings
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.families import torch_witness

FloatArray = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

# Largest allowed difference between torch and the runtime, in units of the context's scale.
TOLERANCE = 1e-4
# Of perturbations, in sizes of the tensor's own numbers. A trained base may hardly use a part: of edge-bolt-tiny the
# decoder's self-attention, over its one token, moves a forecast by 1e-5 of the scale when perturbed 100 times its size.
STRENGTHS = tuple(10.0**power for power in range(6))
ELSEWHERE = 0.3  # the same, of all tensors at once
LEAST_SCALE = 5e-3  # TOLERANCE of it is 5e-7 of the level: four roundings of float32


@dataclass(frozen=True, kw_only=True)
class BaseParity:
    """Largest differences between torch and the runtime, in units of the contexts' scale."""

    base: float
    perturbed: float  # over every tunable tensor, each perturbed in turn
    weakest: str  # the tensor whose perturbation moved the forecast least
    weakest_effect: float


def runtime_witness(
    bundle: Bundle, merged: Mapping[int, FloatArray], context: FloatArray, *, at_once: int | None = None
) -> FloatArray:
    """Return `torch_witness` by the device runtime, ``at_once`` contexts in a run (default: all)."""
    model = FAMILIES[bundle.manifest.family](bundle, merged, SessionSettings())
    step = at_once or len(context)
    parts = (context[start : start + step] for start in range(0, len(context), step))
    return np.concatenate([model.witness(part) for part in parts])


def deviations(a: FloatArray, b: FloatArray, context: FloatArray) -> NDArray[np.float64]:
    """Return the differences of two forecasts ``[B, H, Q]``, in units of each context's scale.

    A context that hardly varies has hardly a scale, but float32 rounds its level all the same: the unit is at least
    `LEAST_SCALE` of the level.
    """
    scale = np.maximum(np.nanstd(context, axis=1), LEAST_SCALE * np.abs(np.nanmean(context, axis=1)))
    unit = np.maximum(scale, 1e-5)[:, None, None]
    return np.asarray((a.astype(np.float64) - b) / unit)


def difference(a: FloatArray, b: FloatArray, context: FloatArray) -> float:
    """Return the largest of `deviations`, in size."""
    return float(np.abs(deviations(a, b, context)).max())


def check_contexts(context_length: int) -> list[FloatArray]:
    """Return batches of contexts of several lengths, with gaps, with left padding and without."""
    lengths = sorted({1, 5, 16, 48, 49, min(300, context_length), context_length + 7})
    batches = [
        synthetic_contexts(3, length, missing=0.2, seed=length) for length in lengths if length <= context_length + 7
    ]
    padded = synthetic_contexts(3, 64, seed=1)
    padded[0, :40] = np.nan  # whole patches of padding beside a full row
    return [*batches, padded]


def check_base(model: nn.Module, bundle: Bundle, progress: Progress = lambda *_: None) -> BaseParity:
    """Compare torch and the runtime: the base, then with every tunable tensor perturbed in turn.

    Raises `ExportError` naming the first tensor whose perturbation the runtime does not follow, or that has no effect.
    """
    base = max(
        difference(torch_witness(bundle.manifest.family, model, context), runtime_witness(bundle, {}, context), context)
        for context in check_contexts(bundle.manifest.context_length)
    )
    if not base <= TOLERANCE:
        raise ExportError(
            f"parity: the exported base differs from torch by {base:.3g} of the scale, allowed {TOLERANCE}"
        )
    context = synthetic_contexts(16, 64, missing=0.1, seed=2)
    family, entries = bundle.manifest.family, bundle.manifest.tensors
    frozen = torch_witness(family, model, context)
    # Where a base's own numbers leave a part unused, as rectifiers that all stay shut do, nothing moves alone: such a
    # tensor is perturbed at a place where every other one has moved as well.
    elsewhere = {
        index: perturbed(bundle.tensor(index), ELSEWHERE, seed=~index % 2**32) for index in range(len(entries))
    }
    worst, weakest = 0.0, ("", float("inf"))
    for index, entry in enumerate(entries):
        progress("perturb", index, len(entries))
        for place, strength in product(({}, elsewhere), STRENGTHS):
            # A weak tensor is perturbed harder: what counts is that the runtime follows a move that can be seen.
            merged = place | {index: perturbed(place.get(index, bundle.tensor(index)), strength, seed=index)}
            expected = _witness_with(model, family, entries, merged, context)
            reference = frozen if not place else _witness_with(model, family, entries, place, context)
            effect = difference(expected, reference, context)
            # Beyond what is allowed below, or a tensor that the runtime ignores would pass.
            if effect > 10 * TOLERANCE * max(1.0, difference(expected, frozen, context)):
                break
        else:
            raise ExportError(
                f"{entry.name}: perturbing it moves the forecast by {effect:.3g} of the scale: a dead tensor"
            )
        error = difference(expected, runtime_witness(bundle, merged, context), context)
        # Relative to the move from the frozen base too: perturbations are large, and so are forecasts made with them.
        if not error <= TOLERANCE * max(1.0, effect, difference(expected, frozen, context)):
            raise ExportError(
                f"{entry.name}: perturbed, the runtime differs from torch by {error:.3g} (effect {effect:.3g})"
            )
        worst = max(worst, error)
        if effect < weakest[1]:
            weakest = (entry.name, effect)
    progress("perturb", len(entries), len(entries))
    return BaseParity(base=base, perturbed=worst, weakest=weakest[0], weakest_effect=weakest[1])


def _witness_with(
    model: nn.Module,
    family: str,
    entries: Sequence[TensorEntry],
    merged: Mapping[int, FloatArray],
    context: FloatArray,
) -> FloatArray:
    with replaced(model, {entries[index].name: moved for index, moved in merged.items()}):
        return torch_witness(family, model, context)


def perturbed(tensor: FloatArray, strength: float, seed: int) -> FloatArray:
    """Add noise ``strength`` times the tensor's own numbers (or 0.1 where it is all zero, as added biases are)."""
    size = strength * (float(np.sqrt(np.mean(np.square(tensor, dtype=np.float64)))) or 0.1)
    noise = np.random.default_rng(seed).normal(size=tensor.shape) * size
    return np.asarray((tensor + noise).astype(np.float32))


@contextmanager
def replaced(model: nn.Module, tensors: Mapping[str, FloatArray]) -> Iterator[None]:
    """Put tensors in the place of a torch model's own for the duration of a ``with``."""
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in tensors}
    try:
        with torch.no_grad():
            for name, value in tensors.items():
                parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))
        yield
    finally:
        with torch.no_grad():
            for name, original in kept.items():
                parameters[name].copy_(original)
