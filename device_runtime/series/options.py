"""The options for reading a file, the same for every command that reads one."""

from __future__ import annotations

from dataclasses import dataclass

from device_runtime.errors import InputError
from device_runtime.series.date_formats import DateFormat, meant
from device_runtime.series.duration import parse_duration
from device_runtime.series.signals import Signal
from device_runtime.series.units import find_unit

DUPLICATES = ("mean", "last", "median", "error")
MIN_OBSERVED = 12  # observed values a context needs: fewer say nothing of a patient's level or variation


class OptionError(InputError):
    """An option is unknown, contradictory or out of range."""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What a person may say of a table, left out where the file says it itself: keys of a TOML, options of commands.

    ``where`` are conditions ``COLUMN=VALUE``; ``duplicates`` says what becomes of rows of one time that disagree
    (None: their median, refused above a small share); ``unit`` is of the target's values, where it is not the signal's;
    ``date_format`` is how dates are written (``MM/DD/YYYY``), where that does not show.
    """

    id_column: str | None = None
    timestamp_column: str | None = None
    variable_column: str | None = None
    value_column: str | None = None
    unit_column: str | None = None
    interval: str | None = None
    max_gap: str | None = None
    unit: str | None = None
    duplicates: str | None = None
    where: tuple[str, ...] = ()
    decimal: str | None = None
    date_format: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReadOptions(TableOptions):
    """How to read one signal of a table.

    ``plausible`` replaces the range of the signal table; ``signal`` is one that the table has not, as an adapter brings
    it: its name, range and unit are then known; ``rows_are_steps`` reads a table without times as steps in order, each
    ``interval`` long.
    """

    plausible: tuple[float, float] | None = None
    rows_are_steps: bool = False
    signal: Signal | None = None

    def __post_init__(self) -> None:
        """Raise `OptionError` for an invalid option."""
        self.interval_us()
        if self.max_gap is not None:
            _span(self.max_gap, "max_gap")
        if self.duplicates is not None and self.duplicates not in DUPLICATES:
            raise OptionError(f"--duplicates {self.duplicates}: want one of {', '.join(DUPLICATES)}")
        if self.decimal is not None and self.decimal not in (".", ","):
            raise OptionError(f"--decimal {self.decimal}: want . or ,")
        self.dates()
        own = None if self.signal is None else self.signal.ucum
        if self.unit is not None and self.unit != own and find_unit(self.unit) is None:
            raise OptionError(f"--unit {self.unit} is not a unit known here", hint="such as mmHg, kPa, degC or degF")
        if self.plausible is not None and not self.plausible[0] < self.plausible[1]:
            raise OptionError(f"plausible range {self.plausible[0]:g} to {self.plausible[1]:g} holds nothing")

    def interval_us(self) -> int | None:
        """Return the interval in microseconds, or None if it was not given."""
        return None if self.interval is None else _span(self.interval, "interval")

    def max_gap_us(self) -> int | None:
        """Return the longest gap inside one series in microseconds, or None if it was not given."""
        return None if self.max_gap is None else _span(self.max_gap, "max_gap")

    def dates(self) -> DateFormat | None:
        """Return the format of dates, or None if it was not given. Raises `OptionError` for an invalid format."""
        if self.date_format is None:
            return None
        try:
            return DateFormat(self.date_format)
        except ValueError as error:
            near = meant(self.date_format)
            hint = f"--date-format {near}: a time of day behind it is read as it is" if near else None
            raise OptionError(f"--date-format {self.date_format}: {error}", hint=hint) from error

    def named(self) -> dict[str, str | None]:
        """Return the columns that were named: option → column."""
        return {
            "--id-column": self.id_column,
            "--timestamp-column": self.timestamp_column,
            "--variable-column": self.variable_column,
            "--value-column": self.value_column,
            "--unit-column": self.unit_column,
        }


def _span(text: str, what: str) -> int:
    try:
        return parse_duration(text, what=what)
    except InputError as error:
        raise OptionError(str(error.args[0]), hint=error.hint) from error
