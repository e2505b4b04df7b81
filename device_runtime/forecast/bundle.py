"""A base bundle on disk: opened once, every file checked against the manifest, never written.

The files stay open, so a file that is replaced later is not used. What a model gets is read into memory and checked
there (`Bundle.in_memory`), so the bytes that were checked are the bytes that are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import BaseMismatchError, StorageError
from device_runtime.files import about, open_regular, read_bounded
from device_runtime.format.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE, TUNABLE_FILE, Manifest
from device_runtime.format.onnx_files import check_external_files

CHUNK = 1 << 20  # bytes read at a time while a file is checked


class Bundle:
    """A frozen base, ready to merge an adapter into and to open a session on."""

    def __init__(self, path: Path, manifest: Manifest, handles: dict[str, int]) -> None:
        self.path = path
        self.manifest = manifest
        self._handles = handles
        self._held: dict[str, memoryview] | None = None
        weakref.finalize(self, _close, handles)

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open the folder ``path`` and check the size and SHA-256 of every file that its manifest pins.

        Raises `StorageError` when a file cannot be read, `FormatError` for a bad manifest or a graph that keeps tensors
        in a file that is not pinned, and `BaseMismatchError` when a file is not the one the manifest pins.
        """
        folder = Path(path)
        return cls.of(folder, read_manifest(folder))

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Bundle:
        """Open the files that ``manifest`` pins in ``folder``; errors as `open`."""
        handles: dict[str, int] = {}
        bundle = cls(folder, manifest, handles)
        for name in manifest.files:
            try:
                handles[name] = open_regular(folder / name, os.O_RDONLY, follow=True)
            except OSError as error:
                raise StorageError(f"cannot read {folder / name}: {error.strerror or error}") from error
            bundle._check_file(name)
        for name in sorted({graph.file for graph in manifest.graphs.values()}):
            check_external_files(bytes(bundle.data(name)), manifest.files.keys(), str(folder / name))
        return bundle

    @property
    def digest(self) -> bytes:
        """SHA-256 of the manifest: the base's identity."""
        return self.manifest.digest

    def tensor(self, index: int) -> NDArray[np.float32]:
        """Read one tunable tensor of the base, read-only, float32 in its torch shape."""
        entry = self.manifest.tensors[index]
        if self._held is None:
            data = self._read(TUNABLE_FILE, entry.offset, entry.bytes)
        else:
            data = self.data(TUNABLE_FILE)[entry.offset : entry.offset + entry.bytes]
        if not entry.quantised:
            return np.frombuffer(data, dtype="<f4").reshape(entry.shape)
        widened = np.frombuffer(data, dtype="<f2").astype(np.float32).reshape(entry.shape)
        widened.flags.writeable = False
        return widened

    @contextlib.contextmanager
    def in_memory(self) -> Iterator[None]:
        """Within, every file is read once, checked, and then used from memory, whatever happens on the disk."""
        if self._held is not None:
            yield
            return
        self._held = {}
        try:
            yield
        finally:
            self._held = None

    def data(self, name: str) -> memoryview:
        """Return a file's bytes, checked against the manifest. Raises `BaseMismatchError`, `StorageError`."""
        if self._held is not None and name in self._held:
            return self._held[name]
        pinned = self.manifest.files[name]
        data = self._read(name, 0, pinned.size)
        self._compare(name, hashlib.sha256(data).hexdigest())
        if self._held is not None:
            self._held[name] = data
        return data

    def index_of(self, name: str) -> int:
        """Return a tensor's index in the table. Raises `KeyError`."""
        for index, entry in enumerate(self.manifest.tensors):
            if entry.name == name:
                return index
        raise KeyError(name)

    def _read(self, name: str, offset: int, size: int) -> memoryview:
        """Read a part of a file. Raises `BaseMismatchError` where the file ends before it, `StorageError`."""
        # Separate pages, released as soon as they are unused: a freed heap block of this size may stay allocated.
        data = mmap.mmap(-1, size) if size >= CHUNK else bytearray(size)
        view = memoryview(data)
        try:
            while view:
                count = os.preadv(self._handles[name], [view], offset + size - len(view))
                if count == 0:
                    raise BaseMismatchError(f"{self.path / name}: is shorter than it was", hint="copy the bundle again")
                view = view[count:]
        except OSError as error:
            raise StorageError(f"cannot read {self.path / name}: {error.strerror or error}") from error
        return memoryview(data).toreadonly()

    def _check_file(self, name: str) -> None:
        """Compare one file with the manifest, a part at a time, so that checking costs no memory of its own."""
        pinned = self.manifest.files[name]
        actual = os.fstat(self._handles[name]).st_size
        if actual != pinned.size:
            raise BaseMismatchError(f"{self.path / name}: {actual} bytes, the manifest pins {pinned.size}")
        digest = hashlib.sha256()
        for offset in range(0, actual, CHUNK):
            digest.update(self._read(name, offset, min(CHUNK, actual - offset)))
        self._compare(name, digest.hexdigest())

    def _compare(self, name: str, digest: str) -> None:
        """Refuse a file of another digest than the manifest's."""
        wanted = self.manifest.files[name].sha256
        if digest != wanted:
            raise BaseMismatchError(
                f"{self.path / name}: SHA-256 {digest[:16]}…, the manifest pins {wanted[:16]}…",
                hint="copy the bundle again",
            )


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest; errors as `Bundle.open`."""
    manifest_file = folder / MANIFEST_FILE
    try:
        there = manifest_file.is_file()
    except OSError as error:
        raise StorageError(f"cannot read {manifest_file}: {error.strerror or error}") from error
    if not there:
        raise StorageError(
            f"{folder} is not a base bundle: it has no {MANIFEST_FILE}",
            hint="make one with `edge-tsfm export base --base NAME --out BUNDLE`",
        )
    with about(folder):
        return Manifest.parse(read_bounded(manifest_file, MAX_MANIFEST_SIZE))


def _close(handles: dict[str, int]) -> None:
    """Close a bundle's files."""
    for handle in handles.values():
        os.close(handle)
