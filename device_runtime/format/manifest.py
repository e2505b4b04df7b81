"""A bundle's manifest (``bundle.json``): what the frozen base is, and the digest of every file of it.

Pure: bytes in, values out. FORMAT.md §2 has the fields; the base digest is the SHA-256 of these bytes, so an adapter
that names it is bound to every byte of the base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from device_runtime.binder import bind
from device_runtime.errors import FormatError, SizeError, UnsupportedError
from device_runtime.format import canonical
from device_runtime.format.adapter import KnownAnswer
from device_runtime.format.layout import (
    MAX_CONTEXT,
    MAX_DIMENSION,
    MAX_EXPECTED,
    MAX_FILES,
    MAX_GRAPHS,
    MAX_LENGTH,
    MAX_LEVELS,
    MAX_TENSORS,
)

FORMAT_NAME = "edge-tsfm bundle"
BUNDLE_VERSION = 1
# Of a bundle whose graphs take tunable tensors as integers: no older reader may merge into it. 2 stays free: a vector
# of the first release refuses it.
QUANTISED_VERSION = 3
MAX_MANIFEST_SIZE = 1_048_576  # bytes
FLOAT32_MAX = float(np.finfo(np.float32).max)
MAX_WORD = 2**32 - 1  # a C reader keeps numbers in 32 bits, but for the sizes of files
MAX_WHOLE = 10**18 - 1  # canonical JSON's own limit
INTEGER_PRECISIONS = ("int8", "int8-merged")  # whose activations share scales along a batch
TUNABLE_FILE = "tunable.safetensors"
MANIFEST_FILE = "bundle.json"


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """One file of a bundle."""

    size: int  # bytes
    sha256: str  # hex

    def __post_init__(self) -> None:
        """Check both."""
        if not 0 <= self.size <= MAX_WHOLE:
            raise FormatError(f"size: want 0 to {MAX_WHOLE}, got {self.size}")
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise FormatError(f"sha256: want 64 hexadecimal digits, got {self.sha256[:80]!r}")


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tunable tensor: in ``tunable.safetensors``, under its torch name and in its torch orientation.

    It is float32; a quantised one, which the graphs take as integers, is float16 there: what deltas are added to.
    """

    name: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file
    quantised: bool = False

    def __post_init__(self) -> None:
        """Check what another tensor cannot put right."""
        whole = all(1 <= side <= MAX_DIMENSION for side in self.shape)
        if not whole or len(self.shape) not in (1, 2) or not 0 <= self.offset <= MAX_WORD:
            raise FormatError(f"tensor {self.name[:80]!r}: shape {self.shape} at {self.offset}")
        if self.quantised and len(self.shape) != 2:
            raise FormatError(f"tensor {self.name[:80]!r}: quantised, want 2 dimensions, got shape {self.shape}")

    @property
    def rows_columns(self) -> tuple[int, int]:
        """The shape as an adapter states it: a vector of n numbers is ``(n, 1)``."""
        return (self.shape[0], self.shape[1]) if len(self.shape) == 2 else (self.shape[0], 1)

    @property
    def size(self) -> int:
        """Number of elements."""
        rows, columns = self.rows_columns
        return rows * columns

    @property
    def bytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.size * (2 if self.quantised else 4)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX graph and the tunable tensors it uses."""

    file: str
    tensors: tuple[int, ...]  # indices in the tensor table


@dataclass(frozen=True, kw_only=True)
class BaseAnswer:
    """What the base alone forecasts from a short context, as the manifest states it (FORMAT.md §7)."""

    context: tuple[float, ...]
    expected: tuple[float, ...]
    tolerance: float

    def __post_init__(self) -> None:
        """Check the limits that an adapter's known answer has."""
        if not 1 <= len(self.context) <= MAX_CONTEXT or not 1 <= len(self.expected) <= MAX_EXPECTED:
            sizes = f"{len(self.context)} and {len(self.expected)} parameters"
            raise FormatError(f"{sizes}, want 1 to {MAX_CONTEXT} and {MAX_EXPECTED}")
        if max(map(abs, (*self.context, *self.expected))) > FLOAT32_MAX:
            raise FormatError("want numbers that float32 holds")
        if not self.tolerance > 0:
            raise FormatError(f"tolerance {self.tolerance:g}: want more than 0")

    def as_test(self) -> KnownAnswer:
        """Return the numbers as a forecaster takes them."""
        context, expected = (np.array(numbers, dtype=np.float32) for numbers in (self.context, self.expected))
        return KnownAnswer(context=context, expected=expected, tolerance=self.tolerance)


