"""The table of signals: names, unit, codes and plausible range of each vital sign."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from device_runtime.series.units import OTHER_UNITS, convertible, find_unit


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One vital sign.

    ``low`` and ``high`` (in ``unit``, both included) bound what can be a reading at all. They are wide on purpose:
    the valid ranges of MIMIC-Extract (Wang et al., CHIL 2020), with a lower bound where theirs is zero and an upper
    one for RESP at what a monitor can count. An artefact that looks like a reading stays: the monitor will see it too.
    """

    name: str
    unit: str
    ucum: str  # the unit's code in UCUM
    low: float
    high: float
    loinc: str
    aliases: tuple[str, ...]  # small letters and digits; preferred first: an arterial line before a cuff
    item_ids: tuple[int, ...] = ()  # MIMIC-III CareVue and MetaVision, MIMIC-IV `itemid`
    fahrenheit_item_ids: tuple[int, ...] = ()


# Item ids: the union of MIMIC-Extract's resources/itemid_to_variable_map.csv (rows of these variables that are
# "ready") and mimic-code's concepts (mimic-iii pivoted_vital.sql, mimic-iv vitalsign.sql); from the former's list of
# labels also the MetaVision items that are not mapped and mean the same thing: 227242 (manual, right), 226329
# (blood, CCO), 227632 and 227634 (Arctic Sun / Alsius, patient), 228640 and 1817 (EtCO2). Left out: rates that are
# set on a ventilator or spontaneous only, skin temperature, blood gases (834, 220227), alarm limits.
# Names: the columns of MIMIC, eICU (vitalPeriodic, vitalAperiodic, nurseCharting and its pivoted concept), PhysioNet
# 2019, WFDB numerics, VitalDB, HiRID; d_items labels.
_TABLE = (
    Signal(
        name="HR", unit="1/min", ucum="/min", low=10, high=350, loinc="8867-4",
        aliases=("heartrate", "ecghr", "hrecg", "herzfrequenz", "hartfrequentie", "frequencecardiaque"),
        item_ids=(211, 220045),
    ),
    Signal(
        name="PULSE", unit="1/min", ucum="/min", low=10, high=350, loinc="8889-8",
        aliases=("pulserate", "pr", "plethhr", "spo2pr"),
    ),
    Signal(
        name="MAP", unit="mmHg", ucum="mm[Hg]", low=14, high=330, loinc="8478-0",
        aliases=("abpmean", "abpm", "meanabp", "artmean", "artmbp", "systemicmean", "ibpmean", "invasivebpmean",
                 "arterialbpmean", "arterialbloodpressuremean", "artbpmean", "arteriallinemap", "maparterial",
                 "mapart", "artm", "invasivemeanbp", "abpgemiddeld", "mbp", "meanbp", "bpmean", "meanbloodpressure",
                 "bloodpressuremean", "meanarterialpressure",
                 "nbpmean", "nbpm", "nibpmean", "nibpmbp", "noninvasivemean", "noninvasivebpmean", "mbpni",
                 "noninvasivebloodpressuremean", "cuffmean", "nibpm", "nimap", "nietinvasievebloeddrukgemiddeld"),
        item_ids=(52, 224, 443, 456, 3312, 3314, 3316, 3320, 3322, 6702, 220052, 220181, 224322, 225312),
    ),
    Signal(
        name="SBP", unit="mmHg", ucum="mm[Hg]", low=20, high=375, loinc="8480-6",
        aliases=("abpsys", "abps", "artsys", "artsbp", "systemicsystolic", "ibpsystolic", "invasivebpsystolic",
                 "arterialbpsystolic", "arterialbloodpressuresystolic", "artbpsystolic", "arts", "abpsystolisch",
                 "sysabp", "sysbp", "systolicbp", "bpsystolic", "systolicbloodpressure", "systolic",
                 "nbpsys", "nbps", "nibpsys", "nibpsystolic", "nibpsbp", "noninvasivesystolic",
                 "noninvasivebpsystolic", "sbpni", "noninvasivebloodpressuresystolic", "nisysabp",
                 "nietinvasievebloeddruksystolisch"),
        item_ids=(51, 442, 455, 3313, 3315, 3317, 3321, 3323, 6701, 220050, 220179, 224167, 225309, 227243),
    ),
    Signal(
        name="DBP", unit="mmHg", ucum="mm[Hg]", low=10, high=375, loinc="8462-4",
        aliases=("abpdias", "abpd", "artdias", "artdbp", "systemicdiastolic", "ibpdiastolic", "invasivebpdiastolic",
                 "arterialbpdiastolic", "arterialbloodpressurediastolic", "artbpdiastolic", "artd", "abpdiastolisch",
                 "diasabp", "diasbp", "diastolicbp", "bpdiastolic", "diastolicbloodpressure", "diastolic",
                 "nbpdias", "nbpd", "nibpdias", "nibpdiastolic", "nibpdbp", "noninvasivediastolic",
                 "noninvasivebpdiastolic", "dbpni", "noninvasivebloodpressurediastolic", "nidiasabp",
                 "nietinvasievebloeddrukdiastolisch"),
        item_ids=(8368, 8440, 8441, 8502, 8503, 8504, 8506, 8507, 8555, 220051, 220180, 224643, 225310, 227242),
    ),
    Signal(
        name="SpO2", unit="%", ucum="%", low=10, high=100, loinc="59408-5",
        aliases=("o2sat", "sao2", "plethspo2", "oxygensaturation", "o2saturation", "o2saturationpulseoxymetry",
                 "pulseox", "pulseoximetry", "peripheraloxygensaturation", "saturatiemonitor"),
        item_ids=(646, 220277),
    ),
    Signal(
        name="RESP", unit="1/min", ucum="/min", low=1, high=150, loinc="9279-1",
        aliases=("rr", "resprate", "respiration", "respirationrate", "respiratoryrate", "respiratoryratetotal",
                 "breathingrate", "rrco2", "atemfrequenz", "ademfrequentiemonitor"),
        item_ids=(615, 618, 3603, 220210, 224690),
    ),
    Signal(
        name="TEMP", unit="degC", ucum="Cel", low=26, high=45, loinc="8310-5",
        aliases=("temperature", "tempc", "temperaturec", "temperaturecelsius", "bodytemperature", "bodytemp",
                 "coretemperature", "bloodtemperature", "bt", "tempf", "temperaturef", "temperaturefahrenheit"),
        item_ids=(676, 677, 223762, 226329, 227632, 227634),
        fahrenheit_item_ids=(678, 679, 3654, 223761),
    ),
    Signal(
        name="EtCO2", unit="mmHg", ucum="mm[Hg]", low=1, high=150, loinc="19889-5",
        aliases=("co2et", "endtidalco2"),
        item_ids=(1817, 228640),
    ),
)  # fmt: skip

