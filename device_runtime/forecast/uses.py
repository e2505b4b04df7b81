"""What an adapter is for, read before the data that it will forecast, whose range and unit it may say."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from device_runtime.files import about, read_bounded
from device_runtime.format.binding import Binding
from device_runtime.format.blob import blob_size, decode
from device_runtime.format.envelope import MAX_SIGNATURES_SIZE
from device_runtime.format.layout import MAX_BLOB_SIZE


def binding_of(adapter: Path | bytes | None, *, named: Path | None = None) -> Binding | None:
    """Read what an adapter, a file or its bytes, is for; None: no adapter, or one that does not say.

    ``named`` is the file that bytes are from, for messages.
    """
    if adapter is None:
        return None
    if not isinstance(adapter, bytes):
        return binding_of(read_bounded(adapter, MAX_BLOB_SIZE + MAX_SIGNATURES_SIZE), named=adapter)
    with about(named) if named else nullcontext():
        return decode(adapter[: blob_size(adapter)]).binding


def signal_of(names: Sequence[str], binding: Binding | None) -> str:
    """Return which of the targets an adapter is held against: the first that it is not for, else the first."""
    return next((name for name in names if binding is not None and not binding.is_signal(name)), names[0])
