"""A monitor's own settings: one TOML file, unknown keys refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_runtime.adapt.modes import Mode
from device_runtime.binder import bind
from device_runtime.documents import read_toml
from device_runtime.errors import InputError, SettingsError, StorageError
from device_runtime.format.binding import Use, check_names
from device_runtime.quality.rules import QualityRules
from device_runtime.renamed import renamed_key
from device_runtime.update.adapt_settings import AdaptSettings
from device_runtime.update.counter import TPM, counter_for
from device_runtime.update.health import HealthRules
from device_runtime.update.policy import Policy
from device_runtime.update.rollout import NAME
from device_runtime.update.session_settings import SessionPlace
from device_runtime.update.web import check_address

MAX_CONFIG_SIZE = 65_536  # bytes


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """A monitor's identity, trusted keys, and sources."""

    device_id: str
    ring: str  # the monitors that are offered the same adapter
    signal: str = ""  # what this monitor's adapter will forecast, such as "MAP"; empty: only unbound adapters may run
    unit: str = ""  # UCUM, such as "mm[Hg]"
    interval: str = ""  # time between two steps, such as "1h"
    accept_differences: tuple[str, ...] = ()  # differences from the adapter's binding that a person accepted, by name
    bundle: Path
    state: Path
    trusted_keys: tuple[bytes, ...]  # Ed25519 public keys, 32 bytes each
    threshold: int = 1
    groups: tuple[str, ...] = ()
    repository: str = ""  # https://… or a folder (a mounted stick, a mirror)
    root: Path | None = None  # the factory's root.json
    report_to: str = ""  # a folder, or https://…
    report_token: Path | None = None  # file with a bearer token for reports over HTTP
    signed_only: bool = False  # `forecast`, `stream` and `selftest` with --adapter refuse unsigned files too
    counter: str = ""  # second place of the floor's number: a file on another partition, or tpm2:INDEX
    trial_days: float = 14.0  # after which a trial ends that nobody has ended
    policy: Policy = field(default_factory=Policy)
    health: HealthRules = field(default_factory=HealthRules)
    quality: QualityRules = field(default_factory=QualityRules)
    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    session: SessionPlace = field(default_factory=SessionPlace)

    def __post_init__(self) -> None:
        """Check names and keys."""
        if not self.device_id or len(self.device_id) > 128 or not self.device_id.isprintable():
            raise SettingsError(f"device_id {self.device_id[:80]!r}: want 1 to 128 printable characters")
        if not NAME.fullmatch(self.ring):
            raise SettingsError(f"ring {self.ring[:80]!r}: want a-z, 0-9 and -, at most 63")
        if not self.trusted_keys or any(len(key) != 32 for key in self.trusted_keys):
            raise SettingsError("trusted_keys: want at least one Ed25519 public key of 64 hexadecimal digits")
        try:
            check_names(self.accept_differences)
            _ = self.use
        except InputError as error:
            raise SettingsError(f"settings: {error.args[0]}", hint=error.hint) from error
        if "://" in self.repository:
            check_address("repository", self.repository)
        if "://" in self.report_to:
            check_address("report_to", self.report_to, secret=self.report_token is not None)
        if not isinstance(self.signed_only, bool):
            raise SettingsError(f"signed_only: want true or false, got {self.signed_only!r}")
        if not isinstance(self.trial_days, int | float) or not 0 < self.trial_days <= 3650:
            raise SettingsError(f"trial_days: want more than 0 and at most 3650, got {self.trial_days!r}")
        if self.health.max_wql_vs_base_percent is not None and not self.quality.shadow_every:
            raise SettingsError(
                "max_wql_vs_base_percent: with shadow_every 0 the frozen base makes no forecast to judge a trial by",
                hint="shadow_every = 4, or leave max_wql_vs_base_percent out",
            )
        if self.adapt.mode is not Mode.OFF and not (self.signal and self.interval):
            raise SettingsError(
                f'[adapt] mode "{self.adapt.mode.value}": want signal and interval, which it learns',
                hint='add signal = "RESP" and interval = "1h", or what this monitor forecasts',
            )
        counter_for(self.counter, Path())
        if not 1 <= self.threshold <= len(set(self.trusted_keys)):
            raise SettingsError(
                f"threshold {self.threshold}: want 1 to {len(set(self.trusted_keys))}, the number of keys"
            )

    @property
    def use(self) -> Use:
        """What the adapter will forecast here."""
        return Use.of(self.signal, interval=self.interval, unit=self.unit)


def read_config(path: Path) -> DeviceConfig:
    """Read a device's settings; relative paths start at the file's folder. Raises `SettingsError`, `StorageError`.

    A file that others than its owner may write, or that belongs to neither root nor this user, is refused: it holds the
    keys that are trusted.
    """
    _check_owner(path)
    value = read_toml(path, limit=MAX_CONFIG_SIZE, error=SettingsError, unreadable=StorageError)
    value = dict(renamed_key(value, "channel", "ring", str(path), error=SettingsError))
    config = bind(DeviceConfig, value, str(path), folder=path.parent, error=SettingsError)
    return replace(
        config,
        repository=_beside(path, config.repository),
        report_to=_beside(path, config.report_to),
        counter=config.counter if config.counter.startswith(TPM) else _beside(path, config.counter),
    )


def _beside(path: Path, place: str) -> str:
    """Return an address as it is, and a folder as seen from the file's own."""
    return str(path.parent / place) if place and "://" not in place else place


def _check_owner(path: Path) -> None:
    """Refuse settings that others could have written. Raises `SettingsError`."""
    try:
        found = path.stat()
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}",
            hint="--config or EDGE_TSFM_DEVICE_CONFIG names the settings; docs/guides/deploy.md says how they are made",
        ) from error
    if found.st_mode & 0o022:
        raise SettingsError(
            f"{path} may be written by others (mode {found.st_mode & 0o7777:o}): the keys in it are not trusted",
            hint=f"check its content, then chmod go-w {path}",
        )
    if found.st_uid not in (0, os.geteuid()):
        raise SettingsError(
            f"{path} belongs to user {found.st_uid}: the keys in it are not trusted",
            hint=f"check its content, then chown root {path}",
        )
