"""A bundle's learning manifest (``learning.json``): the graphs that learn on a base, and the digest of every file.

It is a file beside ``bundle.json``, so that graphs can be added to a base in the field: the base and every blob for it
do not change (docs/adr/0029). Pure: bytes in, values out. FORMAT.md has the fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

from device_runtime.binder import bind
from device_runtime.errors import BaseMismatchError, FormatError, UnsupportedError
from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.layout import MAX_FILES, MAX_TENSORS
from device_runtime.format.manifest import MANIFEST_FILE, Graph, Manifest, PinnedFile, TensorEntry, read_versioned

LEARNING_FILE = "learning.json"
FORMAT_NAME = "edge-tsfm learning"
GRADIENT, SHIFTED, STATE = "learning", "shifted", "state"  # the graphs
OUTPUT_BIASES = "output-biases"  # those of the output patch block
BIASES = ("biases", OUTPUT_BIASES)
FOURIERFT = "fourierft"  # coefficients of weights' spectra
LEARNABLE = (*BIASES, FOURIERFT)
FOURIER_VERSION = 3
GRAPHS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {1: (GRADIENT, SHIFTED), 2: (GRADIENT, SHIFTED, STATE), FOURIER_VERSION: (GRADIENT, SHIFTED)}
)

# What the gradient graph's loss is (FORMAT.md), in units of a context's scale and in roundings of its level.
FAR = 20.0  # a target further away counts as that far
ROUNDED = 2.0**-20  # a context that deviates from its mean by less of it is constant, and teaches nothing


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Everything a runtime needs to know of a base's learning graphs before it opens them."""

    base_digest: str  # hex: of the one base that they are of
    learnable: str  # which tensors, as the exporter was asked
    names: tuple[str, ...]  # of the tensors that move, in the order of the base's table
    context_length: int
    prediction_length: int
    quantile_levels: tuple[float, ...]
    graphs: Mapping[str, Graph]
    files: Mapping[str, PinnedFile]
    digest: bytes  # SHA-256 of the learning manifest's bytes
    fourier: FourierShift | None = None  # how weights move; None: biases do, each by a number for each element

    @classmethod
    def parse(cls, data: bytes) -> Learning:
        """Read a learning manifest. Raises `FormatError` where a field is missing, of the wrong type or out of range.

        And `SizeError` over the limit, `CanonicalError` for another form, `UnsupportedError` for another version.
        """
        value = read_versioned(
            data,
            LEARNING_FILE,
            FORMAT_NAME,
            kind="learning",
            versions=GRAPHS,
            hint="update the runtime, or write the file with edge-tsfm export learning of this release",
        )
        if value["format_version"] != FOURIER_VERSION:
            value.pop("fourier", None)  # means nothing there
        pinned = {**value, "digest": hashlib.sha256(data).hexdigest()}
        learning = bind(cls, pinned, LEARNING_FILE, ignore_unknown=True)
        learning._check(value["format_version"])
        return learning

    def _check(self, version: int) -> None:
        """Check what needs no base, by the rules of a format version."""
        if len(self.base_digest) != 64 or not set(self.base_digest) <= set("0123456789abcdef"):
            raise FormatError(
                f"{LEARNING_FILE}: base_digest: want 64 hexadecimal digits, got {self.base_digest[:80]!r}"
            )
        known = (FOURIERFT,) if version == FOURIER_VERSION else BIASES
        if self.learnable not in known:
            raise UnsupportedError(
                f"{LEARNING_FILE}: learnable {self.learnable[:80]!r}; this runtime knows {', '.join(known)} in version "
                f"{version}"
            )
        if self.learnable == FOURIERFT and self.fourier is None:
            raise FormatError(f"{LEARNING_FILE}: fourier: missing, want count, seed and scaling")
        for what, count, most in (("names", len(self.names), MAX_TENSORS), ("files", len(self.files), MAX_FILES)):
            if not 1 <= count <= most:
                raise FormatError(f"{LEARNING_FILE}: {what}: {count}, want 1 to {most}")
        for name in self.files:
            if not name or "/" in name or name.startswith(".") or name in {MANIFEST_FILE, LEARNING_FILE}:
                raise FormatError(f"{LEARNING_FILE}: file name {name!r}: want a plain name")
        if set(self.graphs) != set(GRAPHS[version]):
            wanted, got = ", ".join(GRAPHS[version]), ", ".join(self.graphs)
            raise FormatError(f"{LEARNING_FILE}: graphs: want {wanted} in version {version}, got {got}")
        if STATE in self.graphs and self.learnable != OUTPUT_BIASES:
            raise FormatError(f"{LEARNING_FILE}: graph {STATE} beside {self.learnable}: want {OUTPUT_BIASES}")
        for graph in self.graphs.values():
            if graph.file not in self.files:
                raise FormatError(f"{LEARNING_FILE}: graph {graph.file!r} is not among the files")
            if any(after <= before for before, after in pairwise(graph.tensors)):
                raise FormatError(f"{LEARNING_FILE}: graph {graph.file!r}: tensors: want ascending indices")

    def indices(self, manifest: Manifest) -> tuple[int, ...]:
        """Return where the tensors that move stand in a base's table. Raises as `on`."""
        places = {entry.name: index for index, entry in enumerate(manifest.tensors)}
        for name in self.names:
            if name not in places:
                raise FormatError(f"{LEARNING_FILE}: {name[:80]!r} is no tensor of the base")
            self._check_shape(manifest.tensors[places[name]])
        found = tuple(places[name] for name in self.names)
        if any(after <= before for before, after in pairwise(found)):
            raise FormatError(f"{LEARNING_FILE}: names: want each once, in the order of the base's table")
        return found

    def sizes(self, manifest: Manifest) -> tuple[int, ...]:
        """Return how many numbers of a shift each tensor has. Raises as `on`."""
        entries = [manifest.tensors[index] for index in self.indices(manifest)]
        return tuple(entry.size if self.fourier is None else self.fourier.count for entry in entries)

    def _check_shape(self, entry: TensorEntry) -> None:
        """Refuse a tensor that cannot move so."""
        if self.fourier is None:
            if len(entry.shape) != 1:
                raise FormatError(f"{LEARNING_FILE}: {entry.name!r} has shape {entry.shape}, want a vector")
        elif len(entry.shape) != 2 or self.fourier.count > entry.size // 2:
            raise FormatError(
                f"{LEARNING_FILE}: {entry.name!r} has shape {entry.shape}, want a matrix of at least "
                f"{2 * self.fourier.count} elements"
            )

    def on(self, manifest: Manifest) -> Manifest:
        """Return a base's manifest with the learning graphs and their files among its own.

        Raises `BaseMismatchError` for another base's, `UnsupportedError` for one with quantised tensors, and
        `FormatError` for a tensor or a file that does not fit it.
        """
        if bytes.fromhex(self.base_digest) != manifest.digest:
            raise BaseMismatchError(
                f"{LEARNING_FILE} is of base {self.base_digest[:16]}…, this is {manifest.digest.hex()[:16]}… "
                f"({manifest.name})",
                hint="write it for this bundle with edge-tsfm export learning",
            )
        if any(entry.quantised for entry in manifest.tensors):
            raise UnsupportedError(
                f"{LEARNING_FILE} is of a base with quantised tensors, of which its graphs would read 16 bits as 32",
                hint="learn on a base in float32 or int8",
            )
        self.indices(manifest)
        for what in ("context_length", "prediction_length", "quantile_levels"):
            if getattr(self, what) != getattr(manifest, what):
                raise FormatError(
                    f"{LEARNING_FILE}: {what} {getattr(self, what)}, the base has {getattr(manifest, what)}"
                )
        if both := sorted(set(self.files) & set(manifest.files)):
            raise FormatError(f"{LEARNING_FILE}: pins {both[0]!r}, which is a file of the base")
        if any(
            index >= len(manifest.tensors) or index < 0 for graph in self.graphs.values() for index in graph.tensors
        ):
            raise FormatError(f"{LEARNING_FILE}: a graph names a tensor that the base does not have")
        return replace(manifest, files={**manifest.files, **self.files}, graphs={**manifest.graphs, **self.graphs})