def read_versioned(
    data: bytes, file: str, name: str, *, kind: str, versions: Collection[int], hint: str | None = None
) -> dict[str, Any]:
    """Read a canonical JSON object of the format ``name`` in one of the ``versions`` that this runtime reads.

    Raises `SizeError`, `CanonicalError`, `FormatError` for another format, `UnsupportedError` with ``hint`` for another
    version.
    """
    if len(data) > MAX_MANIFEST_SIZE:
        raise SizeError(f"{file}: {len(data)} bytes, want at most {MAX_MANIFEST_SIZE}")
    value = canonical.loads(data, file)
    if not isinstance(value, dict) or value.get("format") != name:
        raise FormatError(f"{file}: not a {kind} manifest: want format {name!r}")
    found = value.get("format_version")
    if not isinstance(found, int) or isinstance(found, bool) or found not in versions:
        known = ", ".join(map(str, versions))
        raise UnsupportedError(f"{file}: {kind} version {found}; this runtime reads {known}", hint=hint)
    return value


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a runtime needs to know of a base before it opens it."""

    name: str
    family: str
    context_length: int
    prediction_length: int
    quantile_levels: tuple[float, ...]
    parameters: Mapping[str, Any]  # the family's own: patch size, or tokenizer and sampling
    precision: str
    graphs: Mapping[str, Graph]
    files: Mapping[str, PinnedFile]
    tensors: tuple[TensorEntry, ...]
    digest: bytes  # SHA-256 of the manifest's bytes
    known_answer: BaseAnswer | None = None  # of the base alone; bundles of older releases have none

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest. Raises `FormatError` where a field is missing, of the wrong type or out of range.

        And `SizeError` over the limit, `CanonicalError` for another form, `UnsupportedError` for another version.
        """
        versions = (BUNDLE_VERSION, QUANTISED_VERSION)
        value = read_versioned(data, MANIFEST_FILE, FORMAT_NAME, kind="bundle", versions=versions)
        if value.get("known_answer", {}) is None:
            raise FormatError(f"{MANIFEST_FILE}: known_answer: want a table, got null", hint="leave it out")
        pinned = {**value, "digest": hashlib.sha256(data).hexdigest()}
        # Exporters add fields that a runtime does not need.
        manifest = bind(cls, pinned, MANIFEST_FILE, ignore_unknown=True)
        manifest._check()
        if (value["format_version"] == QUANTISED_VERSION) != any(entry.quantised for entry in manifest.tensors):
            raise FormatError(f"{MANIFEST_FILE}: want quantised tensors in version {QUANTISED_VERSION}, and only there")
        return manifest

    def _check(self) -> None:
        """Check what concerns several fields."""
        if not 1 <= self.context_length <= MAX_LENGTH or not 1 <= self.prediction_length <= MAX_LENGTH:
            raise FormatError(
                f"{MANIFEST_FILE}: want lengths of 1 to {MAX_LENGTH}, got {self.context_length}, "
                f"{self.prediction_length}"
            )
        levels = self.quantile_levels
        if not levels or list(levels) != sorted(set(levels)) or not levels[0] > 0 or not levels[-1] < 1:
            raise FormatError(f"{MANIFEST_FILE}: quantile_levels: want ascending levels in (0, 1), got {levels}")
        for what, count, most in (
            ("quantile_levels", len(levels), MAX_LEVELS),
            ("tensors", len(self.tensors), MAX_TENSORS),
            ("files", len(self.files), MAX_FILES),
            ("graphs", len(self.graphs), MAX_GRAPHS),
        ):
            if count > most:
                raise FormatError(f"{MANIFEST_FILE}: {what}: {count}, want at most {most}")
        for name in self.files:
            if not name or "/" in name or name.startswith(".") or name == MANIFEST_FILE:
                raise FormatError(f"{MANIFEST_FILE}: file name {name!r}: want a plain name")
        if TUNABLE_FILE not in self.files:
            raise FormatError(f"{MANIFEST_FILE}: {TUNABLE_FILE} is not among the files")
        for graph in self.graphs.values():
            if graph.file not in self.files or any(not 0 <= index < len(self.tensors) for index in graph.tensors):
                raise FormatError(f"{MANIFEST_FILE}: graph {graph.file!r} names a file or tensor that is not there")
            if any(after <= before for before, after in pairwise(graph.tensors)):
                raise FormatError(f"{MANIFEST_FILE}: graph {graph.file!r}: tensors: want ascending indices")
        limit = self.files[TUNABLE_FILE].size
        for entry in self.tensors:
            if entry.offset + entry.bytes > limit:
                raise FormatError(f"{MANIFEST_FILE}: tensor {entry.name!r}: shape {entry.shape} at {entry.offset}")
