"""Writing a bundle's folder: tunable tensors, pinned files, and a folder that appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from device_runtime.files import sync_folder, write_atomic
from device_runtime.manifest import TUNABLE_FILE, TensorEntry
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
        for file in scratch.iterdir():
            write_atomic(file, file.read_bytes())  # flushed before the folder gets its name
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


def write_tunable(folder: Path, arrays: Mapping[str, NDArray[np.float32]]) -> list[TensorEntry]:
    """Write tensors as the bundle's safetensors file and say where each lies in it."""
    data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / TUNABLE_FILE).write_bytes(data)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return [
        TensorEntry(name=name, shape=array.shape, offset=start + header[name]["data_offsets"][0])
        for name, array in arrays.items()
    ]


def pinned_files(folder: Path) -> dict[str, dict[str, str | int]]:
    """Return digest and size of every file in ``folder``, as a manifest pins them."""
    return {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "size": file.stat().st_size}
        for file in sorted(folder.iterdir())
    }
