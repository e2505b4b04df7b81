"""Writing a bundle's folder: tunable tensors, pinned files, and a folder that is either complete or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.files import sync_folder
from device_runtime.forecast.bundle import Bundle
from device_runtime.format.manifest import TUNABLE_FILE, TensorEntry
from export.errors import ExportError


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes ``out``, durably, when the ``with`` ends well and vanishes when it does not.

    Raises `ExportError` when ``out`` exists, also by now, or cannot be written.
    """
    hint = "choose another folder or remove that one"
    if out.exists():
        raise ExportError(f"{out} exists; a bundle is written once", hint=hint)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
        scratch.chmod(0o755)  # mkdtemp's own is for its user alone
    except OSError as error:
        raise ExportError(
            f"cannot write into {out.parent}: {error.strerror}", hint="check space and permissions"
        ) from error
    try:
        yield scratch
        for file in scratch.iterdir():  # flushed before the folder gets its name
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        sync_folder(scratch)
        scratch.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise ExportError(f"{out} was written by another process meanwhile", hint=hint) from error
        raise ExportError(
            f"cannot write {out}: {error.strerror or error}", hint="check space and permissions"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # gone already where all went well


def write_tunable(folder: Path, arrays: Mapping[str, NDArray[np.floating[Any]]]) -> list[TensorEntry]:
    """Write tensors as the bundle's safetensors file, one after the other, and say where each lies in it.

    As `safetensors.numpy.save` writes it, which would hold all of them in memory once more. A float16 array is that of
    a quantised tensor.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name.encode()))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": f"F{8 * arrays[name].itemsize}",
            "shape": list(arrays[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with (folder / TUNABLE_FILE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(np.ascontiguousarray(arrays[name], dtype=f"<f{arrays[name].itemsize}").data)
    first = 8 + len(text)
    return [
        TensorEntry(
            name=name,
            shape=array.shape,
            offset=first + header[name]["data_offsets"][0],
            quantised=array.dtype == np.float16,
        )
        for name, array in arrays.items()
    ]


class StoredTensors(Mapping[str, NDArray[np.float32]]):
    """What `write_tunable` wrote, by name: read at each access and not kept, for it is as large as the model."""

    def __init__(self, folder: Path, entries: Sequence[TensorEntry]) -> None:
        self._path = folder / TUNABLE_FILE
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Read one tensor. Raises `KeyError`."""
        entry = self._entries[name]
        flat = np.fromfile(self._path, dtype="<f4", count=entry.size, offset=entry.offset)
        return flat.reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def pinned_files(folder: Path) -> dict[str, dict[str, str | int]]:
    """Return digest and size of every file in ``folder``, as a manifest pins them."""
    pinned: dict[str, dict[str, str | int]] = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            pinned[path.name] = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": path.stat().st_size}
    return pinned


@contextmanager
def rewritten(
    bundle: Bundle, entries: Sequence[TensorEntry], numbers: Callable[[str], NDArray[np.float32]]
) -> Iterator[Bundle]:
    """Give a copy of ``bundle``, beside it and for the duration of a ``with``, whose ``entries`` hold other numbers.

    For sessions that read from disk: its manifest is the bundle's own, so nothing else would take its files.
    """
    with tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=".rewritten.") as scratch:
        folder = Path(scratch)
        for name in bundle.manifest.files:
            if name == TUNABLE_FILE:
                shutil.copyfile(bundle.path / name, folder / name)
            else:
                link(bundle.path / name, folder / name)
        with (folder / TUNABLE_FILE).open("rb+") as file:
            for entry in entries:
                file.seek(entry.offset)
                file.write(np.ascontiguousarray(numbers(entry.name), dtype="<f4").data)
        yield Bundle(folder, bundle.manifest, {})


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
