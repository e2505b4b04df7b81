"""Units in the spellings of the files, and how they convert."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Linear conversions into a signal's unit: value * scale + offset.
CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = MappingProxyType(
    {
        ("degF", "degC"): (5.0 / 9.0, -160.0 / 9.0),
        ("K", "degC"): (1.0, -273.15),
        ("kPa", "mmHg"): (7.500617, 0.0),
        ("fraction", "%"): (100.0, 0.0),
    }
)

# Spellings found in MIMIC, eICU, WFDB headers and UCUM. MIMIC's degree sign is often lost to "?" in exports.
_SPELLINGS = {
    "1/min": "1/min /min bpm bpm. beats/min {beats}/min insp/min breaths/min {breaths}/min pm rpm min-1",
    "mmHg": "mmhg mm[hg]",
    "%": "% percent pct",
    "degC": "degc °c ?c deg.c c cel celsius",
    "degF": "degf °f ?f deg.f f [degf] fahrenheit",
    "K": "k kelvin",
    "kPa": "kpa",
    "fraction": "fraction 1",
}
UNITS: Mapping[str, str] = MappingProxyType(
    {spelling: unit for unit, words in _SPELLINGS.items() for spelling in words.split()}
)


def find_unit(spelling: str) -> str | None:
    """Return the table's name for a unit in any known spelling, or None."""
    return UNITS.get(spelling.strip().casefold().replace("deg. ", "deg.").replace(" ", ""))


def convertible(unit: str) -> tuple[str, ...]:
    """Return the units that can be turned into ``unit``, itself first."""
    return (unit, *(a for a, b in CONVERSIONS if b == unit))
