"""The channel table: names, unit, code and plausible range of each vital sign."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Linear conversions into a channel's unit: value * scale + offset.
CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = MappingProxyType(
    {
        ("degF", "degC"): (5.0 / 9.0, -160.0 / 9.0),
        ("K", "degC"): (1.0, -273.15),
        ("kPa", "mmHg"): (7.500617, 0.0),
        ("fraction", "%"): (100.0, 0.0),
    }
)

# Spellings found in MIMIC, eICU, WFDB headers and UCUM. MIMIC's degree sign is often lost to "?" in exports.
_UNIT_SPELLINGS = {
    "1/min": "1/min /min bpm bpm. beats/min {beats}/min insp/min breaths/min {breaths}/min pm rpm min-1",
    "mmHg": "mmhg mm[hg]",
    "%": "% percent",
    "degC": "degc °c ?c deg.c c cel celsius",
    "degF": "degf °f ?f deg.f f [degf] fahrenheit",
    "K": "k kelvin",
    "kPa": "kpa",
    "fraction": "fraction 1",
}
UNITS: Mapping[str, str] = MappingProxyType(
    {spelling: unit for unit, words in _UNIT_SPELLINGS.items() for spelling in words.split()}
)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One vital sign.

    ``low`` and ``high`` (in ``unit``, both included) bound what can be a reading at all. They are wide on
    purpose: the valid ranges of MIMIC-Extract (Wang et al., CHIL 2020), with a lower bound where theirs is
    zero and an upper one for RESP at what a monitor can count. An artefact that looks like a reading stays:
    the monitor will see it too.
    """

    name: str
    unit: str
    low: float
    high: float
    loinc: str
    aliases: tuple[str, ...]  # preferred first: an arterial line before a cuff
    item_ids: tuple[int, ...] = ()  # MIMIC-III CareVue and MetaVision, MIMIC-IV `itemid`
    fahrenheit_item_ids: tuple[int, ...] = ()


_TABLE = (
    Channel(
        name="HR", unit="1/min", low=10, high=350, loinc="8867-4",
        aliases=("heart_rate", "heartrate", "heart rate", "ecg_hr"),
        item_ids=(211, 220045),
    ),
    Channel(
        name="PULSE", unit="1/min", low=10, high=350, loinc="8889-8",
        aliases=("pulse_rate", "pulserate", "pulse rate", "pr"),
    ),
    Channel(
        name="MAP", unit="mmHg", low=14, high=330, loinc="8478-0",
        aliases=("abpmean", "artmean", "systemicmean", "mbp", "map_art", "mean_bp", "mean blood pressure",
                 "nbpmean", "nibpmean", "noninvasivemean"),
        item_ids=(52, 456, 443, 6702, 220052, 220181, 225312),
    ),
    Channel(
        name="SBP", unit="mmHg", low=20, high=375, loinc="8480-6",
        aliases=("abpsys", "artsys", "systemicsystolic", "sysbp", "systolic_bp", "systolic blood pressure",
                 "nbpsys", "nibpsys", "noninvasivesystolic"),
        item_ids=(51, 442, 455, 6701, 220050, 220179),
    ),
    Channel(
        name="DBP", unit="mmHg", low=10, high=375, loinc="8462-4",
        aliases=("abpdias", "artdias", "systemicdiastolic", "diasbp", "diastolic_bp",
                 "diastolic blood pressure", "nbpdias", "nibpdias", "noninvasivediastolic"),
        item_ids=(8368, 8440, 8441, 8555, 220051, 220180),
    ),
    Channel(
        name="SpO2", unit="%", low=10, high=100, loinc="59408-5",
        aliases=("o2sat", "sao2", "spo2%", "oxygen_saturation", "oxygen saturation", "pulse_ox"),
        item_ids=(646, 220277),
    ),
    Channel(
        name="RESP", unit="1/min", low=1, high=150, loinc="9279-1",
        aliases=("rr", "resprate", "resp_rate", "respiration", "respiratory_rate",
                 "respiratory rate"),
        item_ids=(615, 618, 220210, 224690),
    ),
    Channel(
        name="TEMP", unit="degC", low=26, high=45, loinc="8310-5",
        aliases=("temperature", "tempc", "temp_c", "body_temperature", "body temperature", "tempf", "temp_f"),
        item_ids=(676, 223762),
        fahrenheit_item_ids=(678, 223761),
    ),
    Channel(
        name="EtCO2", unit="mmHg", low=1, high=150, loinc="19889-5",
        aliases=("co2et", "end_tidal_co2"),
    ),
)  # fmt: skip

CHANNELS: Mapping[str, Channel] = MappingProxyType({channel.name: channel for channel in _TABLE})
_BY_WORD = {word: channel for channel in reversed(_TABLE) for word in (*channel.aliases, channel.name.casefold())}
# Names that carry their unit; any other is in the channel's own unit unless it is said.
_BRACKETS = re.compile(r"\s*[(\[]([^()\[\]]+)[)\]]\s*$")
_FAHRENHEIT_NAMES = ("tempf", "temp_f")


def bare_name(name: str) -> str:
    """Return a column's name without its unit and capitals: ``MAP (mmHg)`` is ``map``."""
    return _BRACKETS.sub("", name).strip().casefold()


def find_channel(name: str) -> Channel | None:
    """Return the vital sign called ``name`` in any known spelling, or None for another domain's channel."""
    return _BY_WORD.get(bare_name(name))


def unit_of_name(name: str) -> str | None:
    """Return the unit that a column's name states (``TempF``, ``Temp [°F]``), or None (``HR (raw)``)."""
    if bare_name(name) in _FAHRENHEIT_NAMES:
        return "degF"
    bracket = _BRACKETS.search(name)
    return find_unit(bracket[1]) if bracket else None


def find_unit(spelling: str) -> str | None:
    """Return the table's name for a unit in any known spelling, or None."""
    return UNITS.get(spelling.strip().casefold().replace("deg. ", "deg.").replace(" ", ""))
