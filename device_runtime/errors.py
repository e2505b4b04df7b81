"""Every error a monitor can raise: one family, stable codes shared by Python, C and telemetry.

A code says whose fault it is and what the device does next; `device_runtime/FORMAT.md` §10 has the table, and a test
compares it with this file and with ``etsa.h``. `device_runtime.faults` decides which errors may remove an adapter.
"""

from typing import ClassVar


class DeviceRuntimeError(Exception):
    """Base of all device errors. ``code`` never changes; ``hint`` says what to do."""

    code: ClassVar[int] = 0
    action: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        """Prefix the message with its stable code."""
        return f"[{self.code}] {super().__str__()}"


class FormatError(DeviceRuntimeError):
    """The bytes break a numbered rule of FORMAT.md: the sender's fault."""

    code = 100
    action = "refuse, keep what runs"


class ChecksumError(FormatError):
    """The CRC-32 does not match: the bytes were damaged on the way."""

    code = 101


class SizeError(FormatError):
    """A size is over a limit, or sizes do not add up."""

    code = 102


class CanonicalError(FormatError):
    """Readable, but not the one canonical encoding of what it says."""

    code = 103


class UnsupportedError(DeviceRuntimeError):
    """A newer sender: a format version, record kind, dtype or family this runtime does not know."""

    code = 110
    action = "refuse, report what is supported"


class SignatureError(DeviceRuntimeError):
    """No trusted key signed exactly these bytes."""

    code = 200
    action = "refuse, security event"


class RollbackError(DeviceRuntimeError):
    """An adapter version below the device's floor was offered."""

    code = 210
    action = "refuse"


class BaseMismatchError(DeviceRuntimeError):
    """A good adapter for another base, or a bundle whose files are not what its manifest pins."""

    code = 300
    action = "refuse, report base"


class MergeError(DeviceRuntimeError):
    """The adapter does not fit the base's tensors, or a merged weight is not finite."""

    code = 310
    action = "refuse or roll back"


class SelfTestError(DeviceRuntimeError):
    """The merged model does not reproduce the adapter's known-answer test."""

    code = 320
    action = "roll back"


class SignalMismatchError(DeviceRuntimeError):
    """A good adapter, but for another signal, unit, interval or length than what is to be forecast."""

    code = 330
    action = "refuse, keep what runs"


class StorageError(DeviceRuntimeError):
    """This machine's fault: its disk or flash, memory, file handles, its copy of the base."""

    code = 400
    action = "keep what runs, retry later"


class LockedError(StorageError):
    """Another process holds the device state."""

    code = 401
    action = "retry later"


class StateError(DeviceRuntimeError):
    """The request does not fit what this monitor runs: nothing waits to be confirmed or rolled back."""

    code = 402
    action = "change nothing, say what runs"


class MissingLibraryError(DeviceRuntimeError):
    """This machine lacks a library: that says nothing of what the library was wanted for."""

    code = 410
    action = "keep what runs, retry later"


class OfflineError(DeviceRuntimeError):
    """A server, or the folder in its place, cannot be reached, or does not answer in time."""

    code = 420
    action = "keep what runs, retry later"


class InputError(DeviceRuntimeError):
    """The context cannot be forecast from: empty, all missing, wrong shape or infinite."""

    code = 500
    action = "no forecast for this context"


class ForecastError(DeviceRuntimeError):
    """The model's output is not a forecast: not finite."""

    code = 501
    action = "no forecast; roll back if it repeats"


class SettingsError(DeviceRuntimeError):
    """What a person wrote into this monitor's settings is not to be used."""

    code = 600
    action = "keep what runs, say which setting"
