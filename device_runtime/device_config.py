"""A monitor's own settings: one TOML file, unknown keys refused."""

from __future__ import annotations

import datetime as dt
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from device_runtime.counter import TPM, counter_for
from device_runtime.errors import FormatError, StorageError
from device_runtime.files import read_bounded
from device_runtime.health import HealthRules
from device_runtime.rollout import NAME
from device_runtime.web import check_address

Activation = Literal["manual", "idle", "window"]
MAX_CONFIG_SIZE = 65_536  # bytes


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When a staged adapter may be tried."""

    activation: Activation = "manual"
    idle_file: Path | None = None  # the host creates it while no patient is attached
    inhibit_file: Path | None = None  # while it exists, nothing is activated, whatever else is said
    window: str = ""  # "02:00-04:30", local time; may cross midnight

    def __post_init__(self) -> None:
        """Check that the policy can ever say yes."""
        if self.activation not in get_args(Activation):
            raise FormatError(f"policy: activation {self.activation!r}: want one of {', '.join(get_args(Activation))}")
        if self.activation == "idle" and self.idle_file is None:
            raise FormatError('policy: activation "idle" needs idle_file')
        if self.activation == "window":
            self.limits()

    def limits(self) -> tuple[dt.time, dt.time]:
        """Return the window's first moment and the one after its last."""
        try:
            first, last = (dt.time.fromisoformat(part.strip()) for part in self.window.split("-"))
        except ValueError as error:
            raise FormatError(f'policy: window {self.window!r}: want "HH:MM-HH:MM"') from error
        return first, last

    def inhibited(self) -> bool:
        """Whether the host forbids every activation now; a file that cannot be looked for counts as there."""
        try:
            return self.inhibit_file is not None and self.inhibit_file.exists()
        except OSError:
            return True

    def allows(self, now: dt.datetime) -> tuple[bool, str]:
        """Say whether a trial may begin at the local time ``now``, and if not, why."""
        if self.inhibited():
            return False, f"inhibited by {self.inhibit_file}"
        if self.activation == "manual":
            return False, "activation is manual"
        if self.activation == "idle":
            assert self.idle_file is not None
            try:
                idle = self.idle_file.exists()
            except OSError:  # a file that cannot be looked for counts as not there
                idle = False
            return (True, "") if idle else (False, "the monitor is in use")
        first, last = self.limits()
        moment = now.time()
        inside = first <= moment < last if first <= last else moment >= first or moment < last
        return (True, "") if inside else (False, f"outside of {self.window}")


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """Who this monitor is, what it trusts, and where it looks."""

    device_id: str
    channel: str
    bundle: Path
    state: Path
    trusted_keys: tuple[bytes, ...]  # Ed25519 public keys, 32 bytes each
    threshold: int = 1
    groups: tuple[str, ...] = ()
    repository: str = ""  # https://… or a folder (a mounted stick, a mirror)
    root: Path | None = None  # the factory's root.json
    report_to: str = ""  # a folder, or https://…
    report_token: Path | None = None  # file with a bearer token for reports over HTTP
    signed_only: bool = False  # also `forecast`, `stream` and `selftest` with --adapter take nothing unsigned
    counter: str = ""  # where the floor's number is kept too: a file on another partition, or tpm2:INDEX
    trial_days: float = 14.0  # after which a trial that nobody ended is over
    policy: Policy = field(default_factory=Policy)
    health: HealthRules = field(default_factory=HealthRules)

    def __post_init__(self) -> None:
        """Check names and keys."""
        if not self.device_id or len(self.device_id) > 128 or not self.device_id.isprintable():
            raise FormatError(f"device_id {self.device_id[:80]!r}: want 1 to 128 printable characters")
        if not NAME.fullmatch(self.channel):
            raise FormatError(f"channel {self.channel[:80]!r}: want a-z, 0-9 and -, at most 63")
        if not self.trusted_keys or any(len(key) != 32 for key in self.trusted_keys):
            raise FormatError("trusted_keys: want at least one Ed25519 public key of 64 hexadecimal digits")
        if "://" in self.repository:
            check_address("repository", self.repository)
        if "://" in self.report_to:
            check_address("report_to", self.report_to, secret=self.report_token is not None)
        if not isinstance(self.signed_only, bool):
            raise FormatError(f"signed_only: want true or false, got {self.signed_only!r}")
        if not isinstance(self.trial_days, int | float) or not 0 < self.trial_days <= 3650:
            raise FormatError(f"trial_days: want more than 0 and at most 3650, got {self.trial_days!r}")
        counter_for(self.counter, Path())
        if not 1 <= self.threshold <= len(set(self.trusted_keys)):
            raise FormatError(
                f"threshold {self.threshold}: want 1 to {len(set(self.trusted_keys))}, the number of keys"
            )


def read_config(path: Path) -> DeviceConfig:
    """Read a device's settings; relative paths start at the file's folder. Raises `FormatError`, `StorageError`.

    A file that others than its owner may write, or that belongs to neither root nor this user, is refused: it holds the
    keys that are trusted.
    """
    _check_owner(path)
    try:
        value = tomllib.loads(read_bounded(path, MAX_CONFIG_SIZE).decode())
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: {error}") from error
    here = path.parent

    def table(fields: dict[str, Any], kind: type, where: str) -> dict[str, Any]:
        known = kind.__dataclass_fields__  # type: ignore[attr-defined]  # only called with dataclasses
        unknown = set(fields) - set(known)
        if unknown:
            raise FormatError(
                f"{path}: {where}unknown key {', '.join(sorted(unknown))}", hint=f"known: {', '.join(sorted(known))}"
            )
        return {name: here / item if "Path" in str(known[name].type) else item for name, item in fields.items()}

    try:
        fields = table(value, DeviceConfig, "")
        for name in ("groups", "trusted_keys"):
            if not isinstance(value.get(name, []), list):
                raise FormatError(f"{path}: {name}: want a list, got {value[name]!r}")
        fields["policy"] = Policy(**table(value.get("policy", {}), Policy, "policy: "))
        fields["health"] = HealthRules(**table(value.get("health", {}), HealthRules, "health: "))
        fields["trusted_keys"] = tuple(bytes.fromhex(key) for key in value.get("trusted_keys", ()))
        fields["groups"] = tuple(value.get("groups", ()))
        for name in ("repository", "report_to"):
            if fields.get(name) and "://" not in fields[name]:
                fields[name] = str(here / fields[name])
        counter = fields.get("counter", "")
        if counter and not str(counter).startswith(TPM):
            fields["counter"] = str(here / counter)
        return DeviceConfig(**fields)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error


def _check_owner(path: Path) -> None:
    """Refuse settings that others could have written. Raises `StorageError`."""
    try:
        found = path.stat()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if found.st_mode & 0o022:
        raise StorageError(
            f"{path} may be written by others (mode {found.st_mode & 0o7777:o}): the keys in it are not trusted",
            hint=f"look what it says, then chmod go-w {path}",
        )
    if found.st_uid not in (0, os.geteuid()):
        raise StorageError(
            f"{path} belongs to user {found.st_uid}: the keys in it are not trusted",
            hint=f"look what it says, then chown root {path}",
        )
