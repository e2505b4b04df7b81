"""A base on one provider beside the same base on the processor: how far apart, whole or one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import SelfTestError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.choose_answer import DRAWS, LEVEL, MARGIN, NUDGE
from device_runtime.forecast.contexts import synthetic_contexts
from device_runtime.forecast.families.model import Model

FloatArray = NDArray[np.float32]
Scaled = NDArray[np.float64]  # [B, H, K], in standard deviations of the contexts
Opened = Callable[[Mapping[int, FloatArray]], Model]  # merged tensors, by index → the model with them
Progress = Callable[[str, int, int], None]

ROWS = 4  # contexts of each length
TOGETHER = (0.3, 1.0, 3.0)  # how far all tensors are moved, in sizes of their own numbers, in turn
ALONE = (10.0, 100.0, 1000.0)  # one further than the others
# The share of a tensor's own move that a provider may miss: one that ignores the tensor misses all of it but what other
# differences happen to cancel, which would have to be three quarters of it, and may be no larger than the move.
MISSED = 0.25
MOST = 1e6  # a provider that is off by nothing hears everything that well


def long_and_short(longest: int) -> list[FloatArray]:
    """Return contexts of several lengths, with gaps."""
    return [
        synthetic_contexts(ROWS, length, missing=0.1, seed=length)
        for length in sorted({min(16, longest), min(48, longest), longest})
    ]


def one_by_one(model: Model, contexts: FloatArray) -> FloatArray:
    """Return what weights decide of contexts ``[B, L]``, each in a run of its own: ``[B, H, K]``."""
    return np.concatenate([model.witness(contexts[row : row + 1]) for row in range(len(contexts))])


def deviations(a: FloatArray, b: NDArray[Any], contexts: FloatArray) -> Scaled:
    """Return ``a - b`` ``[B, H, K]`` in standard deviations of the contexts ``[B, L]``."""
    spread = np.nanstd(contexts.astype(np.float64), axis=1)[:, None, None]
    return np.asarray((a.astype(np.float64) - b) / np.where(spread > 0, spread, 1.0))


def rounding(model: Model, contexts: FloatArray) -> NDArray[np.float64]:
    """Return what an order of summation may do to each of ``contexts`` ``[B, L]``, in its standard deviations: ``[B]``.

    A black box's inputs move by `NUDGE` of their spread, `DRAWS` times; `MARGIN` times the largest change is allowed
    (docs/adr/0020).
    """
    draw = np.random.default_rng(0)
    spread = np.nanstd(contexts.astype(np.float64), axis=1)
    before = one_by_one(model, contexts)
    largest = np.zeros(len(contexts))
    for _ in range(DRAWS):
        moved = contexts + NUDGE * spread[:, None] * draw.uniform(-1, 1, contexts.shape)
        change = deviations(one_by_one(model, moved.astype(np.float32)), before, contexts)
        largest = np.maximum(largest, np.abs(change).max(axis=(1, 2)))
    level = np.nanmax(np.abs(contexts), axis=1)
    return np.asarray(MARGIN * largest + LEVEL * level / np.where(spread > 0, spread, 1.0))


def hear_tensors(
    bundle: Bundle, indices: Sequence[int], reference: Opened, device: Opened, longest: int, progress: Progress
) -> tuple[str, float]:
    """Prove every tensor of ``indices`` merged on a device: all moved at once, in one session of it.

    The processor says how forecasts move if one tensor keeps the base's numbers: that must be at least as far as the
    device is off, and of it the device may miss `MISSED`. A tensor that is not heard so is heard again with all of them
    moved further, and then in a session of its own, where it is moved further than the others. ``longest`` is the
    longest context that the device takes. Returns the tensor that is heard least, and by how much. Raises
    `SelfTestError` naming a tensor that the device ignores, or may.
    """
    context = synthetic_contexts(2, min(64, longest), missing=0.1, seed=2)
    own = {index: bundle.tensor(index) for index in indices}
    heard: dict[int, float] = {}

    def listen(moved: Mapping[int, FloatArray], wanted: Sequence[int]) -> None:
        together = one_by_one(reference(moved), context)
        off = deviations(one_by_one(device(moved), context), together, context)
        for number, index in enumerate(wanted):
            progress("tensors", len(indices) - len(wanted) + number, len(indices))
            move = deviations(one_by_one(reference({**moved, index: own[index]}), context), together, context)
            how = _heard(off, move)
            if how is None:
                raise SelfTestError(
                    f"{bundle.manifest.tensors[index].name}: the provider ignores it: with all tensors moved, its "
                    f"forecasts are those of the base's own numbers in this one"
                )
            if how >= 1:
                heard[index] = how

    for strength in TOGETHER:
        listen(_moved(own, strength), [index for index in indices if index not in heard])
    for index in [index for index in indices if index not in heard]:
        for strength in ALONE:
            if index not in heard:
                listen({**_moved(own, TOGETHER[0]), index: perturbed(own[index], strength, seed=index)}, [index])
        if index not in heard:
            raise SelfTestError(
                f"{bundle.manifest.tensors[index].name}: nothing proves it merged: the provider's forecasts are off "
                f"the processor's by more than it moves them",
                hint="a provider of more precision is needed for adapters that touch this tensor",
            )
    least = min(indices, key=heard.__getitem__)
    return bundle.manifest.tensors[least].name, heard[least]


def _moved(own: Mapping[int, FloatArray], strength: float) -> dict[int, FloatArray]:
    """Move all tensors."""
    return {index: perturbed(tensor, strength, seed=index) for index, tensor in own.items()}


def _heard(off: Scaled, move: Scaled) -> float | None:
    """Return how far a tensor's ``move`` is of what a device is ``off`` by, 0 where it misses too much of it.

    None: the device is off by just that move, so it ignores the tensor.
    """
    size, apart = float(np.linalg.norm(move)), float(np.linalg.norm(off))
    if size and np.linalg.norm(off - move) <= MISSED * size:
        return None
    if not size or abs(float((off * move).sum())) > MISSED * size**2:
        return 0.0
    return min(size / apart, MOST) if apart else MOST


def effect_kept(base: Scaled, tuned: Scaled, own_base: Scaled, own_tuned: Scaled) -> float:
    """Return the share of an adapter's effect that a provider keeps: 1 - squared change / squared effect.

    All forecasts ``[B, H, K]``, in units of their context's scale. NaN for an adapter without any effect.
    """
    effect = tuned - base
    change = own_tuned - own_base - effect
    with np.errstate(invalid="ignore"):
        return 1.0 - float(np.square(change).sum() / np.square(effect).sum())


def perturbed(tensor: FloatArray, strength: float, seed: int) -> FloatArray:
    """Add noise ``strength`` times the tensor's own numbers (or 0.1 where it is all zero, as added biases are)."""
    size = strength * (float(np.sqrt(np.mean(np.square(tensor, dtype=np.float64)))) or 0.1)
    noise = np.random.default_rng(seed).normal(size=tensor.shape) * size
    return np.asarray(tensor + noise, dtype=np.float32)
