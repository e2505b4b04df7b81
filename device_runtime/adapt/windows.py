"""Windows of finished stays, a bounded number of which is kept to learn from again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.draws import Draws
from device_runtime.adapt.packed import pack, unpack
from device_runtime.errors import FormatError

FloatArray = NDArray[np.float32]


def cut(
    values: FloatArray, *, context_length: int, prediction_length: int, stride: int, min_observed: int
) -> tuple[FloatArray, FloatArray]:
    """Cut a stay ``[T]`` into contexts ``[N, L]``, padded with NaN on the left, and targets ``[N, H]``, in their order.

    The rules are those of training: cutoffs at ``min_observed`` and every ``stride`` steps behind it; a context has at
    least ``min_observed`` values, a target at least one.
    """
    padded = np.concatenate([np.full(context_length, np.nan, dtype=np.float32), values])
    cutoffs = np.arange(min_observed, len(values) - prediction_length + 1, stride)
    contexts = padded[cutoffs[:, None] + np.arange(context_length)]
    targets = padded[cutoffs[:, None] + context_length + np.arange(prediction_length)]
    kept = ((~np.isnan(contexts)).sum(1) >= min_observed) & (~np.isnan(targets)).any(1)
    return contexts[kept], targets[kept]


def clip_targets(contexts: FloatArray, targets: FloatArray, spreads: float) -> FloatArray:
    """Clip targets at ``spreads`` standard deviations from their context's mean, to limit a value's influence."""
    mean = np.nanmean(contexts.astype(np.float64), axis=1, keepdims=True)
    spread = np.nanstd(contexts.astype(np.float64), axis=1, keepdims=True)
    clipped: FloatArray = np.clip(targets, mean - spreads * spread, mean + spreads * spread).astype(np.float32)
    return np.where(spread > 0, clipped, targets)  # of a constant context nothing is known: its row teaches nothing


class Reservoir:
    """At most so many windows; when it is full a new one takes a random one's place."""

    def __init__(self, most: int, context_length: int, prediction_length: int) -> None:
        self.contexts = np.full((most, context_length), np.nan, dtype=np.float32)
        self.targets = np.full((most, prediction_length), np.nan, dtype=np.float32)
        self.held = 0
        self.seen = 0  # ever added

    @property
    def size(self) -> int:
        """Bytes it takes, however few are held."""
        return self.contexts.nbytes + self.targets.nbytes

    def add(self, contexts: FloatArray, targets: FloatArray, draws: Draws) -> None:
        """Keep windows ``[N, L]``, ``[N, H]``."""
        for context, target in zip(contexts, targets, strict=True):
            full = self.held == len(self.contexts)
            place = draws.below(self.held, 1)[0] if full else self.held
            self.contexts[place], self.targets[place] = context, target
            self.held += not full
            self.seen += 1

    def draw(self, count: int, draws: Draws) -> tuple[FloatArray, FloatArray]:
        """Draw ``count`` windows, each anew; none where none is held."""
        places = draws.below(self.held, count) if self.held else []
        return self.contexts[places], self.targets[places]

    def wipe(self) -> None:
        """Forget every window."""
        self.contexts[:], self.targets[:] = np.nan, np.nan
        self.held = self.seen = 0

    def to_value(self, *, whole: bool) -> dict[str, Any]:
        """Encode as plain values; without the windows unless ``whole``."""
        held = self.held if whole else 0
        return {
            "held": held,
            "seen": self.seen,
            "contexts": pack(self.contexts[:held]),
            "targets": pack(self.targets[:held]),
        }

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote.

        Raises `FormatError`, `KeyError` or `TypeError` for anything else; then nothing is changed.
        """
        held, seen = value["held"], value["seen"]
        if type(held) is not int or type(seen) is not int or not 0 <= held <= min(len(self.contexts), seen):
            raise FormatError(f"windows: {held!r} held of {seen!r} seen, want at most {len(self.contexts)}")
        contexts = unpack(value["contexts"], (held, self.contexts.shape[1]), "contexts", missing=True)
        targets = unpack(value["targets"], (held, self.targets.shape[1]), "targets", missing=True)
        self.wipe()
        self.contexts[:held], self.targets[:held] = contexts, targets
        self.held, self.seen = held, seen
