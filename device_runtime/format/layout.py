"""The fixed layouts and limits of an adapter blob; FORMAT.md §3 and §9 print them and a test compares."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"ETSA"
FORMAT_VERSION = 2  # what is written; a blob of version 1 says not what it is for and is read as unbound
UNBOUND_VERSION = 1
FLAG_FORCED = 1

# magic, format_version, header_size, total_size, record_count, flags, base_digest, adapter_version, reserved, crc32
HEADER = struct.Struct("<4sHHIHH32sQII")
# kind, dtype, tensor_count, rows, columns, count, seed, scaling, offset, size
RECORD = struct.Struct("<BBHIIIIfII")
# interval_us, low, high, code_system, code_size, unit_size, name_size; the texts follow
BINDING = struct.Struct("<QffBBBB")
CRC_OFFSET = 60

MAX_BLOB_SIZE = 524_288  # bytes
MAX_RECORDS = 256
MAX_TENSORS = 4_096  # in a bundle's table
MAX_DIMENSION = 8_192  # rows or columns of a tensor
MAX_FREQUENCIES = 4_096  # for each tensor; keeps integer sums below 2^53
MAX_RANK = 256
MAX_CONTEXT = 512  # of a known-answer test
MAX_EXPECTED = 1_024
MAX_METADATA_SIZE = 1_024  # bytes
MAX_INTERVAL = 1_000_000_000_000_000  # microseconds: 31 years
MAX_CODE_SIZE = 32  # bytes; of a unit too
MAX_NAME_SIZE = 64
# Of a bundle's manifest.
MAX_LENGTH = 65_536  # steps of a context or forecast
MAX_LEVELS = 1_024
MAX_FILES = 64
MAX_GRAPHS = 16


class Kind(IntEnum):
    """What a record holds."""

    DENSE = 1
    FOURIER = 2  # entries from the seed
    FOURIER_EXPLICIT = 3  # entries in the data, gap-coded
    LOW_RANK = 4
    VERA = 5
    GAIN = 7  # 6 stays free: a vector of the first release refuses it
    CALIBRATION = 16
    KNOWN_ANSWER = 17
    METADATA = 18
    BINDING = 19


class DtypeCode(IntEnum):
    """How a record's numbers are stored."""

    NONE = 0
    FLOAT32 = 1
    INT16 = 2
    INT8 = 3


@dataclass(frozen=True, kw_only=True)
class BlobRecord:
    """One line of the record table."""

    kind: int
    dtype: int
    tensor_count: int
    rows: int
    columns: int
    count: int
    seed: int
    scaling: float
    offset: int
    size: int

    @property
    def key(self) -> tuple[int, ...]:
        """What the table is sorted by; the scaling's bits, so that the order is one of integers."""
        scaling = int.from_bytes(struct.pack("<f", self.scaling), "little")
        return (self.kind, self.rows, self.columns, self.count, self.dtype, self.seed, scaling)

    def pack(self) -> bytes:
        """Encode the record's 32 bytes."""
        return RECORD.pack(
            self.kind,
            self.dtype,
            self.tensor_count,
            self.rows,
            self.columns,
            self.count,
            self.seed,
            self.scaling,
            self.offset,
            self.size,
        )

    @classmethod
    def unpack(cls, data: bytes, offset: int) -> BlobRecord:
        """Decode the 32 bytes at ``offset``."""
        names = ("kind", "dtype", "tensor_count", "rows", "columns", "count", "seed", "scaling", "offset", "size")
        return cls(**dict(zip(names, RECORD.unpack_from(data, offset), strict=True)))


def new_record(
    kind: int,
    dtype: int,
    tensor_count: int,
    rows: int,
    columns: int,
    count: int,
    seed: int,
    scaling: float,
    data: bytes,
) -> BlobRecord:
    """Make a record whose offset is not known yet."""
    return BlobRecord(
        kind=kind,
        dtype=dtype,
        tensor_count=tensor_count,
        rows=rows,
        columns=columns,
        count=count,
        seed=seed,
        scaling=scaling,
        offset=0,
        size=len(data),
    )
