"""``static.json`` beside a bundle: its forecast as a graph of fixed shapes, for accelerators that take no other.

The graph reads patches and masks that the processor prepares, and answers in units of each context's scale. It is no
part of the base, whose adapters it takes: a bundle is the same with and without it. Pure: bytes in, values out.
FORMAT.md §2 has the fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from device_runtime.binder import bind
from device_runtime.errors import BaseMismatchError, FormatError
from device_runtime.format.layout import MAX_FILES
from device_runtime.format.manifest import MANIFEST_FILE, Graph, Manifest, PinnedFile, read_versioned

STATIC_FILE = "static.json"
FORMAT_NAME = "edge-tsfm static"
VERSION = 1
STATIC = "static"  # the graph
MAX_BATCH = 1_024
PRECISIONS = ("float32",)  # of its numbers; an accelerator may compute in another


@dataclass(frozen=True, kw_only=True)
class Static:
    """Everything a runtime needs to know of a static graph before it opens it."""

    base_digest: str  # hex: of the one base that it is of
    context_length: int  # steps; shorter contexts are padded in front
    batch: int  # contexts in one run
    precision: str
    graph: Graph
    files: Mapping[str, PinnedFile]
    digest: bytes  # SHA-256 of the static manifest's bytes

    @classmethod
    def parse(cls, data: bytes) -> Static:
        """Read a static manifest. Raises `FormatError`, and what `read_versioned` raises."""
        value = read_versioned(
            data,
            STATIC_FILE,
            FORMAT_NAME,
            kind="static",
            versions=(VERSION,),
            hint="update the runtime, or write the file with edge-tsfm export static of this release",
        )
        pinned = {**value, "digest": hashlib.sha256(data).hexdigest()}
        static = bind(cls, pinned, STATIC_FILE, ignore_unknown=True)
        if not 1 <= static.batch <= MAX_BATCH or static.context_length < 1:
            raise FormatError(f"{STATIC_FILE}: shape {static.shape}: want 1 to {MAX_BATCH} contexts of 1 step or more")
        if static.precision not in PRECISIONS:
            raise FormatError(
                f"{STATIC_FILE}: precision {static.precision[:80]!r}: want one of {', '.join(PRECISIONS)}"
            )
        if not 1 <= len(static.files) <= MAX_FILES:
            raise FormatError(f"{STATIC_FILE}: files: {len(static.files)}, want 1 to {MAX_FILES}")
        for name in static.files:
            if not name or "/" in name or name.startswith(".") or name in {MANIFEST_FILE, STATIC_FILE}:
                raise FormatError(f"{STATIC_FILE}: file name {name!r}: want a plain name")
        if static.graph.file not in static.files:
            raise FormatError(f"{STATIC_FILE}: graph {static.graph.file!r} is not among the files")
        return static

    @property
    def shape(self) -> str:
        """The shape as ``--static`` takes it: steps of context, then contexts."""
        return f"{self.context_length}x{self.batch}"

    def on(self, manifest: Manifest) -> Manifest:
        """Return a base's manifest with the static graph and its files among its own.

        Raises `BaseMismatchError` for another base's, and `FormatError` for a tensor or a file that does not fit it.
        """
        if self.base_digest != manifest.digest.hex():
            raise BaseMismatchError(
                f"{STATIC_FILE} is of base {self.base_digest[:16]}, this is {manifest.digest.hex()[:16]} "
                f"({manifest.name})",
                hint="write it for this bundle with edge-tsfm export static",
            )
        if self.context_length > manifest.context_length:
            raise FormatError(
                f"{STATIC_FILE}: context_length {self.context_length}, the base has {manifest.context_length}"
            )
        if both := sorted(set(self.files) & set(manifest.files)):
            raise FormatError(f"{STATIC_FILE}: pins {both[0]!r}, which is a file of the base")
        tensors = self.graph.tensors
        if list(tensors) != sorted({index for index in tensors if 0 <= index < len(manifest.tensors)}):
            raise FormatError(f"{STATIC_FILE}: graph: tensors: want ascending indices of the base's table")
        return replace(
            manifest,
            files={**manifest.files, **self.files},
            graphs={**manifest.graphs, STATIC: self.graph},
        )
