"""Export of a learnt adapter for the fleet: the blob, an optional signature, and an in-toto statement."""

from __future__ import annotations

import datetime as dt
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from device_runtime import __version__
from device_runtime.errors import MissingLibraryError, SettingsError, StateError
from device_runtime.files import read_bounded
from device_runtime.format.blob import decode
from device_runtime.format.envelope import message, write_signature
from device_runtime.update import envelope_store
from device_runtime.update.adapt_report import decisions
from device_runtime.update.disk import PosixDisk
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://edge-tsfm.dev/own-adapter/v1"
TOOLS = ("numpy", "onnxruntime")
MAX_KEY = 16_384  # bytes


def export(config: DeviceConfig, slots: Slots, key: Path | None, *, who: str) -> tuple[bytes, dict[str, Any]]:
    """Return the blob that was learnt and forecasts, signed where there is a ``key``, and the statement on it.

    Raises `StateError` where nothing that was learnt runs.
    """
    own, current = slots.record.own, slots.record.current
    if own is None:
        raise StateError(
            "no adapter that was learnt here runs, so there is nothing to export",
            hint="edge-tsfm-device adapt status says what is missing",
        )
    blob = slots.load(own)
    adapter = decode(blob)
    promoted = [
        entry for entry in decisions(slots) if entry["event"] == "promote" and entry.get("adapter") == own.adapter
    ]
    envelope, _, _ = envelope_store.read(PosixDisk(config.state), config)
    data, signed_by = blob, None
    if key is not None:
        trailer, signed_by = _signature(blob, key)
        data += trailer
    last = promoted[-1] if promoted else {}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": f"own adapter of {config.device_id}", "digest": {"sha256": own.adapter}}],
        "predicateType": PREDICATE,
        "predicate": {
            "decision": "promoted",
            "device": config.device_id,
            "ring": config.ring,
            "who": last.get("who"),
            "why": last.get("reason"),
            "at": _said(float(last["at"])) if "at" in last else None,
            "exported_by": who,
            "exported_at": _said(slots.clock()),
            "generation": own.sequence,
            "base": adapter.base_digest.hex(),
            "over": current.adapter if current else None,
            "for": adapter.binding and adapter.binding.to_dict(),
            "tensors": sorted(adapter.deltas),
            "parameters": adapter.parameters,
            "evidence": last.get("learnt"),
            "envelope": None
            if envelope is None
            else {"sequence": envelope.sequence, "evidence": envelope.evidence, "tensors": list(envelope.tensors)},
            "audit_head": slots.audit.head,
            "signed_by": signed_by,
            "tools": {"edge-tsfm": __version__} | {name: _version(name) for name in TOOLS},
        },
    }
    return data, statement


def _signature(blob: bytes, path: Path) -> tuple[bytes, str]:
    """Sign a blob with a key file; return the trailer and the public key, hex. Raises `SettingsError`."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    except ImportError as error:
        raise MissingLibraryError("no library to sign with", hint="install edge-tsfm-device[agent]") from error
    text = read_bounded(path, MAX_KEY)
    if path.stat().st_mode & 0o077:
        raise SettingsError(f"{path} can be read by others: it is not used", hint=f"chmod 600 {path}")
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path}: not a private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path}: want an Ed25519 key, got another kind")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return write_signature(public, key.sign(message(blob))), public.hex()


def _said(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
