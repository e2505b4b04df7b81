"""Blocks of numbers as bytes, written and read: the scale first, then little-endian integers (FORMAT.md §4)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError, SizeError
from device_runtime.format.delta import INTEGER_LIMIT, Dtype, Numbers
from device_runtime.format.layout import BlobRecord, DtypeCode

DTYPE_CODE: dict[str, DtypeCode] = {"float32": DtypeCode.FLOAT32, "int16": DtypeCode.INT16, "int8": DtypeCode.INT8}
DTYPE_NAME: dict[int, Dtype] = {DtypeCode.FLOAT32: "float32", DtypeCode.INT16: "int16", DtypeCode.INT8: "int8"}
INTEGERS = (DtypeCode.INT16, DtypeCode.INT8)
NUMBERS = (DtypeCode.FLOAT32, *INTEGERS)


def pack(numbers: Numbers) -> bytes:
    """Write numbers: for integers the scale first, then row-major little-endian."""
    scale = b"" if numbers.dtype == "float32" else struct.pack("<f", numbers.scale)
    return scale + numbers.stored.astype(numbers.stored.dtype.newbyteorder("<")).tobytes()


def require(condition: bool, message: str) -> None:
    """Enforce one reader rule."""
    if not condition:
        raise FormatError(message)


class Cursor:
    """Reads a record's data from front to back; running past the end is rule R15."""

    def __init__(self, blob: bytes, record: BlobRecord, where: str) -> None:
        self.blob, self.where = blob, where
        self.position, self.end = record.offset, record.offset + record.size

    def take(self, dtype: str, count: int) -> NDArray[Any]:
        """Read ``count`` little-endian numbers."""
        size = count * np.dtype(dtype).itemsize
        if self.position + size > self.end:
            raise SizeError(f"R15: {self.where}: {count} {dtype} do not fit at byte {self.position}")
        out = np.frombuffer(self.blob, dtype=dtype, count=count, offset=self.position)
        self.position += size
        return out

    def numbers(self, code: int, shape: tuple[int, ...]) -> Numbers:
        """Read one block of numbers (R16)."""
        name = DTYPE_NAME[code]
        scale = 1.0 if name == "float32" else float(self.take("<f4", 1)[0])
        stored = self.take({"float32": "<f4", "int16": "<i2", "int8": "<i1"}[name], int(np.prod(shape)))
        finite = np.isfinite(scale) and scale >= 0 and bool(np.isfinite(stored).all())
        require(finite, f"R16: {self.where}: a number or scale is not finite, or a scale is negative")
        if name != "float32":
            require(
                int(stored.min(initial=0)) >= -INTEGER_LIMIT[name],
                f"R16: {self.where}: the smallest {name} is not used",
            )
        # A negative zero would be a second encoding of zero.
        require(not (scale == 0 and np.signbit(scale)), f"R16: {self.where}: the scale is a negative zero")
        return Numbers(np.ascontiguousarray(stored.reshape(shape).astype(name)), scale)

    def finish(self) -> None:
        """Refuse left-over bytes (R15)."""
        if self.position != self.end:
            raise SizeError(f"R15: {self.where}: {self.end - self.position} bytes are left over")