SIGNALS: Mapping[str, Signal] = MappingProxyType({signal.name: signal for signal in _TABLE})
_BY_WORD = {word: signal for signal in _TABLE for word in (signal.name.casefold(), *signal.aliases)}
_BY_CODE = {signal.loinc: signal for signal in _TABLE} | {
    str(number): signal for signal in _TABLE for number in (*signal.item_ids, *signal.fahrenheit_item_ids)
}
_FAHRENHEIT_IDS = frozenset(str(number) for signal in _TABLE for number in signal.fahrenheit_item_ids)
_FAHRENHEIT_WORDS = ("tempf", "temperaturef", "temperaturefahrenheit")
_BRACKETS = re.compile(r"\s*[(\[]([^()\[\]]+)[)\]]\s*$")
_BRACKETED_UNIT = re.compile(r"\s*[(\[](\S*\[\S+\]\S*|[^()\[\]]+)[)\]]\s*$")  # also MAP [mm[Hg]]
_SEPARATORS = re.compile(r"[\s_.\-]+")


def find_signal(name: str) -> Signal | None:
    """Return the vital sign called ``name`` in any known spelling, or None for another domain's signal.

    Capitals, blanks, underscores, points and hyphens do not matter, nor does a unit behind the name (``MAP (mmHg)``,
    ``hr_bpm``) or a device before it (``Solar8000/HR``). A LOINC code is a name too; see `find_event` for item ids.
    """
    return _taken_apart(name)[0]


def find_event(name: str) -> Signal | None:
    """Return the vital sign of an event's name as `find_signal` does, or of its MIMIC item id (``220045``)."""
    return _BY_CODE.get(name.strip().removesuffix(".0")) or find_signal(name)


def unit_of_name(name: str) -> str | None:
    """Return the unit that a name or item id states (``TempF``, ``Temp [°F]``, ``223761``), or None (``HR (raw)``)."""
    if name.strip().removesuffix(".0") in _FAHRENHEIT_IDS:
        return "degF"
    return _taken_apart(name)[1]


def strange_unit(name: str) -> str | None:
    """Return what a name states in brackets in a unit's place and is none that is known (``HR [ms]``, ``MAP (Pa)``)."""
    bracket = _BRACKETED_UNIT.search(name)
    if bracket is None or find_unit(bracket[1]) is not None:
        return None
    return bracket[1] if "[" in name or bracket[1].strip().casefold() in OTHER_UNITS else None


def rank_of_name(name: str) -> int:
    """Return how much a name is preferred among those of its signal: 0 is the signal's own, then arterial, then cuff.

    Raises `ValueError` for a name that is no signal's.
    """
    signal, _, word = _taken_apart(name)
    if signal is None:
        raise ValueError(f"{name!r} is no signal's name")
    return (signal.name.casefold(), *signal.aliases, signal.loinc).index(word)


def _taken_apart(name: str) -> tuple[Signal | None, str | None, str]:
    """Return a name's signal, the unit it states and the word in the table."""
    bracket = _BRACKETED_UNIT.search(name)
    stated = find_unit(bracket[1]) if bracket else None
    bare = _BRACKETS.sub("", name[: bracket.start()]) if bracket else name
    if (code := bare.strip()) in _BY_CODE and "-" in code:
        return _BY_CODE[code], stated, code
    for text in dict.fromkeys((f"{bare} {bracket[1]}" if bracket else bare, bare, bare.rpartition("/")[2])):
        head, unit = text, None
        if _word(text) not in _BY_WORD:  # hr_bpm, "MAP mmHg", spo2%
            head, unit = _without_unit(text)
        signal = _BY_WORD.get(_word(head))
        if signal is not None and (unit is None or unit in convertible(signal.unit)):
            if unit is None and _word(head) in _FAHRENHEIT_WORDS:
                unit = "degF"
            return signal, stated or unit, _word(head)
    return None, stated, _word(bare)


def _word(text: str) -> str:
    return _SEPARATORS.sub("", text).casefold()


def _without_unit(text: str) -> tuple[str, str | None]:
    """Return a name without the unit at its end, and that unit; a bare number is no unit."""
    text = text.strip()
    if text.endswith("%"):
        return text[:-1], "%"
    parts = list(_SEPARATORS.finditer(text))
    if not parts or text[parts[-1].end() :].isdigit():
        return text, None
    unit = find_unit(text[parts[-1].end() :])
    return (text, None) if unit is None else (text[: parts[-1].start()], unit)
