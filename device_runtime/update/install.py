"""From bytes to a tested adapter, in the load order of FORMAT.md §11."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from device_runtime import __version__
from device_runtime.errors import (
    BaseMismatchError,
    DeviceRuntimeError,
    ForecastError,
    MergeError,
    SelfTestError,
    SignatureError,
    StorageError,
    UnsupportedError,
)
from device_runtime.faults import Fault, fault_of
from device_runtime.format import blob as blobs
from device_runtime.format import envelope
from device_runtime.format.envelope import Verifier
from device_runtime.update.lifecycle import Entry
from device_runtime.update.slots import Slots

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Installer(Generic[R]):
    """What a device checks an adapter against. `device_runtime.monitor.installer_of` makes it from settings."""

    trusted_keys: tuple[bytes, ...]
    threshold: int
    base_digest: bytes
    # Merges the blob (without signatures; None: the base alone) and proves it; raises if it must not run.
    self_test: Callable[[bytes | None], R]
    verifier: Verifier | None = None
    base_test: Callable[[], object] | None = None  # opens the base alone: whether the machine is to blame

    def check(self, data: bytes, sequence: int | None = None) -> Entry:
        """Check size, checksum, signatures and base of a signed adapter; ``sequence`` defaults to its version.

        Nothing in the blob is decoded before its signatures are good. Raises `FormatError`, `SignatureError`,
        `BaseMismatchError`, `MissingLibraryError`.
        """
        blob = data[: blobs.blob_size(data)]
        base, version = blobs.read_header(blob)
        signatures = envelope.read_signatures(data[len(blob) :])
        envelope.verify(blob, signatures, self.trusted_keys, self.threshold, verifier=self.verifier)
        if base != self.base_digest:
            raise BaseMismatchError(
                f"the adapter is for base {base.hex()[:16]}, this monitor has {self.base_digest.hex()[:16]}"
            )
        return Entry(
            file=hashlib.sha256(data).hexdigest(),
            adapter=hashlib.sha256(blob).hexdigest(),
            version=version,
            sequence=version if sequence is None else sequence,
        )

    def open(self, data: bytes | None) -> R:
        """Check a slot's bytes once more and open them; None opens the base alone."""
        if data is None:
            return self.self_test(None)
        self.check(data)
        return self.self_test(data[: blobs.blob_size(data)])

    def prove(self, slots: Slots, data: bytes, ring: str, *, sequence: int | None = None) -> Entry:
        """Check a signed adapter and run its known-answer test; changes nothing. Raises any `DeviceRuntimeError`."""
        entry = self.check(data, sequence)
        slots.floor().check_sequence(ring, entry.sequence, entry.file)
        try:
            self.self_test(data[: blobs.blob_size(data)])
        except (BaseMismatchError, MergeError, SelfTestError, ForecastError) as error:
            self._check_machine(error)
            raise
        except (OSError, MemoryError, ImportError) as error:
            raise StorageError(
                f"a fault of this machine kept it from being tested: {type(error).__name__}: {error}"
            ) from error
        return entry

    def _check_machine(self, error: DeviceRuntimeError) -> None:
        """Blame this machine if not even the base alone opens. Raises `StorageError`."""
        if self.base_test is None:
            return
        try:
            self.base_test()
        except (DeviceRuntimeError, OSError, MemoryError) as cause:
            raise StorageError(
                f"this monitor's base does not open, so the adapter could not be tested: {cause}",
                hint="edge-tsfm-device selftest BUNDLE --adapter FILE, after copying the bundle again",
            ) from error

    def failed_on(self, error: DeviceRuntimeError) -> str | None:
        """Return how an adapter failed: empty for success, None if the adapter is not at fault.

        A base, trusted keys or a runtime that this monitor gets later may be what the adapter was made for.
        """
        if fault_of(error) is not Fault.SENDER or error.code == 210:  # an old one offered again is no failure
            return None
        kinds: dict[type[DeviceRuntimeError], int] = {BaseMismatchError: 0, SignatureError: 1, UnsupportedError: 2}
        return next((self.has[at] for kind, at in kinds.items() if isinstance(error, kind)), "")

    @property
    def has(self) -> tuple[str, str, str]:
        """What this monitor checks with: its base, keys and runtime, as a bar names them."""
        keys = hashlib.sha256(b"".join(sorted(self.trusted_keys)) + bytes([self.threshold])).hexdigest()
        return f"base {self.base_digest.hex()}", f"keys {keys}", f"runtime {__version__}"
