"""Check that an adapter made on the monitor keeps to its envelope: which tensors moved, and how far.

This is checked before each promotion and at every start, on the bytes that are then used. So whoever can write to a
monitor's state folder cannot change its forecasts by more than the envelope's signers allowed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from device_runtime.adapt.candidate import ORIGIN, shift_of
from device_runtime.adapt.envelope import Envelope
from device_runtime.errors import BaseMismatchError, SettingsError
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode, encode
from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.manifest import Manifest

ROUNDING = 1e-3  # of a cap: int16 numbers with a scale for each tensor, and norms that were summed in another order


def check(
    own: Adapter,
    parent: bytes | None,
    envelope: Envelope,
    manifest: Manifest,
    *,
    cap: float,
    fourier: FourierShift | None = None,
) -> None:
    """Refuse an own adapter that differs from its parent in more than the envelope's tensors.

    ``parent`` is the parent's blob, None: the base; ``cap`` is the root mean square that one tensor may move, by
    ``fourier``'s coefficients if they are given. Raises `SettingsError`, `BaseMismatchError` and `MergeError`.
    """
    if envelope.base != manifest.digest.hex():
        raise BaseMismatchError(
            f"the envelope is for base {envelope.base[:16]}, this monitor has {manifest.digest.hex()[:16]}"
        )
    under = None if parent is None else decode(parent)
    said = own.metadata.get("parent")
    if own.metadata.get("origin") != ORIGIN or said != (None if parent is None else hashlib.sha256(parent).hexdigest()):
        raise SettingsError("the blob does not say that it was learnt here on the installed adapter")
    if own.forced or own.version != (0 if under is None else under.version):
        raise SettingsError("the blob made here has another version than its parent")
    moved = tensors_of(envelope, manifest)
    if _others(own, moved) != (None if under is None else _others(under, moved)):
        raise SettingsError("the blob made here changes more than the tensors that the envelope names")
    if under is not None and own.binding != under.binding:
        raise SettingsError("the blob made here is for something else than its parent")
    for index, shape in moved:
        rms = float(np.sqrt(np.mean(shift_of(own, under, [(index, shape)], fourier).astype(np.float64) ** 2)))
        if not rms <= cap * (1 + ROUNDING):  # nor is NaN
            raise SettingsError(
                f"what was learnt moves {manifest.tensors[index].name} by {rms:.6g} (root mean square), at most {cap:g}"
            )


def tensors_of(envelope: Envelope, manifest: Manifest) -> list[tuple[int, tuple[int, int]]]:
    """Return place and shape of each tensor that an envelope names, in the base's order.

    Raises `SettingsError` for one that the base does not have.
    """
    places = {entry.name: (index, entry.rows_columns) for index, entry in enumerate(manifest.tensors)}
    if unknown := [name for name in envelope.tensors if name not in places]:
        raise SettingsError(f"the envelope names {unknown[0][:80]!r}, which is no tensor of the base")
    return sorted(places[name] for name in envelope.tensors)


def _others(adapter: Adapter, moved: list[tuple[int, tuple[int, int]]]) -> bytes | None:
    """Encode what an adapter does to all other tensors and to the forecast; None: nothing."""
    gone = {index for index, _ in moved}
    deltas = {index: delta for index, delta in adapter.deltas.items() if index not in gone}
    calibration = adapter.calibration
    if not deltas:
        return None if calibration is None else calibration.offsets.stored.tobytes() + repr(calibration).encode()
    bare = replace(adapter, deltas=deltas, known_answer=None, metadata={}, binding=None, version=0, forced=False)
    return encode(bare)
