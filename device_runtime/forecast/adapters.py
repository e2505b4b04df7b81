"""Reading an adapter's blob for a base that is open."""

from __future__ import annotations

import hashlib
from pathlib import Path

from device_runtime.files import about, read_bounded
from device_runtime.forecast.merge import check_base
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import blob_size, decode, read_header
from device_runtime.format.envelope import MAX_SIGNATURES_SIZE
from device_runtime.format.layout import MAX_BLOB_SIZE
from device_runtime.format.manifest import Manifest


def read_adapter(manifest: Manifest, adapter: bytes | Path | str) -> tuple[Adapter, str]:
    """Decode a blob, given as bytes or as a path; return it and its name, the SHA-256 of the blob in hex.

    Signatures behind the blob are not looked at. Raises `BaseMismatchError` for another base's, and what the format
    does, with the path in it.
    """
    if not isinstance(adapter, bytes):
        data = read_bounded(Path(adapter), MAX_BLOB_SIZE + MAX_SIGNATURES_SIZE)
        with about(adapter):
            return read_adapter(manifest, data)
    blob = adapter[: blob_size(adapter)]
    check_base(manifest, read_header(blob)[0])  # first, since an adapter for another base is refused anyway
    return decode(blob), hashlib.sha256(blob).hexdigest()
