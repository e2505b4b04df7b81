"""A monitor that learns: a dummy bundle, a signed envelope, and stays of a simulated ward."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray

from device_runtime.adapt.envelope import PREFIX, Envelope, Plan, encode, join
from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecast
from device_runtime.format.binding import Use
from device_runtime.format.envelope import message, write_signature
from device_runtime.monitor import installer_of
from device_runtime.own import OwnAdapters
from device_runtime.update.adapt_settings import AdaptSettings
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import Record
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots, slots_of
from tests.support.head import NAME, Head
from tests.support.linear import ward

BUNDLE = Path(__file__).resolve().parents[1] / "dummy_bases" / "chronos-bolt-bundle"
HOUR = 3_600_000
WHO = "A. Quality"
QUICK: dict[str, Any] = {
    "windows": 64, "new_windows": 4, "batch": 16, "steps": 3, "first_windows": 8, "rate": 0.03, "average": 0.9,
    "cap_tensor": 1.0, "cap_day": 1.0, "promote_stays": 12, "scored_windows": 8,
}  # fmt: skip
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PLAN = Plan(changes="biases alone", verification="bets", impact="forecasts are shown, nothing alarms")
USE = Use(signal="RESP", interval_us=1_000 * HOUR)


def plain_envelope(sequence: int) -> Envelope:
    """An envelope of the dummy bundle, whose learning graphs nobody looks at."""
    return Envelope(
        ring="icu", sequence=sequence, signal="RESP", unit="/min", interval="1h",
        base=Bundle.open(BUNDLE).digest.hex(), learning="1" * 64, enabled_by=(WHO,), tensors=(NAME,),
        rules=AdaptRules(**QUICK, mode=Mode.ACTIVE), evidence="e" * 64, plan=PLAN,
    )  # fmt: skip


def envelope_for(bundle: Path, *, sequence: int = 1, mode: Mode = Mode.ACTIVE, **changes: Any) -> Envelope:
    """An envelope for the bundle's one learnable tensor."""
    rules = AdaptRules(**{**QUICK, **changes.pop("rules", {})}, mode=mode)
    envelope = Envelope(
        ring="icu", sequence=sequence, signal="RESP", unit="/min", interval="1h",
        base=Bundle.open(bundle).digest.hex(),
        learning=hashlib.sha256((bundle / "learning.json").read_bytes()).hexdigest(),
        enabled_by=(WHO,), tensors=(NAME,), rules=rules, evidence="e" * 64,
        plan=PLAN,
    )  # fmt: skip
    return replace(envelope, **changes)


def signed(envelope: Envelope, key: Ed25519PrivateKey = KEY) -> bytes:
    """Sign an envelope as the publisher does."""
    text = encode(envelope)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return join(text, write_signature(public, key.sign(message(text, PREFIX))))


class LearningBed:
    """A monitor of RESP every hour, on the base alone, whose time the test sets."""

    def __init__(self, folder: Path, *, mode: Mode = Mode.ACTIVE, envelope: bool = True, **settings: Any) -> None:
        self.folder, self.seconds, self.t_ms = folder, 0.0, 0
        shutil.copytree(BUNDLE, folder / "bundle")
        (folder / "bundle" / "learning.json").write_text("{}")
        adapt = AdaptSettings(
            **{
                **QUICK, "mode": mode, "enabled_by": WHO, "ms_per_minute": 60_000.0, "context_length": 24,
                "prediction_length": 6, **settings,
            }
        )  # fmt: skip
        self.config = DeviceConfig(
            device_id="bed", ring="icu", signal="RESP", interval="1h", bundle=folder / "bundle",
            state=folder / "state", trusted_keys=(PUBLIC,), adapt=adapt,
        )  # fmt: skip
        if envelope:
            self.give(envelope_for(self.config.bundle))
        self.stays = iter(ward(400, seed=0, drift=0.4, steps=60))
        self.host = self.start()

    def give(self, envelope: Envelope) -> None:
        """Put an envelope where a poll puts it."""
        self.slots.permit(signed(envelope), envelope, who="test")

    def start(self) -> Host[Forecast]:
        return Host(
            self.config,
            installer_of(self.config).open,
            clock=lambda: self.seconds,
            workshop=OwnAdapters(
                self.config, Bundle.open(self.config.bundle), lambda blob: Head(self.config.bundle, blob)
            ),
        )

    def stay(self) -> NDArray[np.float32]:
        """One stay of the ward, its end said, and then an idle hour; return its values."""
        values = next(self.stays)
        for value in values:
            self.t_ms += HOUR
            if np.isfinite(value):
                self.host.observe("RESP", self.t_ms, float(value))
        self.host.end_stay("RESP")
        self.seconds += 3_600.0
        while self.host.idle():
            self.seconds += 60.0
        return values

    def until_own(self, most: int = 120) -> int:
        """Learn until something is promoted; return after how many stays."""
        for number in range(1, most + 1):
            self.stay()
            if self.host.runs_own:
                return number
        return most + 1

    def forecast(self) -> Forecast:
        return self.host.forecast([14.0 + step % 5 for step in range(24)], 6, use=USE)

    @property
    def slots(self) -> Slots:
        return slots_of(self.config)

    @property
    def record(self) -> Record:
        return self.slots.record
