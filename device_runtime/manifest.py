"""A bundle's manifest (``bundle.json``): what the frozen base is, and the digest of every file of it.

Pure: bytes in, values out. FORMAT.md §2 has the fields; the base digest is the SHA-256 of these bytes, so an adapter
that names it is bound to every byte of the base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from device_runtime import canonical
from device_runtime.errors import FormatError, SizeError, UnsupportedError
from device_runtime.layout import MAX_DIMENSION, MAX_FILES, MAX_GRAPHS, MAX_LENGTH, MAX_LEVELS, MAX_TENSORS

FORMAT_NAME = "edge-tsfm bundle"
BUNDLE_VERSION = 1
MAX_MANIFEST_SIZE = 1_048_576  # bytes
MAX_WORD = 2**32 - 1  # a C reader keeps numbers in 32 bits, but for the sizes of files
MAX_WHOLE = 10**18 - 1  # canonical JSON's own limit
TUNABLE_FILE = "tunable.safetensors"
MANIFEST_FILE = "bundle.json"


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """One file of a bundle."""

    size: int  # bytes
    sha256: str  # hex


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tunable tensor: float32, in ``tunable.safetensors``, under its torch name and in its torch orientation."""

    name: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file

    @property
    def rows_columns(self) -> tuple[int, int]:
        """The shape as an adapter states it: a vector of n numbers is ``(n, 1)``."""
        return (self.shape[0], self.shape[1]) if len(self.shape) == 2 else (self.shape[0], 1)

    @property
    def size(self) -> int:
        """Number of elements."""
        rows, columns = self.rows_columns
        return rows * columns


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX graph and the tunable tensors it uses."""

    file: str
    tensors: tuple[int, ...]  # indices in the tensor table


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

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest. Raises `FormatError` where a field is missing, of the wrong type or out of range.

        And `SizeError` over the limit, `CanonicalError` for another form, `UnsupportedError` for another version.
        """
        if len(data) > MAX_MANIFEST_SIZE:
            raise SizeError(f"{MANIFEST_FILE}: {len(data)} bytes, want at most {MAX_MANIFEST_SIZE}")
        value = canonical.loads(data, MANIFEST_FILE)
        if not isinstance(value, dict) or value.get("format") != FORMAT_NAME:
            raise FormatError(f"{MANIFEST_FILE}: not a bundle's manifest: want format {FORMAT_NAME!r}")
        version = value.get("format_version")
        if version != BUNDLE_VERSION or not isinstance(version, int) or isinstance(version, bool):
            raise UnsupportedError(
                f"{MANIFEST_FILE}: bundle version {value.get('format_version')}; this runtime reads {BUNDLE_VERSION}"
            )
        try:
            manifest = cls(
                name=_text(value, "name"),
                family=_text(value, "family"),
                context_length=_count(value, "context_length", least=1, most=MAX_LENGTH),
                prediction_length=_count(value, "prediction_length", least=1, most=MAX_LENGTH),
                quantile_levels=tuple(_number(level) for level in _list(value, "quantile_levels")),
                parameters=_object(value, "parameters"),
                precision=_text(value, "precision"),
                graphs={
                    name: Graph(file=_text(graph, "file"), tensors=tuple(_list(graph, "tensors")))
                    for name, graph in _object(value, "graphs").items()
                },
                files={
                    name: PinnedFile(size=_count(file, "size", most=MAX_WHOLE), sha256=_text(file, "sha256"))
                    for name, file in _object(value, "files").items()
                },
                tensors=tuple(
                    TensorEntry(
                        name=_text(entry, "name"), shape=tuple(_list(entry, "shape")), offset=_count(entry, "offset")
                    )
                    for entry in _list(value, "tensors")
                ),
                digest=hashlib.sha256(data).digest(),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FormatError(f"{MANIFEST_FILE}: field missing or of the wrong type: {error!r}") from error
        manifest._check()
        return manifest

    def _check(self) -> None:
        """Check what concerns several fields."""
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
        for name, pinned in self.files.items():
            if not name or "/" in name or name.startswith(".") or name == MANIFEST_FILE:
                raise FormatError(f"{MANIFEST_FILE}: file name {name!r}: want a plain name")
            if len(pinned.sha256) != 64 or not set(pinned.sha256) <= set("0123456789abcdef"):
                raise FormatError(f"{MANIFEST_FILE}: {name}: sha256: want 64 hexadecimal digits, got {pinned.sha256!r}")
        if TUNABLE_FILE not in self.files:
            raise FormatError(f"{MANIFEST_FILE}: {TUNABLE_FILE} is not among the files")
        for graph in self.graphs.values():
            if graph.file not in self.files or any(
                type(index) is not int or not 0 <= index < len(self.tensors) for index in graph.tensors
            ):
                raise FormatError(f"{MANIFEST_FILE}: graph {graph.file!r} names a file or tensor that is not there")
            if any(after <= before for before, after in pairwise(graph.tensors)):
                raise FormatError(f"{MANIFEST_FILE}: graph {graph.file!r}: tensors: want ascending indices")
        limit = self.files[TUNABLE_FILE].size
        for entry in self.tensors:
            whole = all(type(side) is int and 1 <= side <= MAX_DIMENSION for side in entry.shape)
            if not (whole and len(entry.shape) in (1, 2)) or entry.offset + 4 * entry.size > limit:
                raise FormatError(f"{MANIFEST_FILE}: tensor {entry.name!r}: shape {entry.shape} at {entry.offset}")


def _text(value: Mapping[str, Any], key: str) -> str:
    """Return a text field."""
    if not isinstance(value[key], str):
        raise TypeError(f"{key}: want text, got {value[key]!r}")
    return str(value[key])


def _number(value: Any) -> float:
    """Return a number as a float; text and truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"want a number, got {value!r}")
    return float(value)


def _count(value: Mapping[str, Any], key: str, *, least: int = 0, most: int = MAX_WORD) -> int:
    """Return a whole number within bounds."""
    if not isinstance(value[key], int) or isinstance(value[key], bool) or not least <= value[key] <= most:
        raise TypeError(f"{key}: want a whole number from {least} to {most}, got {value[key]!r}")
    return int(value[key])


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list; a text or an object is none, though it can be walked like one."""
    if not isinstance(value[key], list):
        raise TypeError(f"{key}: want a list, got {type(value[key]).__name__}")
    return list(value[key])


def _object(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an object; a list of pairs is none."""
    if not isinstance(value[key], dict):
        raise TypeError(f"{key}: want an object, got {type(value[key]).__name__}")
    return dict(value[key])
