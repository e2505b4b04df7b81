"""The words that columns go by, whatever their capitals and separators: ids, times, variables, values, units, flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from device_runtime.series.duration import UNITS_US

# Whose measurements a row holds; the first tier present is the id, the patient before the stay before the record.
Tier = Literal["item", "patient", "generic", "stay", "record", "place"]
_TIERS: Mapping[Tier, str] = MappingProxyType(
    {
        "item": "item unique series ts timeseries",
        "patient": "patient pat pt subject subj person participant proband pid mrn patnr patientnr patientnummer pznr "
        "uniquepid nhsnumber nhs ehr empi mpi user member client animal",
        "generic": "id uid uuid guid",
        "stay": "stay icustay hadm encounter enc visit visitoccurrence admission adm csn fin case fall fallnr episode "
        "hospitalization hospitalisation patientunitstay patienthealthsystemstay icu account",
        "record": "record rec recording file filename session trial track wdb recname",
        "place": "bed device dev monitor sensor station room machine meter equipment channelgroup serial",
    }
)
_ID_WORDS = ("id", "ids", "no", "nr", "num", "number", "nummer", "code", "key", "hash", "name", "label", "identifier")
_TIER_OF: Mapping[str, Tier] = MappingProxyType(
    {word: tier for tier, words in _TIERS.items() for word in words.split()}
)
TIERS: tuple[Tier, ...] = tuple(_TIERS)
_NO_ID = ("itemid", "label", "channelname", "variablename")

TIMESTAMPS = [
    "timestamp",
    "ds",
    "datetime",
    "date",
    "charttime",
    "time",
    "minute",
    "minutes",
    "hour",
    "hours",
    "second",
    "seconds",
    "step",
    "observationoffset",
    "nursingchartoffset",
    "iculos",
    "charttimestamp",
    "chartdatetime",
    "recordtime",
    "recordedat",
    "measuredat",
    "measurementtime",
    "measurementdatetime",
    "observationtime",
    "observationdatetime",
    "effectivedatetime",
    "eventtime",
    "eventtimestamp",
    "timestampms",
    "timestamps",
    "timems",
    "times",
    "epoch",
    "unixtime",
    "day",
    "datum",
    "zeit",
    "zeitpunkt",
    "zeitstempel",
    "uhrzeit",
    "tijd",
    "fecha",
    "heure",
    "elapsed",
    "elapsedtime",
    "timesec",
    "timeseconds",
    "timemin",
    "timeminutes",
    "timehours",
    "ts",
    "offset",
    "t",
]
DATES = ("date", "day", "datum", "fecha", "chartdate")
CLOCKS = ("time", "clock", "timeofday", "hour", "uhrzeit", "heure", "hora", "tijd")
CALENDAR = ("year", "month", "day", "hour", "minute", "second")
VARIABLES = [
    "channel",
    "vital",
    "vitalname",
    "vitalsign",
    "variable",
    "variablename",
    "parameter",
    "param",
    "itemid",
    "label",
    "signal",
    "signalname",
    "measure",
    "measurement",
    "metric",
    "concept",
    "conceptname",
    "concept",
    "code",
    "loinc",
    "loinccode",
    "item",
    "test",
    "testname",
    "observation",
    "nursingchartcelltypevalname",
]
VALUES = ("target", "y", "value", "valuenum", "val", "result", "reading", "valueasnumber", "numericvalue",
          "valuequantity", "nursingchartvalue", "measurementvalue", "wert")  # fmt: skip
UNITS = ("unit", "units", "valueuom", "uom", "unitofmeasure", "unitname", "unitcode", "valueunit", "einheit")
_STEP_WORDS: Mapping[str, str] = MappingProxyType(
    {word: unit for unit, words in {
        "d": "d day days", "h": "h hr hrs hour hours iculos", "min": "min mins minute minutes observationoffset "
        "nursingchartoffset", "s": "s sec secs second seconds", "ms": "ms msec millisecond milliseconds",
        "us": "us usec µs microsecond microseconds",
    }.items() for word in words.split()}
)  # fmt: skip
_BRACKETED = re.compile(r"\s*[(\[].*[)\]]\s*$")
_TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-zß-öø-ÿµ]+|\d+|[^\W\d_]+")


def fold(name: str) -> str:
    """Return a name without capitals, blanks, underscores, hyphens, points and brackets."""
    return re.sub(r"[\W_]+", "", name.casefold())


def first_of(words: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column that the earliest of ``words`` names, or None; what it has in brackets does not count."""
    folded = {fold(_BRACKETED.sub("", name)): name for name in reversed(names)}
    folded |= {fold(name): name for name in reversed(names)}
    return next((folded[word] for word in words if word in folded), None)


def id_tier(name: str) -> Tier | None:
    """Return what kind of id a column's name says it is (``Patient_ID``, ``MRN``, ``deviceSerialNo``), or None."""
    whole = fold(name)
    tokens = [token.casefold() for token in _TOKENS.findall(name)]
    if whole in _NO_ID and len(tokens) == 1:  # MIMIC's ITEMID says what was measured; Chronos's item_id, whose it is
        return None
    rest = [token for token in tokens if token not in _ID_WORDS]
    joined = "".join(rest)
    for word in (whole, joined, *(whole.removesuffix(end) for end in ("id", "no", "nr", "number"))):
        if word in _TIER_OF:
            return _TIER_OF[word]
    for word, tier in _TIER_OF.items():  # DEVICESERIAL, whose words nothing parts
        if whole.endswith(word) and whole.removesuffix(word) in _TIER_OF:
            return tier
    if not rest and tokens:
        return "generic" if tokens[0] in ("id", "identifier") else None
    # Of several words the last says what it is: study subject id, hospital patient number.
    all_known = all(token in _TIER_OF for token in rest)
    if len(rest) > 1 and (all_known or len(rest) < len(tokens)) and rest[-1] in _TIER_OF:
        return _TIER_OF[rest[-1]]
    return None


def step_of(name: str) -> int | None:
    """Return how long 1 is in a column of plain numbers whose name says so (``minutes``, ``Time [s]``), in µs."""
    tokens = [token.casefold() for token in _TOKENS.findall(name)]
    unit = _STEP_WORDS.get(fold(name))
    if unit is None and len(tokens) > 1 and tokens[0] in ("time", "t", "offset", "elapsed", "timestamp", "rel"):
        unit = _STEP_WORDS.get(tokens[-1])
    return None if unit is None else UNITS_US[unit]
