"""Date formats that a user gives, such as ``MM/DD/YYYY``, and which of them fit a column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from device_runtime.series.stamps import CLOCK, ZONE, parse_stamp

EXAMPLES = "DD.MM.YYYY, MM/DD/YYYY or DD-MM-YY"
_FORMAT = re.compile(r"(DD|MM|YYYY|YY)([-./ ]?)(DD|MM|YYYY|YY)\2(DD|MM|YYYY|YY)")
_PARTS = {"DD": "d", "MM": "m", "YYYY": "y", "YY": "yy"}
_OF_STRPTIME = {"%d": "DD", "%m": "MM", "%Y": "YYYY", "%y": "YY"}
_ORDERS = ("DD MM YYYY", "MM DD YYYY", "DD MM YY", "MM DD YY", "YY MM DD", "YYYY DD MM")


@dataclass(frozen=True)
class DateFormat:
    """The order of day, month and year, and their separator; raises `ValueError` for any other text.

    A time of day and a zone may follow, as after an ISO date. Years of two digits are 1969 to 2068, as in POSIX.
    """

    text: str

    def __post_init__(self) -> None:
        """Raise `ValueError` unless day, month and year are each named once."""
        found = _FORMAT.fullmatch(self.text)
        if found is None or {_PARTS[found[at]][0] for at in (1, 3, 4)} != {"d", "m", "y"}:
            raise ValueError(f"want DD, MM and YYYY in their order, such as {EXAMPLES}")

    @cached_property
    def form(self) -> re.Pattern[str]:
        """The pattern of a time that begins with such a date."""
        found = _FORMAT.fullmatch(self.text)
        assert found is not None
        between = found[2]
        digits = {"DD": "{1,2}", "MM": "{1,2}", "YYYY": "{4}", "YY": "{2}"} if between else {"YYYY": "{4}"}
        date = re.escape(between).join(
            rf"(?P<{_PARTS[found[at]]}>\d{digits.get(found[at], '{2}')})" for at in (1, 3, 4)
        )
        return re.compile(rf"{date}(?:(?:[Tt]|,?\s+){CLOCK}{ZONE})?", re.ASCII)

    def fits(self, texts: Sequence[str]) -> bool:
        """Return whether all of ``texts`` are such times."""
        return all(parse_stamp(text, self.form) is not None for text in texts)


def meant(text: str) -> str | None:
    """Return the format that an invalid text such as ``dd.mm.yyyy`` or ``%d.%m.%Y %H:%M`` was meant to be, or None."""
    said = text
    for code, part in _OF_STRPTIME.items():
        said = said.replace(code, part)
    date = re.split(r"[ T]+(?=[%hH])", said.strip())[0].upper()
    return date if _is_format(date) else None


def fitting(texts: Sequence[str]) -> list[str]:
    """Return the formats that fit all of ``texts``, the most common first."""
    mark = next((one for one in texts[0] if one in "/.-"), None) if texts else None
    if mark is None:
        return []
    formats = [DateFormat(order.replace(" ", mark)) for order in _ORDERS]
    return [one.text for one in formats if one.fits(texts)]


def _is_format(text: str) -> bool:
    try:
        DateFormat(text)
    except ValueError:
        return False
    return True
