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
        ("hPa", "mmHg"): (0.7500617, 0.0),
        ("cmH2O", "mmHg"): (0.7355592, 0.0),
        ("Hz", "1/min"): (60.0, 0.0),
        ("fraction", "%"): (100.0, 0.0),
    }
)

# Spellings found in MIMIC, eICU, WFDB headers and UCUM. MIMIC's degree sign is often lost to "?" in exports.
_SPELLINGS = {
    "1/min": "1/min /min bpm bpm. beatsperminute beats/minute beats/min {beats}/min breathsperminute breaths/minute "
    "breaths/min {breaths}/min insp/min pm rpm min-1 min^-1 min⁻¹ schläge/min",
    "mmHg": "mmhg mm[hg] mm/hg torr millimetersofmercury millimetresofmercury millimetermercurycolumn",
    "%": "% percent pct",
    "degC": "degc °c ºc â°c ?c deg.c c cel celsius degreecelsius degreescelsius",
    "degF": "degf °f ºf â°f ?f deg.f f [degf] fahrenheit degreefahrenheit degreesfahrenheit",
    "K": "k kelvin",
    "kPa": "kpa",
    "hPa": "hpa mbar",
    "cmH2O": "cmh2o cm[h2o] cmh₂o",
    "Hz": "hz 1/s /s s-1",
    "fraction": "fraction 1",
}
UNITS: Mapping[str, str] = MappingProxyType(
    {spelling: unit for unit, words in _SPELLINGS.items() for spelling in words.split()}
)


# Units of other quantities: in a vital sign's name they say that its values are something else.
OTHER_UNITS = frozenset(
    (
        "v",
        "mv",
        "µv",
        "uv",
        "pa",
        "psi",
        "atm",
        "ms",
        "s",
        "sec",
        "l/min",
        "ml/min",
        "l",
        "ml",
        "mmol/l",
        "mg/dl",
        "g/dl",
    )
)


def find_unit(spelling: str) -> str | None:
    """Return the table's name for a unit in any known spelling, or None."""
    return UNITS.get(spelling.strip().casefold().replace("deg. ", "deg.").replace(" ", ""))


def convertible(unit: str) -> tuple[str, ...]:
    """Return the units that can be turned into ``unit``, itself first."""
    return (unit, *(a for a, b in CONVERSIONS if b == unit))
