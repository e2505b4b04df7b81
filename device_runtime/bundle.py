"""A base bundle on disk: opened once, every file checked against the manifest, never written."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import BaseMismatchError, StorageError
from device_runtime.files import read_bounded
from device_runtime.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE, TUNABLE_FILE, Manifest
from device_runtime.onnx_files import check_external_files


class Bundle:
    """A frozen base, ready to merge an adapter into and to open a session on."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open the folder ``path`` and check the size and SHA-256 of every file that its manifest pins.

        Raises `StorageError` when a file cannot be read, `FormatError` for a bad manifest or a graph that keeps tensors
        in a file that is not pinned, and `BaseMismatchError` when a file is not the one the manifest pins.
        """
        folder = Path(path)
        manifest_file = folder / MANIFEST_FILE
        if not manifest_file.is_file():
            raise StorageError(
                f"{folder} is not a base bundle: it has no {MANIFEST_FILE}",
                hint="make one with `edge-tsfm export base --base NAME --out BUNDLE`",
            )
        bundle = cls(folder, Manifest.parse(read_bounded(manifest_file, MAX_MANIFEST_SIZE)))
        for name, pinned in bundle.manifest.files.items():
            bundle._check_file(name, pinned.size, pinned.sha256)
        for name in sorted({graph.file for graph in bundle.manifest.graphs.values()}):
            bundle._check_graph(name)
        return bundle

    @property
    def digest(self) -> bytes:
        """SHA-256 of the manifest: the base's identity."""
        return self.manifest.digest

    def tensor(self, index: int) -> NDArray[np.float32]:
        """Map one tunable tensor of the base, read-only, float32 in its torch shape."""
        entry = self.manifest.tensors[index]
        return np.memmap(
            self.path / TUNABLE_FILE, dtype="<f4", mode="r", offset=entry.offset, shape=entry.shape, order="C"
        )

    def index_of(self, name: str) -> int:
        """Return a tensor's index in the table. Raises `KeyError`."""
        for index, entry in enumerate(self.manifest.tensors):
            if entry.name == name:
                return index
        raise KeyError(name)

    def _check_graph(self, name: str) -> None:
        """Refuse a graph that opens a file beside those pinned."""
        path = self.path / name
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                check_external_files(view, self.manifest.files.keys(), str(path))
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read {path}: {error}") from error

    def _check_file(self, name: str, size: int, sha256: str) -> None:
        """Compare one file with the manifest; mapped, so that checking costs no memory of its own."""
        path = self.path / name
        try:
            with path.open("rb") as file:
                actual = path.stat().st_size
                if actual != size:
                    raise BaseMismatchError(f"{path}: {actual} bytes, the manifest pins {size}")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                    digest = hashlib.sha256(view).hexdigest()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        if digest != sha256:
            raise BaseMismatchError(
                f"{path}: SHA-256 {digest[:16]}…, the manifest pins {sha256[:16]}…", hint="copy the bundle again"
            )
