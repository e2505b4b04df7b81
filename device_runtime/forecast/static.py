"""A base's static graph: contexts scaled, cut to patches and padded here, fixed shapes to an accelerator and back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError, StorageError, UnsupportedError
from device_runtime.files import about, read_bounded
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import Open
from device_runtime.forecast.families.bolt import BoltModel
from device_runtime.forecast.session import SessionSettings, run
from device_runtime.format.manifest import MAX_MANIFEST_SIZE
from device_runtime.format.static import STATIC, STATIC_FILE, Static

FloatArray = NDArray[np.float32]
# What keeps attention from empty patches: float32's exp() of it is zero, and 16 bits still tell scores apart beside it.
BLOCKED = np.float32(-128)
SMALLEST = np.float32(1e-5)  # scale, that of a constant


class StaticBundle(Bundle):
    """A bundle with its static graph among its own."""

    static: Static


class StaticBolt(BoltModel):
    """A merged Chronos-Bolt in fixed shapes."""

    graph = STATIC

    def __init__(self, bundle: Bundle, merged: Mapping[int, FloatArray], settings: SessionSettings) -> None:
        super().__init__(bundle, merged, settings)
        assert isinstance(bundle, StaticBundle)  # `open_static` made it
        self.batch, self.longest = bundle.static.batch, bundle.static.context_length

    def _run(self, context: FloatArray) -> FloatArray:
        """Run the graph for contexts ``[B, L]``, as many at once as it takes: ``[B, Q, H]``.

        Raises `InputError` for contexts that are longer than its own.
        """
        if context.shape[1] > self.longest:
            raise InputError(
                f"context: {context.shape[1]} steps, the static graph takes {self.longest}",
                hint=f"forecast with at most {self.longest} steps of context, or export a longer static graph",
            )
        parts = [self._run_part(context[first : first + self.batch]) for first in range(0, len(context), self.batch)]
        return np.concatenate(parts)

    def _run_part(self, context: FloatArray) -> FloatArray:
        """Run the graph once for at most its batch of contexts ``[B, L]``."""
        feed, loc, scale = static_feed(context, self.longest, self.batch, self.patch_size)
        quantiles = run(self.sessions[STATIC], "quantiles", feed).reshape(self.batch, len(self.levels), -1)
        return (quantiles * scale[:, :, None] + loc[:, :, None])[: len(context)]


STATIC_FAMILIES: Mapping[str, Open] = MappingProxyType({"chronos-bolt": StaticBolt})


def static_feed(
    context: FloatArray, longest: int, batch: int, size: int
) -> tuple[dict[str, FloatArray], FloatArray, FloatArray]:
    """Return a static graph's inputs for at most ``batch`` contexts ``[B, L]``, and their loc and scale ``[batch, 1]``.

    Contexts are padded in front to ``longest`` steps and cut to patches of ``size``; rows that are left over are empty.
    """
    rows, steps = context.shape
    padded = np.full((batch, longest), np.nan, dtype=np.float32)
    padded[:rows, longest - steps :] = context
    scaled, mask, loc, scale = standardised(padded)
    masks = mask.reshape(batch, -1, size)  # [B, P, size]
    patches = np.concatenate([scaled.reshape(masks.shape), masks], axis=-1)  # [B, P, 2 * size]
    blocked = (1 - masks.max(axis=-1)) * BLOCKED  # [B, P]
    return {"patches": patches, "blocked": blocked[:, None, None, :]}, loc, scale


def standardised(context: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Scale contexts ``[B, L]``: return them in units of their deviation, their mask, and loc and scale ``[B, 1]``.

    NaN becomes 0. As the graph of any shape does: without observations the scale is 1, of a constant the smallest.
    """
    zero, one = np.zeros(1, dtype=np.float32), np.ones(1, dtype=np.float32)
    observed = ~np.isnan(context)
    mask = observed.astype(np.float32)
    count = np.maximum(mask.sum(axis=1, keepdims=True), one)
    loc = np.asarray(np.where(observed, context, zero).sum(axis=1, keepdims=True) / count, dtype=np.float32)
    centred = np.where(observed, context - loc, zero)
    with np.errstate(over="ignore"):  # then the forecast is not finite, which is an error of its own
        scale = np.sqrt(np.square(centred).sum(axis=1, keepdims=True) / count)
    scale = np.where(scale == 0, SMALLEST, scale)
    scale = np.where(observed.any(axis=1, keepdims=True), scale, one)
    return np.asarray(centred / scale, dtype=np.float32), mask, loc, np.asarray(scale, dtype=np.float32)


def read_static(bundle: Bundle) -> Static | None:
    """Read a bundle's static manifest; None where there is none. Raises as `Static.parse`, and `StorageError`."""
    file = bundle.path / STATIC_FILE
    try:
        there = file.exists()
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}") from error
    if not there:
        return None
    with about(bundle.path):
        return Static.parse(read_bounded(file, MAX_MANIFEST_SIZE))


def open_static(bundle: Bundle) -> StaticBundle:
    """Open a bundle with its static graph among its own, every file checked against the two manifests.

    Raises as `Bundle.open`, `UnsupportedError` for a family that has no static graph, and `StorageError` where this
    bundle has none.
    """
    if isinstance(bundle, StaticBundle):
        return bundle
    if bundle.manifest.family not in STATIC_FAMILIES:
        raise UnsupportedError(
            f"static graphs of family {bundle.manifest.family!r}; this runtime knows {', '.join(STATIC_FAMILIES)}"
        )
    static = read_static(bundle)
    if static is None:
        raise StorageError(
            f"{bundle.path} has no static graph, and this provider takes no other: there is no {STATIC_FILE}",
            hint=f"add one with edge-tsfm export static {bundle.path} --shape {bundle.manifest.context_length}x1",
        )
    with about(bundle.path):
        opened = StaticBundle.of(bundle.path, static.on(bundle.manifest))
    assert isinstance(opened, StaticBundle)
    opened.static = static
    return opened
