"""Whose fault an error is: the one table that decides which errors may remove an adapter (never a machine's fault)."""

from collections.abc import Mapping
from enum import StrEnum

from device_runtime.errors import (
    BaseMismatchError,
    CanonicalError,
    ChecksumError,
    DeviceRuntimeError,
    ForecastError,
    FormatError,
    InputError,
    LockedError,
    MergeError,
    MissingLibraryError,
    OfflineError,
    RollbackError,
    SelfTestError,
    SettingsError,
    SignalMismatchError,
    SignatureError,
    SizeError,
    StateError,
    StorageError,
    UnsupportedError,
)


class Fault(StrEnum):
    """Whose fault an error is."""

    SENDER = "sender"  # the adapter's bytes: it is refused or taken back, and that is written down
    MACHINE = "machine"  # disk, memory, file handles, a library, the base on this disk: kept, and tried again later
    NETWORK = "network"  # no answer: kept, and tried again later
    SETTINGS = "settings"  # what this monitor is set to be and to forecast: kept, and tried again with other settings
    CALLER = "caller"  # who asked for a forecast, or for a change
    UNKNOWN = "unknown"  # no error of ours: nothing is held against an adapter that was confirmed


FAULTS: Mapping[int, Fault] = {
    FormatError.code: Fault.SENDER,
    ChecksumError.code: Fault.SENDER,
    SizeError.code: Fault.SENDER,
    CanonicalError.code: Fault.SENDER,
    UnsupportedError.code: Fault.SENDER,
    SignatureError.code: Fault.SENDER,
    RollbackError.code: Fault.SENDER,
    BaseMismatchError.code: Fault.SENDER,
    MergeError.code: Fault.SENDER,
    SelfTestError.code: Fault.SENDER,
    SignalMismatchError.code: Fault.SETTINGS,
    StorageError.code: Fault.MACHINE,
    LockedError.code: Fault.MACHINE,
    StateError.code: Fault.CALLER,
    MissingLibraryError.code: Fault.MACHINE,
    OfflineError.code: Fault.NETWORK,
    InputError.code: Fault.CALLER,
    ForecastError.code: Fault.SENDER,
    SettingsError.code: Fault.SETTINGS,
}


def installed_fault(code: int) -> Fault:
    """Return whose fault it is that an adapter which passed on this monitor no longer opens, or no longer forecasts.

    Should the base or the runtime be others now, the monitor has changed.
    """
    if code in (BaseMismatchError.code, UnsupportedError.code):
        return Fault.MACHINE
    return FAULTS.get(code, Fault.UNKNOWN)


def fault_of(error: BaseException) -> Fault:
    """Return whose fault an error is, as far as it tells.

    What looks like the sender's fault may be a damaged base: it is certain only if the base alone opens.
    """
    if isinstance(error, DeviceRuntimeError):
        return FAULTS[error.code]
    return Fault.MACHINE if isinstance(error, OSError | MemoryError | ImportError) else Fault.UNKNOWN
