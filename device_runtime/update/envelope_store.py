"""The envelope in a monitor's state folder: signed, so that it is checked again whenever it is read."""

from __future__ import annotations

import hashlib

from device_runtime.adapt.envelope import MAX_SIZE, Envelope, open_signed
from device_runtime.errors import DeviceRuntimeError, FormatError, SignalMismatchError
from device_runtime.files import IrregularError
from device_runtime.format.binding import Use
from device_runtime.format.envelope import Verifier
from device_runtime.update import disk as files
from device_runtime.update.disk import Disk
from device_runtime.update.floor import Floor
from device_runtime.update.settings import DeviceConfig

ENVELOPE = "envelope"
SUFFIX = "/adapt"  # of the ring's name, in the floor: its envelopes have sequences of their own


def envelope_target(ring: str) -> str:
    """Return the path of a ring's envelope among the repository's targets."""
    return f"approved/{ring}/adapt.envelope"


def read(disk: Disk, config: DeviceConfig, *, verifier: Verifier | None = None) -> tuple[Envelope | None, str, bool]:
    """Read the envelope that holds here; None, and why, where there is none or it cannot be used.

    Last, whether there is one that cannot be used: it was good when it came, so this machine is to blame (its disk, a
    library), or its settings were changed, and nothing is held against what was learnt.
    """
    try:
        data = disk.read(ENVELOPE, MAX_SIZE)
        return (None, "", False) if data is None else (check(data, config, verifier=verifier), "", False)
    except DeviceRuntimeError as error:
        return None, f"the envelope cannot be used: {error}", True


def check(data: bytes, config: DeviceConfig, *, verifier: Verifier | None = None) -> Envelope:
    """Check an envelope's signatures, and that it is for this monitor.

    Raises `SignatureError`, `FormatError`, and `SignalMismatchError` where it is for another signal or interval.
    """
    envelope = open_signed(data, config.trusted_keys, config.threshold, verifier=verifier)
    if envelope.ring != config.ring:
        raise FormatError(f"envelope of ring {envelope.ring}, want {config.ring}")
    if config.signal:
        said = Use.of(envelope.signal, interval=envelope.interval, unit=envelope.unit)
        if (said.signal, said.interval_us, said.unit or "") != (
            config.use.signal, config.use.interval_us, config.use.unit or said.unit or "",
        ):  # fmt: skip
            raise SignalMismatchError(
                f"the envelope is for {envelope.signal} every {envelope.interval}, this monitor forecasts "
                f"{config.signal} every {config.interval or 'step'}"
            )
    return envelope


def digest(disk: Disk) -> str | None:
    """Return the SHA-256 of the envelope's file, hex; None where there is none. Raises `StorageError`."""
    try:
        data = disk.read(ENVELOPE, MAX_SIZE)
    except (FormatError, IrregularError):  # none of ours: another one takes its place
        return ""
    return None if data is None else hashlib.sha256(data).hexdigest()


def accepted(floor: Floor, envelope: Envelope, data: bytes) -> Floor:
    """Return the floor raised by an envelope. Raises `RollbackError` for one that is older or revoked."""
    return floor.accept_sequence(envelope.ring + SUFFIX, envelope.sequence, hashlib.sha256(data).hexdigest())


def write(disk: Disk, data: bytes) -> None:
    """Write an envelope's file durably. Raises `StorageError`."""
    files.replace(disk, ENVELOPE, data)


def withdraw(disk: Disk) -> None:
    """Remove the envelope durably. Raises `StorageError`."""
    disk.unlink(ENVELOPE)
    disk.sync_folder("")
