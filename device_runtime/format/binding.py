"""What an adapter is for: the signal, unit, interval and lengths of its training and evaluation (FORMAT.md §4).

A binding is inside the blob, under its signature. The caller states what it forecasts (`Use`), and `check` refuses a
difference, unless a person accepted exactly that difference by its name.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from device_runtime.errors import InputError, SignalMismatchError
from device_runtime.format.layout import MAX_CODE_SIZE, MAX_DIMENSION, MAX_INTERVAL, MAX_NAME_SIZE
from device_runtime.nearest import did_you_mean
from device_runtime.series.duration import parse_duration, say_duration
from device_runtime.series.signals import Signal, find_signal
from device_runtime.series.units import find_unit

# What a person may accept by name although it differs.
DIFFERENCES = ("signal", "unit", "interval", "context_length", "prediction_length")


class CodeSystem(IntEnum):
    """Where a signal's code comes from."""

    NONE = 0  # another domain's signal: its name is all there is
    LOINC = 1


@dataclass(frozen=True, kw_only=True)
class Binding:
    """The one signal and clock that an adapter belongs to. Valid once built (rule R24)."""

    name: str  # "MAP", or the column's name in another domain
    code_system: CodeSystem = CodeSystem.NONE
    code: str = ""  # "8478-0"
    unit: str = ""  # UCUM: "mm[Hg]"; empty if not stated
    interval_us: int = 0  # microseconds between steps; 0: steps of no stated length
    context_length: int  # steps
    prediction_length: int  # steps
    low: float = -math.inf  # a reading lies within [low, high], in the unit
    high: float = math.inf

    def __post_init__(self) -> None:
        """Check every field against the format's limits. Raises `ValueError`."""
        for what, text, least, most in (
            ("name", self.name, 1, MAX_NAME_SIZE),
            ("code", self.code, 0, MAX_CODE_SIZE),
            ("unit", self.unit, 0, MAX_CODE_SIZE),
        ):
            plain = text.isascii() and text.isprintable() and text == text.strip(" ")
            if not (plain and least <= len(text) <= most):
                raise ValueError(
                    f"{what} {text[:80]!r}: want {least} to {most} printable ASCII characters, no blank at an end"
                )
        if (self.code_system == CodeSystem.NONE) != (not self.code):
            raise ValueError(f"code {self.code!r} of code system {int(self.code_system)}: want both or neither")
        if not 0 <= self.interval_us <= MAX_INTERVAL:
            raise ValueError(f"interval of {self.interval_us} µs: want 0 to {MAX_INTERVAL}")
        if not (1 <= self.context_length <= MAX_DIMENSION and 1 <= self.prediction_length <= MAX_DIMENSION):
            raise ValueError(f"lengths {self.context_length} and {self.prediction_length}: want 1 to {MAX_DIMENSION}")
        if not self.low < self.high:  # also where one is NaN
            raise ValueError(f"range {self.low} to {self.high}: want the lower end first")

    @classmethod
    def of(cls, name: str, *, interval_us: int, context_length: int, prediction_length: int) -> Binding:
        """Bind to a signal by its name: code, unit and range come from the table of signals where that has it.

        Raises `ValueError` for what no blob can say.
        """
        known = find_signal(name)
        if known is None:
            return cls(
                name=name, interval_us=interval_us, context_length=context_length, prediction_length=prediction_length
            )
        return cls(
            name=known.name,
            code_system=CodeSystem.LOINC,
            code=known.loinc,
            unit=known.ucum,
            interval_us=interval_us,
            context_length=context_length,
            prediction_length=prediction_length,
            low=known.low,
            high=known.high,
        )

    @property
    def interval(self) -> str:
        """The time between steps as people write it: "1h"; empty where steps have no stated length."""
        return say_duration(self.interval_us) if self.interval_us else ""

    @property
    def own_signal(self) -> Signal | None:
        """The signal for a reader of files; None where the table of signals has it, or nothing but its name is said."""
        ranged = math.isfinite(self.low) or math.isfinite(self.high)
        if find_signal(self.name) is not None or not (ranged or self.unit):
            return None
        return Signal(
            name=self.name,
            unit=find_unit(self.unit) or self.unit,
            ucum=self.unit,
            low=self.low,
            high=self.high,
            loinc=self.code,
            aliases=(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; an end of the range that is not there is None."""
        return {
            "signal": self.name,
            "code_system": self.code_system.name if self.code else None,
            "code": self.code or None,
            "unit": self.unit or None,
            "interval": self.interval or None,
            "context_length": self.context_length,
            "prediction_length": self.prediction_length,
            "low": self.low if math.isfinite(self.low) else None,
            "high": self.high if math.isfinite(self.high) else None,
        }

    def __str__(self) -> str:
        """Say it in a line: ``MAP (LOINC 8478-0, mm[Hg]) every 1h, 48 steps to 6``."""
        known = [f"LOINC {self.code}"] if self.code_system == CodeSystem.LOINC else []
        known += [self.unit] if self.unit else []
        named = f"{self.name} ({', '.join(known)})" if known else self.name
        return f"{named} every {self.interval or 'step'}, {self.context_length} steps to {self.prediction_length}"

    def is_signal(self, name: str) -> bool:
        """Return whether ``name`` means this signal: its code, its name, or another name of the same vital sign."""
        plain = name.strip(" ").lower() if name.isascii() else ""  # what is not ASCII is no name here, however it folds
        if plain and plain in (self.name.lower(), self.code.lower()):
            return True
        known = find_signal(name)
        return known is not None and self.code_system == CodeSystem.LOINC and known.loinc == self.code


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a caller is about to forecast; None or 0 for what is not stated."""

    signal: str | None = None
    unit: str | None = None  # UCUM
    interval_us: int | None = None
    context_length: int | None = None  # steps of the context
    prediction_length: int | None = None

    @classmethod
    def of(cls, signal: str | None = None, *, interval: str | None = None, unit: str | None = None) -> Use:
        """Say it as people write it: ``Use.of("MAP", interval="1h")``. Raises `InputError` for no span of time."""
        return cls(signal=signal or None, unit=unit or None, interval_us=parse_duration(interval) if interval else None)


def differences(binding: Binding, use: Use) -> dict[str, tuple[str, str]]:
    """Return what ``use`` does otherwise than ``binding``: name → what is used, what the adapter is for.

    A shorter context or forecast than the adapter's is no difference; what was not said is none either.
    """
    found: dict[str, tuple[str, str]] = {}
    if use.signal is not None and not binding.is_signal(use.signal):
        found["signal"] = (use.signal, binding.name)
    if use.unit and binding.unit and use.unit != binding.unit:
        found["unit"] = (use.unit, binding.unit)
    if use.interval_us and binding.interval_us and use.interval_us != binding.interval_us:
        found["interval"] = (say_duration(use.interval_us), binding.interval)
    if use.context_length is not None and use.context_length > binding.context_length:
        found["context_length"] = (str(use.context_length), str(binding.context_length))
    if use.prediction_length is not None and use.prediction_length > binding.prediction_length:
        found["prediction_length"] = (str(use.prediction_length), str(binding.prediction_length))
    return found


def check(binding: Binding, use: Use, accepted: Collection[str] = ()) -> tuple[str, ...]:
    """Refuse a use that the adapter is not for; return the differences that a person accepted by name.

    Raises `SignalMismatchError`, and `InputError` where ``accepted`` names no difference there is.
    """
    check_names(accepted)
    found = differences(binding, use)
    refused = {what: pair for what, pair in found.items() if what not in accepted}
    if refused:
        said = "; ".join(f"{what.replace('_', ' ')} {got}, want {want}" for what, (got, want) in refused.items())
        raise SignalMismatchError(
            f"the adapter is for {binding}: {said}",
            hint="use an adapter for this, or accept it by name: "
            + " ".join(f"--accept-difference {what}" for what in refused),
        )
    return tuple(found)


def require_said(binding: Binding, use: Use) -> None:
    """Raise `SignalMismatchError` if the signal or the interval to forecast is not stated.

    For callers whose data state what they are; arrays do not, and `check` ignores what is not stated.
    """
    if use.signal is None:
        raise SignalMismatchError(f"the adapter is for {binding}: the signal here is not stated")
    if binding.interval_us and not use.interval_us:
        raise SignalMismatchError(f"the adapter is for {binding}: the interval here is not stated")


def check_names(accepted: Collection[str]) -> None:
    """Raise `InputError` for a difference that does not exist."""
    unknown = [what for what in accepted if what not in DIFFERENCES]
    if unknown:
        meant = did_you_mean(unknown[0], DIFFERENCES)
        raise InputError(f"no difference is named {unknown[0]!r}", hint=f"{meant}any of {', '.join(DIFFERENCES)}")
