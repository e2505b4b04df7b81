"""A monotonic counter outside the state folder, which reveals that an old copy of the folder was restored.

Every write of the floor has a number; the counter is raised to it afterwards. A floor below its counter is an old copy:
then no adapter runs until a poll has read the revocations again. ``docs/reference/threat-model.md`` says what each kind
of counter protects against.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Protocol

from device_runtime.errors import DeviceRuntimeError, FormatError, SettingsError, StorageError
from device_runtime.files import read_bounded, write_atomic

TPM = "tpm2:"  # then the index of an NV counter, as tpm2-tools writes it: tpm2:0x1500016
TPM_TIME = 20.0  # seconds that one tpm2 command may take
MAX_SIZE = 64  # bytes
MAX_STEP = 1_000  # a TPM counts in ones: a floor that is further ahead was not written by this monitor


class Counter(Protocol):
    """A durable number that nothing lowers."""

    def read(self) -> int:
        """Return the number; 0 before the first `raise_to`. Raises `StorageError` when it cannot be read."""

    def raise_to(self, number: int) -> None:
        """Raise the number to at least ``number``, durably. Raises `StorageError`."""


class NoCounter:
    """No counter: an old copy of the state folder is believed until the next poll."""

    def read(self) -> int:
        """Return 0."""
        return 0

    def raise_to(self, number: int) -> None:
        """Do nothing."""


class FileCounter:
    """A file, best on another partition: who puts back a copy of the state folder alone is noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> int:
        """Return the file's number; 0 where there is no file."""
        try:
            self.path.lstat()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror or error}") from error
        try:
            text = read_bounded(self.path, MAX_SIZE, follow=False).decode("ascii").strip()
        except (FormatError, UnicodeDecodeError) as error:
            raise StorageError(f"counter {self.path}: not a number: {error}") from error
        if not text.isdigit():
            raise StorageError(f"counter {self.path}: want a whole number, got {text!r}")
        return int(text)

    def raise_to(self, number: int) -> None:
        """Write the number, when it is higher."""
        if number > self.read():
            write_atomic(self.path, f"{number:020d}\n".encode(), mode=0o640)


class TpmCounter:
    """An NV counter of a TPM 2.0, through ``tpm2-tools``: it cannot be lowered, not even by root.

    It is created once, when the monitor is provisioned: ``tpm2_nvdefine 0x1500016 -C o -a "ownerread|ownerwrite|
    authread|authwrite|nt=counter"`` and one ``tpm2_nvincrement``. The monitor's number starts where the TPM's did.
    """

    def __init__(self, index: str) -> None:
        self.index = index

    def read(self) -> int:
        """Return the counter's number."""
        data = self._run("tpm2_nvread", "-s", "8")
        if len(data) != 8:
            raise StorageError(f"TPM counter {self.index}: {len(data)} bytes, want 8")
        return int.from_bytes(data, "big")

    def raise_to(self, number: int) -> None:
        """Count up."""
        missing = number - self.read()
        if missing > MAX_STEP:
            raise StorageError(f"TPM counter {self.index}: {missing} steps behind, want at most {MAX_STEP}")
        for _ in range(missing):
            self._run("tpm2_nvincrement")

    def _run(self, name: str, *options: str) -> bytes:
        """Run one tpm2 command; return what it prints."""
        try:
            done = subprocess.run([name, self.index, *options], capture_output=True, timeout=TPM_TIME, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(
                f"TPM counter {self.index}: {name}: {error}", hint="tpm2-tools and access to /dev/tpmrm0 are needed"
            ) from error
        if done.returncode:
            why = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise StorageError(f"TPM counter {self.index}: {name}: {why[-1][:200] if why else done.returncode}")
        return done.stdout


def counter_for(setting: str, here: Path) -> Counter:
    """Return the counter that ``device.toml`` names: nothing, a file, or ``tpm2:INDEX``. Raises `SettingsError`."""
    if not setting:
        return NoCounter()
    if setting.startswith(TPM):
        index = setting.removeprefix(TPM)
        try:
            int(index, 0)
        except ValueError as error:
            raise SettingsError(f"counter {setting!r}: want tpm2: and an NV index such as 0x1500016") from error
        return TpmCounter(index)
    return FileCounter(here / setting)


def check(counter: Counter, number: int) -> None:
    """Refuse a floor that is older than the counter. Raises `StorageError` if it is, or if that cannot be told."""
    try:
        known = counter.read()
    except DeviceRuntimeError as error:
        raise StorageError(f"it cannot be told whether the state is an old copy: {error}") from error
    if number < known:
        raise StorageError(
            f"the state is an old copy: its floor has number {number}, this monitor has counted to {known}",
            hint="the next successful poll reads the revocations again",
        )
