"""Whether a monitor's settings allow unsigned adapters that are given by their path.

This prevents mistakes; it does not stop anybody who may run other programs on the monitor
(docs/reference/threat-model.md).
"""

from __future__ import annotations

import os
from pathlib import Path

SETTINGS = Path("/etc/edge-tsfm/device.toml")
VARIABLE = "EDGE_TSFM_DEVICE_CONFIG"


def check_signed(adapter: Path | str | None) -> bytes | None:
    """Return an adapter's bytes; on a monitor whose settings say ``signed_only``, only when trusted keys signed them.

    The settings are those of `SETTINGS` and of the environment's `VARIABLE`: either may forbid. Raises
    `SignatureError`, `RollbackError` for what was revoked, and what `device_config.read_config` raises: settings that
    cannot be read allow nothing. The bytes are what was checked: use them, not the path.
    """
    if adapter is None:
        return None
    from device_runtime.files import read_bounded
    from device_runtime.forecast.uses import binding_of
    from device_runtime.update.slots import MAX_FILE_SIZE

    data = read_bounded(Path(adapter), MAX_FILE_SIZE)
    named = os.environ.get(VARIABLE)
    for path in dict.fromkeys((SETTINGS, *([Path(named)] if named else []))):
        if path.exists() or path.is_symlink():
            _check(data, Path(adapter), path)
    binding_of(data, named=Path(adapter))  # what is no adapter is refused here, where the file's name is known
    return data


def _check(data: bytes, adapter: Path, path: Path) -> None:
    """Check an adapter against one monitor's settings."""
    import hashlib

    from device_runtime.errors import RollbackError, SignatureError, StorageError
    from device_runtime.format import envelope
    from device_runtime.update.settings import read_config
    from device_runtime.update.slots import slots_of

    config = read_config(path)
    if not config.signed_only:
        return
    blob, signatures = envelope.split(data)
    try:
        envelope.verify(blob, signatures, config.trusted_keys, config.threshold)
    except SignatureError as error:
        raise SignatureError(
            f"{adapter}: {path} says that this monitor takes signed adapters only: {error.args[0]}",
            hint="edge-tsfm-device install takes a signed one; or set signed_only = false there",
        ) from error
    try:
        revoked = slots_of(config).floor().revoked
    except StorageError:
        return  # a lost floor blocks installs; a signed file that is named by hand is not one
    if hashlib.sha256(data).hexdigest() in revoked:
        raise RollbackError(f"{adapter} is revoked")
