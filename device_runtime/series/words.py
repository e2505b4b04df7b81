"""Names of columns of times, variables, values and units, compared without case and separators."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from device_runtime.series.duration import UNITS_US

_TIMESTAMP_WORDS = (
    "timestamp ds datetime date charttime time minute minutes hour hours second seconds step observationoffset "
    "nursingchartoffset iculos charttimestamp chartdatetime recordtime recordedat measuredat measurementtime "
    "measurementdatetime observationtime observationdatetime effectivedatetime eventtime eventtimestamp "
    "timestampms timestamps timems times epoch unixtime day datum zeit zeitpunkt zeitstempel uhrzeit tijd fecha "
    "heure elapsed elapsedtime timesec timeseconds timemin timeminutes timehours offset tms ts tsec elapseds "
    "elapsedms elapsedmin elapsedh relativetime reltime studyday icuday daynumber dayofyear doy julianday "
    "secondsofday secondofday minuteofday minutesofday t"
)
TIMESTAMPS = tuple(_TIMESTAMP_WORDS.split())
DATES = ("date", "day", "datum", "fecha", "chartdate")
CLOCKS = ("time", "clock", "timeofday", "hour", "uhrzeit", "heure", "hora", "tijd")
ZONES = ("tz", "timezone", "utcoffset", "tzoffset")
CALENDAR = ("year", "month", "day", "hour", "minute", "second")
_VARIABLE_WORDS = (
    "channel vital vitalname vitalsign variable variablename parameter param itemid label signal signalname "
    "measure measurement metric concept conceptname code loinc loinccode item test testname observation "
    "nursingchartcelltypevalname"
)
VARIABLES = tuple(_VARIABLE_WORDS.split())
# What such a column may be called as well, where its cells say it.
MAYBE_VARIABLES = ("type", "name", "kind", "description", "desc", "attribute", "field", "tag", "category",
                   "bezeichnung", "messgröße", "messwert", "vitaltype", "datatype", "parametername")  # fmt: skip
VALUES = ("target", "y", "value", "valuenum", "val", "result", "reading", "valueasnumber", "numericvalue",
          "valuequantity", "nursingchartvalue", "measurementvalue", "measurevalue", "resultvalue", "measuredvalue",
          "obsvalue", "observationvalue", "valuenumber", "wert", "messwert", "valor", "valeur", "waarde")  # fmt: skip
CERTAIN_UNITS = ("valueuom", "uom", "unitofmeasure", "valueunit", "unitcode", "unitname", "einheit")
UNITS = ("unit", "units", "valueuom", "uom", "unitofmeasure", "unitname", "unitcode", "valueunit", "einheit")
STEP_WORDS: Mapping[str, str] = MappingProxyType(
    {word: unit for unit, words in {
        "d": "d day days", "h": "h hr hrs hour hours iculos", "min": "min mins minute minutes observationoffset "
        "nursingchartoffset", "s": "s sec secs second seconds", "ms": "ms msec millisecond milliseconds",
        "us": "us usec µs microsecond microseconds",
    }.items() for word in words.split()}
)  # fmt: skip
_BRACKETED = re.compile(r"\s*[(\[].*[)\]]\s*$")
TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-zß-öø-ÿµ]+|\d+|[^\W\d_]+")


def fold(name: str) -> str:
    """Return a name without capitals, blanks, underscores, hyphens, points and brackets."""
    return re.sub(r"[\W_]+", "", name.casefold())


def first_of(words: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column that the earliest of ``words`` names, or None; what it has in brackets does not count."""
    folded = {fold(_BRACKETED.sub("", name)): name for name in reversed(names)}
    folded |= {fold(name): name for name in reversed(names)}
    return next((folded[word] for word in words if word in folded), None)


def step_of(name: str) -> int | None:
    """Return how long 1 is in a column of plain numbers whose name says so (``minutes``, ``Time [s]``), in µs."""
    tokens = [token.casefold() for token in TOKENS.findall(name)]
    unit = STEP_WORDS.get(fold(name))
    if (
        unit is None
        and len(tokens) > 1
        and tokens[0] in ("time", "t", "offset", "elapsed", "timestamp", "rel", "relative")
    ):
        unit = STEP_WORDS.get(tokens[-1])
    return None if unit is None else UNITS_US[unit]
