"""Arrays of float32 as text in a learner's state: little-endian, base64."""

from __future__ import annotations

from base64 import b64decode, b64encode

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError


def pack(array: NDArray[np.float32]) -> str:
    """Write an array of any shape down."""
    return b64encode(array.astype("<f4").tobytes()).decode("ascii")


def unpack(text: object, shape: tuple[int, ...], what: str, *, missing: bool = False) -> NDArray[np.float32]:
    """Read what `pack` wrote of an array of ``shape``; NaN passes only where something may be ``missing``.

    Raises `FormatError`.
    """
    if not isinstance(text, str):
        raise FormatError(f"{what}: want text, got {type(text).__name__}")
    size = 4 * int(np.prod(shape))
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise FormatError(f"{what}: not base64: {error}") from error
    if len(data) != size:
        raise FormatError(f"{what}: {len(data)} bytes, want {size}")
    array = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)
    if np.isinf(array).any() or (not missing and np.isnan(array).any()):
        raise FormatError(f"{what}: holds a number that is not finite")
    return array
